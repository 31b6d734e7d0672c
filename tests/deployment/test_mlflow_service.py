"""MLflow on PostgreSQL and S3: nothing missing, nothing twice, no secret, whatever it lives through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from faulty_proxy import FaultyProxy, until
from ray_node import ray_node
from stub_trial import figure

from runner.record.sweep import StoredSweep
from runner.tracking.experiments import Tracker
from runner.tracking.run import rounded

pytestmark = [pytest.mark.multinode, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
EPOCHS = 3
SWEEP = '''"""Does MLflow hold {name} whole?"""
from ray import tune
from search_spaces.sweep import Sweep
sweep = Sweep(
    samples=True,
    space={{
        "data": {{"held_out": 1, "crop_size": 64}},
        "seed": tune.grid_search(list(range({trials}))),
        "epochs": {epochs},
    }},
    starting_networks=False,
)
'''


@pytest.fixture(scope="module")
def ray_variables():
    with ray_node(8) as variables:
        yield variables


@pytest.fixture
def proxy(mlflow_server):
    """Counts what the drivers ask of the server, and takes it away."""
    with FaultyProxy(mlflow_server.uri) as proxy:
        yield proxy


@pytest.fixture
def environment(mlflow_server, proxy, ray_variables, tmp_path):
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("R2D2_", "MLFLOW_", "AWS_", "RAY_"))}
    return {
        **kept,
        **mlflow_server.environment,
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(ROOT), str(ROOT / "tests/helpers"), os.environ.get("PYTHONPATH")])
        ),
        "PYTHONUNBUFFERED": "1",
        "R2D2_HOME": str(tmp_path / "home"),
        **ray_variables,
        "MLFLOW_TRACKING_URI": proxy.endpoint,
    }


@pytest.fixture
def drive(environment, tmp_path):
    """Starts the driver of a stub sweep; its output goes into a file of the sweep's name."""
    started = []

    def start(name, trials, seconds):
        file = tmp_path / f"{name}.py"
        file.write_text(SWEEP.format(name=name, trials=trials, epochs=EPOCHS))
        with (tmp_path / f"{name}.out").open("ab") as output:
            command = [sys.executable, str(ROOT / "tests/helpers/stub_driver.py"), str(file), name]
            driver = subprocess.Popen(
                [*command, str(seconds)], env=environment, cwd=tmp_path, stdout=output, stderr=output
            )
        started.append(driver)
        return driver

    yield start
    for driver in started:
        if driver.poll() is None:
            driver.kill()
            driver.wait()


@pytest.fixture
def client(mlflow_server, monkeypatch):
    for name, value in mlflow_server.environment.items():
        monkeypatch.setenv(name, value)
    return Tracker(mlflow_server.uri)


def output_of(tmp_path, name):
    return (tmp_path / f"{name}.out").read_text()


def artifacts(s3) -> dict[str, str]:
    """Keys of everything that MLflow keeps on S3, by run and path, without asking the server for each."""
    pages = s3.client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket)
    keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
    runs = [(key, *key.partition("/artifacts/")[::2]) for key in keys]
    return {f"{run.rpartition('/')[2]}/{path}": key for key, run, path in runs}


def check_whole(client, postgres, s3, home, name, trials):
    """Compares everything that MLflow has of a sweep with what lies on disk."""
    kept = artifacts(s3)
    stored = StoredSweep(home / "sweeps" / name)
    runs = {run.key: run for run in client.list_runs(name)}
    assert len(client.list_runs(name)) == len(runs) == trials + 1
    for trial in stored.trials():
        run = runs[trial.key]
        assert run.status == "FINISHED"
        assert run.params == {key: str(value) for key, value in trial.config.flat().items()}
        assert run.tags["sweep"] == name
        assert run.tags["r2d2.protocol.validation"] == "validation"
        assert {"r2d2.dataset.training", "r2d2.dataset.validation"} <= run.tags.keys()
        rows = postgres.rows(f"select key, step, value from metrics where run_uuid = '{run.run_id}'")
        wanted = {
            (key, record.epoch): value
            for record in stored.history(trial).records()
            for key, value in record.metrics.items()
        }
        assert Counter((key, int(step)) for key, step, _ in rows) == Counter(wanted.keys())
        for key, step, value in rows:
            assert float(value) == pytest.approx(rounded(wanted[key, int(step)]), rel=1e-12)
        share = wanted["validation/mma_3px", EPOCHS]
        assert share == pytest.approx(figure(trial, EPOCHS) + 3 / 30)
        scores = {f"mma/validation_epoch_{epoch:03d}.json" for epoch in range(1, EPOCHS + 1)}
        assert {f"{run.run_id}/{path}" for path in scores | {"mma/validation.json"}} == {
            path for path in kept if path.startswith(f"{run.run_id}/mma/")
        }
        config = s3.client.get_object(Bucket=s3.bucket, Key=kept[f"{run.run_id}/config.json"])["Body"]
        assert json.loads(config.read()) == trial.config.flat()
    assert runs["summary"].status == "FINISHED"


