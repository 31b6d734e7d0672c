"""The doctor looks from every node, and finds the one whose clock is wrong and that lacks MLflow."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.multinode

ROOT = Path(__file__).parents[2]

# On this node it is an hour later, and MLflow is missing.
LIAR = """
import importlib.metadata, time
_true, _version = time.time, importlib.metadata.version
time.time = lambda: _true() + 3600
def version(name):
    if name == "mlflow":
        raise importlib.metadata.PackageNotFoundError(name)
    return _version(name)
importlib.metadata.version = version
"""


@pytest.fixture
def doctor(cluster, tmp_path):
    """Runs the doctor; returns its status, and what it said of each thing by its name."""

    def run(*arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
        done = cluster.r2d2("doctor", *arguments, R2D2_HOME=str(tmp_path / "home"))
        lines = re.findall(r"^(ok|no) +(.+?): (.*)$", done.stdout, re.MULTILINE)
        assert lines, done.stdout + done.stderr
        return done.returncode, {name: (state, finding) for state, name, finding in lines}

    return run


@pytest.fixture
def liar(cluster, tmp_path):
    """A node that lies, as long as the test lasts; its folder."""
    (tmp_path / "sitecustomize.py").write_text(LIAR)
    folder = cluster.logs / "liar"
    environment = {**cluster.environment, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    command = [
        str(Path(sys.executable).with_name("ray")),
        *("start", f"--address={cluster.gcs}", "--num-cpus=0", f"--temp-dir={folder}"),
        *(f"--object-store-memory={100 * 2**20}", "--node-ip-address=127.0.0.1", "--disable-usage-stats"),
    ]
    started = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert started.returncode == 0, started.stdout + started.stderr
    yield folder
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            named = str(folder).encode() in entry.read_bytes()
        except OSError:
            continue
        if named and int(entry.parent.name) != os.getpid():
            os.kill(int(entry.parent.name), signal.SIGKILL)
    # Until then the doctor is right to say that it does not answer.
    cluster.wait_for_nodes(1 + len(cluster.nodes))


def of_nodes(found: dict[str, tuple[str, str]], subject: str) -> list[tuple[str, str]]:
    return [line for name, line in found.items() if re.fullmatch(rf"[\d.]+ \(\w+\) {subject}", name)]


def wrong(found: dict[str, tuple[str, str]]) -> dict[str, str]:
    return {name: finding for name, (state, finding) in found.items() if state == "no"}


def test_every_node_is_well(cluster, doctor):
    status, found = doctor("--address", cluster.gcs)
    assert (status, wrong(found)) == (0, {})
    for subject in ("clock", "versions", "code", "home", "mlflow", "processors", "disk"):
        lines = of_nodes(found, subject)
        # The head and two workers at least.
        assert len(lines) >= 3, (subject, found)
        assert {state for state, _ in lines} == {"ok"}


def test_a_node_that_differs_is_found_and_named(cluster, doctor, liar):
    status, found = doctor("--address", cluster.gcs)
    assert status == 1
    differing = wrong(found)
    clock, versions = sorted(differing)
    assert clock.endswith("clock")
    assert re.match(r"3[56]\d\d\.\d+ s ahead of the driver's .* let the nodes keep time", differing[clock])
    assert versions.endswith("versions")
    assert "mlflow is missing, the driver's is" in differing[versions]
    assert clock.rpartition(" ")[0] == versions.rpartition(" ")[0]


def test_through_the_dashboard_the_doctor_runs_on_the_cluster_with_the_code_of_here(
    cluster, doctor, tmp_path
):
    status, found = doctor("--address", cluster.address, "--home", str(tmp_path / "there"))
    assert (status, wrong(found)) == (0, {})
    assert {state for state, _ in of_nodes(found, "code")} == {"ok"}
    assert (tmp_path / "there").is_dir()
