"""The files that start an MLflow server: passwords in files alone, one sentence for what is missing."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "mlflow"
COMPLETE = {
    "POSTGRES_HOST": "db",
    "POSTGRES_DB": "mlflow",
    "POSTGRES_USER": "mlflow",
    "POSTGRES_PASSWORD_FILE": "/nowhere",
    "ARTIFACTS": "s3://bucket/prefix",
}


def serve(**variables):
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        [str(FOLDER / "serve")], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("name", COMPLETE)
def test_a_missing_variable_is_named(name):
    refused = serve(**{key: value for key, value in COMPLETE.items() if key != name})
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {name} is not set; give ")


def test_a_password_file_that_cannot_be_read_is_named():
    refused = serve(**COMPLETE)
    assert refused.returncode == 2
    assert refused.stderr == "error: /nowhere cannot be read\n"


def test_secrets_are_made_once_and_only_their_owner_may_enter_their_folder(tmp_path):
    script = shutil.copy(FOLDER / "make-secrets", tmp_path)
    subprocess.run([script], check=True, capture_output=True)
    first = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    subprocess.run([script], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == first
    assert len(first["postgres_password"]) == 32
    identity = json.loads(first["s3_identities.json"])["identities"][0]["credentials"][0]
    assert identity == {"accessKey": first["s3_key"], "secretKey": first["s3_secret"]}
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    # A container's user reads what is mounted from there.
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "secrets").iterdir()} == {0o644}


def test_the_compose_file_holds_no_password_and_every_secret_is_made():
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    made = {"postgres_password", "s3_identities.json", "aws_credentials", "admin_password"}
    assert {Path(secret["file"]).name for secret in compose["secrets"].values()} == made
    for name, service in compose["services"].items():
        assert "healthcheck" in service, name
        for variable, value in service.get("environment", {}).items():
            assert "PASSWORD" not in variable or str(value).startswith("/run/secrets/")


def test_secrets_are_not_tracked():
    assert "mlflow/secrets/" in (FOLDER.parent / ".gitignore").read_text().splitlines()


@pytest.fixture
def serve_on_paper(tmp_path):
    """Runs the script with a `mlflow` that only prints what it was called with, and its configuration."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python").write_text(
        '#!/bin/sh\n[ "$1" = - ] || head -c 32 /dev/urandom | sha256sum | cut -c1-64\n'
    )
    (programs / "mlflow").write_text(
        '#!/bin/sh\necho "$@"\necho "key $MLFLOW_FLASK_SERVER_SECRET_KEY"\n'
        '[ -z "$MLFLOW_AUTH_CONFIG_PATH" ] || cat "$MLFLOW_AUTH_CONFIG_PATH"\n'
    )
    for program in programs.iterdir():
        program.chmod(0o755)
    password = tmp_path / "password"
    password.write_text("a password")

    def run(**variables):
        files = {"POSTGRES_PASSWORD_FILE": str(password)}
        done = serve(**{**COMPLETE, **files, **variables, "PATH": f"{programs}:{os.environ['PATH']}"})
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run, str(password)


def test_a_server_without_accounts_answers_this_machine_alone(serve_on_paper):
    run, password = serve_on_paper
    assert "--host 127.0.0.1 " in run()
    assert "--host 0.0.0.0 " in run(HOST="0.0.0.0")
    assert "--host 0.0.0.0 " in run(ADMIN_PASSWORD_FILE=password)


def test_an_account_may_read_what_others_made_and_no_more(serve_on_paper):
    run, password = serve_on_paper
    assert "default_permission = READ\n" in run(ADMIN_PASSWORD_FILE=password)
    assert "default_permission = EDIT\n" in run(ADMIN_PASSWORD_FILE=password, DEFAULT_PERMISSION="EDIT")


def test_the_key_of_cookies_is_random_and_no_function_of_the_password(serve_on_paper):
    run, password = serve_on_paper
    keys = {run(ADMIN_PASSWORD_FILE=password).partition("key ")[2][:64] for _ in range(2)}
    assert len(keys) == 2
    assert all(len(key) == 64 for key in keys)


def test_the_composed_server_is_published_on_this_machine_alone():
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    published = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert published == ["127.0.0.1:5000:5000"]
