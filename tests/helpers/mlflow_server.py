"""A real MLflow server for the tests: the repository's own script on Debian's PostgreSQL and an S3 server."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from ports import free_port

ROOT = Path(__file__).parents[2]
OWNER = "postgres"


@dataclass(frozen=True)
class Postgres:
    """A database cluster of its own, with one database.

    Attributes:
        password: of its only user.
        programs: folder of psql, pg_dump and the like.
    """

    host: str
    port: int
    user: str
    database: str
    password: str
    programs: Path

    def run(self, program, *arguments):
        """The output of one of PostgreSQL's programs on the database."""
        command = [str(self.programs / program), "-h", self.host, "-p", str(self.port), "-U", self.user]
        environment = {"PATH": os.environ["PATH"], "PGPASSWORD": self.password}
        done = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout

    def rows(self, query):
        """Rows of a query, each a list of texts."""
        output = self.run("psql", "-d", self.database, "-At", "-F", "\x1f", "-c", query)
        return [line.split("\x1f") for line in output.splitlines()]


@dataclass
class MlflowServer:
    """The server; `stop` and `start` are what an administrator does.

    Attributes:
        uri: its address.
        environment: with which clients reach it: their account.
        secrets: all passwords that must not be seen anywhere.
        log: what the server printed.
    """

    uri: str
    command: list[str]
    server_environment: dict[str, str]
    environment: dict[str, str]
    secrets: tuple[str, ...]
    log: Path
    process: subprocess.Popen | None = field(default=None)

    def start(self):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.server_environment, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 150
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.2)

    def stop(self):
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            self.process = None

    def _answers(self):
        """Whether it does what it is for: a first request takes longest."""
        account = (self.environment["MLFLOW_TRACKING_USERNAME"], self.environment["MLFLOW_TRACKING_PASSWORD"])
        search = f"{self.uri}/api/2.0/mlflow/experiments/search"
        try:
            return requests.post(search, json={"max_results": 1}, auth=account, timeout=60).ok
        except requests.ConnectionError:
            return False


@pytest.fixture(scope="session")
def postgres():
    """Debian's PostgreSQL in a folder of its own; the test is skipped where it is missing."""
    programs = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
    if programs is None or not (programs / "initdb").is_file():
        pytest.skip("needs PostgreSQL (Debian's package postgresql), which is not installed")
    # PostgreSQL refuses to run as root.
    as_owner = ["runuser", "-u", OWNER, "--"] if os.geteuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    password = f"pw-{secrets.token_hex(16)}"
    (folder / "password").write_text(password)
    if as_owner:
        owner = pwd.getpwnam(OWNER)
        for path in (folder, folder / "password"):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    made = Postgres("127.0.0.1", free_port(), "mlflow", "mlflow", password, programs)
    _run(
        *as_owner, str(programs / "initdb"), "-D", str(folder / "data"), "-U", made.user, "--no-sync",
        "--auth=scram-sha-256", f"--pwfile={folder / 'password'}",
    )  # fmt: skip
    control = [*as_owner, str(programs / "pg_ctl"), "-D", str(folder / "data"), "-w"]
    try:
        options = f"-p {made.port} -h {made.host} -k {folder} -F"
        _run(*control, "-l", str(folder / "log"), "-o", options, "start")
        made.run("createdb", made.database)
        yield made
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True, timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def _run(*command):
    # To a file: a server that stays would hold a pipe open.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(command, stdout=output, stderr=output, cwd="/", check=False, timeout=120)
        output.seek(0)
        assert done.returncode == 0, output.read().decode()


@pytest.fixture(scope="session")
def admin_password():
    """Of the database, which keeps the account that the first server makes there."""
    return f"admin-{secrets.token_hex(16)}"


@pytest.fixture
def mlflow_server(postgres, s3, admin_password, tmp_path):
    """`mlflow/serve` on PostgreSQL and S3, with accounts."""
    for module in ("psycopg2", "flask_wtf"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs the Python module {module} (pip install 'mlflow[auth]' psycopg2-binary)")
    port = free_port()
    for name, content in (("db_password", postgres.password), ("admin_password", admin_password)):
        (tmp_path / name).write_text(content)
    server = MlflowServer(
        uri=f"http://127.0.0.1:{port}",
        command=[str(ROOT / "mlflow" / "serve")],
        server_environment={
            **{n: v for n, v in os.environ.items() if not n.startswith("MLFLOW_")},
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "POSTGRES_HOST": postgres.host,
            "POSTGRES_PORT": str(postgres.port),
            "POSTGRES_DB": postgres.database,
            "POSTGRES_USER": postgres.user,
            "POSTGRES_PASSWORD_FILE": str(tmp_path / "db_password"),
            "ARTIFACTS": s3.place("mlflow"),
            "MLFLOW_S3_ENDPOINT_URL": s3.endpoint,
            "ADMIN_PASSWORD_FILE": str(tmp_path / "admin_password"),
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "WORKERS": "2",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
        environment={"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": admin_password},
        secrets=(postgres.password, admin_password, os.environ["AWS_SECRET_ACCESS_KEY"]),
        log=tmp_path / "server.log",
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()
