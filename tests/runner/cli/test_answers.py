"""With --json a verb prints one object with the fields of docs/json.md; its status says yes, no or cannot."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from answers import checked, documented
from click.testing import CliRunner
from PIL import Image

from runner.__main__ import main
from runner.cluster.jobs import SweepJob
from runner.doctor.checks import Check
from runner.registry.aliases import AliasMove
from runner.registry.promote import Promotion
from runner.sweep.prune import Item
from runner.sweep.sync import SyncResult

ROOT = Path(__file__).parents[3]


@pytest.fixture
def r2d2(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("R2D2_HOME", str(tmp_path / "home"))
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


def answer(result, status=0):
    assert result.exit_code == status, result.output
    return checked(result.stdout)


def test_the_page_describes_every_schema_of_the_source():
    sources = [*(ROOT / "runner" / "cli").glob("*.py"), ROOT / "evaluation" / "report" / "text.py"]
    made = "".join(path.read_text() for path in sources)
    names = re.findall(r'(?:print_answer\(|labelled\(|"r2d2\.)\s*"?(\w+)"', made)
    assert set(names) == set(documented())


@pytest.mark.parametrize(
    ("command", "key", "name"),
    [
        (["sweeps"], "sweeps", "study"),
        (["settings", "rate"], "settings", "optimiser.learning_rate"),
        (["data", "list"], "sources", "photos"),
    ],
)
def test_lists(r2d2, command, key, name):
    listed = answer(r2d2(*command, "--json"))[key]
    assert name in {one.get("name") or one.get("key") for one in listed}


def test_data_is_prepared_listed_and_checked(r2d2, tmp_path):
    photos, place = tmp_path / "photos", tmp_path / "place"
    photos.mkdir()
    random = np.random.default_rng(0)
    for number in range(20):
        Image.fromarray(random.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(photos / f"{number}.png")
    (photos / "none.png").write_bytes(b"none")
    bare = answer(r2d2("data", "list", photos, "--json"))
    assert (bare["files"], bare["source"]) == (21, None)
    made = answer(r2d2("data", "prepare", "photos", "--from", photos, "--to", place, "--json"))
    assert (made["files"], list(made["refused"])) == (20, ["none.png"])
    listed = answer(r2d2("data", "list", place, "--json"))
    assert listed == {key: made[key] for key in listed} | {"schema": "r2d2.place"}
    assert answer(r2d2("data", "check", place, "--json"))["whole"] == 20
    (place / made_file(place)).write_bytes(b"")
    found = answer(r2d2("data", "check", place, "--json"), status=1)
    assert (found["whole"], sum(map(len, found["differences"].values()))) == (19, 1)


def made_file(place: Path) -> str:
    return json.loads((place / "manifest.json").read_text())["files"][0]["path"]


@pytest.mark.parametrize("well", [True, False])
def test_the_doctor_says_yes_or_no(r2d2, monkeypatch, well):
    checks = (Check("disk", True, "10 GiB"), Check("ray", well, "2.60.0"))
    monkeypatch.setattr("runner.doctor.nodes.run_checks", lambda machine: iter(checks))
    found = answer(r2d2("doctor", "--json"), status=0 if well else 1)
    assert found["ok"] is well
    assert [check["name"] for check in found["checks"]] == ["disk", "ray"]
    assert r2d2("doctor", "--address", "http://localhost:1", "--json").exit_code == 2


@pytest.mark.parametrize("promoted", [True, False])
def test_a_promotion_says_yes_or_no(r2d2, monkeypatch, promoted):
    run = SimpleNamespace(run_id="0a1b", name="trial", tags={"sweep": "own"})
    promotion = Promotion(promoted, 2 if promoted else None, "it is better", run, 0.5, promoted)
    monkeypatch.setattr("runner.cli.models._tracker", lambda settings: None)
    monkeypatch.setattr("runner.registry.promote.best_run", lambda *_: run)
    monkeypatch.setattr("runner.registry.promote.promote", lambda *_, **how: promotion)
    found = answer(r2d2("promote", "own", "--json"), status=0 if promoted else 1)
    assert (found["promoted"], found["number"], found["run"]) == (promoted, promotion.version, "0a1b")


def test_versions_and_moves(r2d2, monkeypatch):
    move = AliasMove("2026-12-01T12:00:00Z", "me", "champion", 2, None, "it is better")
    version = SimpleNamespace(version="2", aliases=["champion"], description="own", tags={"score": "0.5"})
    monkeypatch.setattr("runner.cli.models._tracker", lambda settings: None)
    monkeypatch.setattr("runner.registry.aliases.model_versions", lambda *_: [version])
    monkeypatch.setattr(
        "runner.registry.aliases.alias_moves", lambda *_: [move, replace(move, alias="other")]
    )
    monkeypatch.setattr("runner.registry.aliases.roll_back", lambda *_: move)
    found = answer(r2d2("promote", "--list", "--json"))
    assert [one["number"] for one in (*found["versions"], *found["moves"])] == [2, 2]
    assert answer(r2d2("promote", "--rollback", "--json"))["number"] == 2


@pytest.mark.parametrize("behind", [{}, {"trial": "MLflow is away"}])
def test_sync_says_whether_mlflow_has_everything(r2d2, monkeypatch, behind):
    monkeypatch.setattr("runner.tracking.experiments.Tracker.of", lambda settings: None)
    monkeypatch.setattr("runner.sweep.sync.sync_sweep", lambda *_: SyncResult(3, behind, None))
    assert answer(r2d2("sync", "own", "--json"), status=int(bool(behind)))["behind"] == behind


@pytest.mark.parametrize("yes", [True, False])
def test_prune_lists_and_deletes(r2d2, monkeypatch, yes):
    deleted = []
    items = [Item("checkpoint_001", "not among the best", 100, lambda: deleted.append(1), "")]
    monkeypatch.setattr("runner.sweep.prune.find_items", lambda *_: iter(items))
    found = answer(r2d2("prune", "--json", *(["--yes"] if yes else [])))
    assert (found["deleted"], found["bytes"], len(deleted)) == (yes, 100, int(yes))
    items.clear()
    assert answer(r2d2("prune", "--json"))["items"] == []


@pytest.mark.parametrize("stopped", [True, False])
def test_stop_says_whether_it_has_stopped(r2d2, monkeypatch, stopped):
    monkeypatch.setattr("runner.record.sweep.StoredSweep.definition", None)
    monkeypatch.setattr("runner.record.lease.stop_sweep", lambda *_: (stopped, "so it is"))
    assert answer(r2d2("stop", "own", "--json"), status=int(not stopped))["stopped"] is stopped


def test_jobs_are_listed(r2d2, monkeypatch):
    job = SweepJob("r2d2-own-1", "own", "RUNNING", "python -m runner sweep own", "", 1.5)
    monkeypatch.setattr(
        "runner.cluster.jobs.SweepJobs",
        lambda address: SimpleNamespace(of=lambda name: [job], all=lambda: [job]),
    )
    at = ("--address", "http://localhost:8265")
    [listed] = answer(r2d2("submit", "--status", "--json", *at))["jobs"]
    assert (listed["id"], listed["started"], listed["ended"]) == ("r2d2-own-1", 1.5, None)
    assert "--json belongs to --status" in r2d2("submit", "own", "--json", *at).output


def test_an_interrupted_verb_ends_with_130_and_the_help_says_so(r2d2, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("runner.doctor.nodes.run_checks", interrupt)
    assert r2d2("doctor").exit_code == 130
    assert "130 it was interrupted" in " ".join(r2d2("--help").output.split())
