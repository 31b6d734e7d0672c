"""The pages come up on the local store, and the server goes when it is told to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from run_log import log_epoch

import runner.tracking.experiments
from runner.cli.machine import ui
from runner.tracking.experiments import Tracker
from runner.tracking.ui import serve_ui, server_command


@pytest.fixture
def port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_a_taken_port_is_named():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with pytest.raises(ValueError, match=r"port \d+ of 127.0.0.1 is taken; choose another with --port"):
            serve_ui("sqlite:///nothing.db", port=listener.getsockname()[1])


def test_a_foreign_address_is_named(port):
    with pytest.raises(ValueError, match=r"cannot listen on 192\.0\.2\.1"):
        serve_ui("sqlite:///nothing.db", host="192.0.2.1", port=port)


def test_a_server_needs_no_other():
    with pytest.raises(ValueError, match="http://tracking:5000 is a server already; open it in a browser"):
        serve_ui("http://tracking:5000")


def test_where_a_server_keeps_the_runs_its_addresses_are_printed(monkeypatch):
    def list_them(*_):
        return SimpleNamespace(experiments=lambda: {"mine": "7"})

    monkeypatch.setattr(runner.tracking.experiments, "Tracker", SimpleNamespace(of=list_them))
    shown = CliRunner().invoke(ui, [], env={"MLFLOW_TRACKING_URI": "http://tracking:5000"})
    assert shown.exit_code == 0
    assert shown.output.startswith("mine: http://tracking:5000/#/experiments/7/runs?")
    assert shown.output.endswith("Runs are kept by http://tracking:5000: open that address in a browser.\n")


def test_the_command_names_store_and_files():
    command = server_command("sqlite:////x/mlflow.db", "/x/artifacts", "127.0.0.1", 5000)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    assert "sqlite:////x/mlflow.db" in command
    assert command.count("/x/artifacts") == 2


def get(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def wait_for(url, seconds=90):
    end = time.monotonic() + seconds
    while True:
        try:
            return get(url)
        except (urllib.error.URLError, ConnectionError):
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


def processes_of(port):
    """Command lines of all processes that mention the port."""
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in found.stdout.splitlines() if f"--port {port}" in line]


def test_the_server_shows_the_store_and_ends_when_told(
    tracker, store, tracking_uri, experiment, port, tmp_path
):
    run = tracker.open_run(experiment, "key", "shown", {"sweep": "smoke"}, {"seed": 3})
    log_epoch(run, 1, {"train/loss_total": 0.5})
    arguments = f"{tracking_uri!r}, {str(store / 'artifacts')!r}, port={port}"
    # The link is printed when it works.
    show = f"lambda: print(urllib.request.urlopen('http://127.0.0.1:{port}/').status, flush=True)"
    call = f"serve_ui({arguments}, ready={show})"
    code = f"import urllib.request; from runner.tracking.ui import serve_ui; raise SystemExit({call})"
    # In a folder of its own: the server must leave nothing where it was started.
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    conductor = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health")
        assert "<title>MLflow</title>" in get(f"http://localhost:{port}/")
        remote = Tracker(f"http://127.0.0.1:{port}")
        assert remote.get_run(run.run_id).metrics == {"train/loss_total": 0.5}
        again = remote.open_run(experiment, "key", "shown", {"sweep": "smoke"}, {"seed": 3})
        log_epoch(again, 1, {"train/loss_total": 0.4})
        log_epoch(again, 2, {"train/loss_total": float("inf"), "train/loss_similarity": float("nan")})
        again.finish("KILLED", "stopped early")
        assert tracker.get_run(run.run_id).status == "KILLED"
        assert remote.metric_history(run.run_id, "train/loss_total")[1] == 0.5
        assert tracker.get_run(run.run_id).tags["r2d2.non_finite"].startswith("train/loss_total is inf at 2")
    finally:
        conductor.send_signal(signal.SIGINT)
        output = conductor.communicate(timeout=120)[0].decode()
    assert conductor.returncode == 0, output
    assert output.endswith("\n200\n")
    assert f"http://127.0.0.1:{port}" not in output
    assert processes_of(port) == []
    assert list(tmp_path.iterdir()) == []