@pytest.mark.slow
def test_two_drivers_at_once_leave_two_whole_sweeps_and_no_secret(
    mlflow_server, postgres, s3, proxy, drive, client, tmp_path
):
    drivers = [drive(name, trials=40, seconds=0.6) for name in ("first", "second")]
    for driver, name in zip(drivers, ("first", "second"), strict=True):
        assert driver.wait(600) == 0, output_of(tmp_path, name)
        assert "failed 0, behind 0" in output_of(tmp_path, name)
        check_whole(client, postgres, s3, tmp_path / "home", name, trials=40)
    figures = sum(path.endswith("/runs/log-batch") for _, path, _ in proxy.requests)
    # One of each training of an epoch, of each score, of each end; two summaries have tags, but no epochs.
    assert figures <= 2 * 40 * (2 * EPOCHS + 1) + 2 * 2
    texts = {"the database": postgres.run("pg_dump", "-d", postgres.database).encode()}
    texts |= {str(path): path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()}
    texts |= {path.name: path.read_bytes() for path in [*tmp_path.glob("*.out"), mlflow_server.log]}
    for page in s3.client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket):
        for entry in page["Contents"]:
            content = s3.client.get_object(Bucket=s3.bucket, Key=entry["Key"])["Body"].read()
            texts[entry["Key"]] = content
    assert any(name.endswith("comparison.html") for name in texts)
    for secret in mlflow_server.secrets:
        assert [name for name, text in texts.items() if secret.encode() in text] == []


@pytest.mark.slow
def test_mlflow_may_go_away_and_come_back_or_not(
    mlflow_server, postgres, s3, proxy, drive, client, environment, tmp_path
):
    home = tmp_path / "home"

    def told(name):
        query = f"select count(*) from tags where key = 'sweep' and value = '{name}'"
        return int(postgres.rows(query)[0][0])

    # A minute, here seconds: what waited is delivered while the sweep still runs.
    driver = drive("interrupted", trials=64, seconds=3)
    until(lambda: told("interrupted"), 240)
    proxy.down = True
    until(lambda: "MLflow is away since" in output_of(tmp_path, "interrupted"), 60)
    time.sleep(5)
    ended = output_of(tmp_path, "interrupted").count(": finished")
    proxy.down = False
    until(lambda: "MLflow answers again after" in output_of(tmp_path, "interrupted"), 60)
    until(lambda: told("interrupted") > ended, 240)
    assert driver.poll() is None
    assert driver.wait(400) == 0
    check_whole(client, postgres, s3, home, "interrupted", trials=64)

    # For good, from the start: the address has answered before, so the sweep runs to its end.
    proxy.down = True
    assert drive("unheard", trials=8, seconds=0.6).wait(300) == 0
    assert "failed 0, behind 8, summary None" in output_of(tmp_path, "unheard")
    proxy.down = False
    sync = [sys.executable, "-m", "runner", "sync", "unheard"]
    for _ in range(2):
        synced = subprocess.run(sync, env=environment, capture_output=True, text=True, timeout=200)
        assert "MLflow has everything of 8 of 8 trials and the summary." in synced.stdout, synced
        check_whole(client, postgres, s3, home, "unheard", trials=8)

    # Where it never answered, the address may be wrong.
    proxy.down = True
    environment["R2D2_HOME"] = str(tmp_path / "other")
    assert drive("wrong", trials=8, seconds=0.6).wait(100) != 0
    assert "does not answer" in output_of(tmp_path, "wrong")
    assert not list((tmp_path / "other" / "sweeps").iterdir())
