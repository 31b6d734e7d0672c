"""Prometheus can read the figures of a running sweep, and the dashboard shows each of them."""

import json
import re
import time
import urllib.request
from pathlib import Path

import pytest
import ray
import stub_trial
from rich.console import Console
from tiny_sweep import settings_in, write_sweep

from r2d2.config import TrainConfig
from runner.cluster.metrics import EVERY_S, SPEED, TRIALS, WAITING, SweepMetrics
from runner.record.history import History, write_json
from runner.record.incidents import LOST, record_incident
from runner.record.layout import HISTORY
from runner.sweep.plan import SweepOptions, plan_sweep
from runner.sweep.run import run_sweep
from search_spaces.sweep import Trial

DASHBOARD = Path(__file__).parents[3] / "cluster" / "grafana.json"
# As Ray 2.60 exports them.
NAMES = {
    "ray_r2d2_pairs_per_second",
    "ray_r2d2_evaluations_waiting",
    "ray_r2d2_trials",
    "ray_r2d2_score",
    "ray_r2d2_faults_total",
}
WITHIN_S = 90


def watched(digest: str, page: Path):
    """What Tune runs for a trial: it reports two epochs, and waits in the second for the metrics' page."""

    def run(config, context):
        from ray import tune

        trial = Trial(TrainConfig.from_dict(config["trial"]))
        folder = Path(context.trials_folder) / trial.key
        write_json(folder / "config.json", trial.config.to_dict())
        history = History(folder / HISTORY)
        record_incident(history, LOST, "a worker was lost")
        for epoch in (1, 2):
            for record in stub_trial.events(trial, epoch, history.folder, digest):
                if (epoch, record.kind) == (2, "validation"):
                    wait_for_page(page)
                history.write(record)
                tune.report({"epoch": epoch, "kind": record.kind, **record.metrics})
        return {"epoch": epoch, context.metric: record.metrics[context.metric]}

    def wait_for_page(page):
        [node] = ray.nodes()
        address, until = f"http://127.0.0.1:{node['MetricsExportPort']}/metrics", time.monotonic() + WITHIN_S
        text = ""
        while not all(f"\n{name}{{" in text for name in NAMES) and time.monotonic() < until:
            time.sleep(1)
            text = urllib.request.urlopen(address, timeout=10).read().decode()
        page.write_text(text)

    return run


def values(page: str) -> dict[tuple[str, str], float]:
    """Value of each of our series, by its name and the tags of ours but the sweep's."""
    found = {}
    for name, tags, value in re.findall(r"^(ray_r2d2_\w+)\{(.*)\} (\S+)$", page, re.MULTILINE):
        labels = dict(re.findall(r'(\w+)="([^"]*)"', tags))
        assert labels["sweep"] == "tiny"
        own = {labels[tag] for tag in ("trial", "state", "variant", "kind") if tag in labels}
        found[name, "".join(own)] = float(value)
    return found


@pytest.mark.cluster
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray")
def test_a_node_offers_the_figures_of_a_running_sweep(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(stub_trial.__file__).parent))
    file = write_sweep(tmp_path, "sweep = Sweep(space=TINY, samples=True, starting_networks=False)")
    settings = settings_in(tmp_path / "home")
    plan = plan_sweep(str(file), settings, SweepOptions())
    page = tmp_path / "page"
    trainable = watched(plan.data.digests["validation"], page)
    result = run_sweep(plan, settings, Console(quiet=True), trainable)
    assert result.failed == {}
    [trial] = plan.trials
    found = values(page.read_text())
    assert {name for name, _ in found} == NAMES
    assert found["ray_r2d2_pairs_per_second", trial.key] == 10
    assert found["ray_r2d2_evaluations_waiting", ""] == 1
    states = {state: found["ray_r2d2_trials", state] for state in ("waiting", "training", "finished")}
    assert states == {"waiting": 0, "training": 1, "finished": 0}
    score = plan.stored.history(trial).find(1, "validation").metrics[plan.sweep.metric]
    assert found["ray_r2d2_score", trial.variant] == pytest.approx(score)
    assert found["ray_r2d2_faults_total", "lost"] == 1


def test_figures_are_asked_for_every_few_seconds_and_set_if_they_are_numbers(monkeypatch):
    now, asked = 100.0, []
    monkeypatch.setattr("runner.cluster.metrics.time.monotonic", lambda: now)
    metrics = SweepMetrics("own")
    recorded = {}
    for name, gauge in metrics._gauges.items():
        monkeypatch.setattr(
            gauge, "set", lambda value, tags, name=name: recorded.setdefault(name, (value, tags))
        )

    def figures():
        asked.append(now)
        return {SPEED: {"a": float("nan")}, WAITING: {"": 2}, TRIALS: {"failed": 1}}

    for _ in range(3):
        metrics.refresh(figures)
        now += EVERY_S / 2
    assert asked == [100.0, 100.0 + EVERY_S]
    assert recorded == {
        WAITING: (2, {"sweep": "own"}),
        TRIALS: (1, {"sweep": "own", "state": "failed"}),
    }


def test_the_dashboard_shows_every_figure_and_no_other():
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["schemaVersion"] >= 38, "that of Grafana 10"
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    shown = []
    for panel in dashboard["panels"]:
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        [query] = panel["targets"]
        assert 'sweep=~"$sweep"' in query["expr"]
        shown += re.findall(r"\bray_\w+", query["expr"])
    assert sorted(shown) == sorted(NAMES)
    assert set(re.findall(r"\bray_\w+", json.dumps(variables["sweep"]))) <= NAMES
    # Grafana's grid has 24 columns; no panel lies on another.
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(NAMES)
