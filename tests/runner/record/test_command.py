"""A stored sweep is continued by its name alone, and grows without changing what it has."""

import hashlib
import json

import pytest
from click.testing import CliRunner

from evaluation.actor import EvaluatorResources
from runner.__main__ import main
from runner.cli.manage import _plan
from runner.cluster.resilience import Resilience
from runner.record.command import RunOptions, StartedSweep, extend_trials
from runner.record.sweep import StoredSweep, choose_failed, forget
from runner.settings import Settings
from runner.sweep.estimate import what_is_left
from runner.sweep.plan import SweepOptions, plan_sweep
from runner.sweep.run import _has_ended, _to_run
from search_spaces.sweep import load_sweep

OWN = """\"\"\"Mine?\"\"\"
from ray import tune
from ray.tune.search.optuna import OptunaSearch
from search_spaces.sweep import Sweep
SMALL = {"network": {"channels": 1, "dim": 16}, "data": {"held_out": 2}, "epochs": 1}
"""
GRID = OWN + 'sweep = Sweep(samples=True, space={**SMALL, "seed": tune.grid_search([0, 1])})\n'
SEARCHED = (
    OWN + 'sweep = Sweep(space={**SMALL, "optimiser": {"learning_rate": tune.loguniform(1e-4, 1e-2)}}, '
    "samples=True, num_samples=3, search_alg=OptunaSearch)\n"
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "R2D2_HPATCHES", "R2D2_RELEASED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("R2D2_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def start(source: str, name: str = "", **options):
    """Writes down what a sweep that starts writes down."""
    plan = plan_sweep(source, Settings.from_environment(), SweepOptions(name, RunOptions(**options)))
    plan.stored.folder.mkdir(parents=True)
    save(plan)
    return plan


def save(plan):
    plan.definition.save(plan.stored.folder)
    plan.started.save(plan.stored.folder)


def test_options_come_back_as_they_were(home):
    plan = start(
        "smoke",
        name="mine",
        overrides=("epochs=1", "data.held_out=1"),
        evaluators=EvaluatorResources(2, 0.5, 0.0),
        gpus_per_worker=0.25,
        cpus_per_worker=2,
        concurrent=3,
        resilience=Resilience(checkpoint_steps=5, min_workers=1),
    )
    again = _plan("mine")
    assert again.options == plan.options
    assert again.trials == plan.trials
    assert again.definition == plan.definition
    assert again.started == plan.started


def test_a_file_of_other_fields_is_refused_with_what_to_do(home):
    plan = start("smoke", name="mine")
    file = plan.stored.folder / "started.json"
    file.write_text(file.read_text().replace('"evaluators"', '"judges"'))
    with pytest.raises(ValueError, match=r"started\.json is damaged .*; delete it, and run"):
        _plan("mine")


def test_what_it_asks_of_the_cluster_may_change_and_stays_so(home):
    start("smoke", name="mine", gpus_per_worker=0.25, cpus_per_worker=2, concurrent=3)
    asked = {"cpus_per_worker": 1, "gpus_per_worker": 0.0, "concurrent": None, "num_cpus": 1.0}
    save(_plan("mine", asked))
    options = _plan("mine").options.run
    assert (options.gpus_per_worker, options.cpus_per_worker, options.concurrent) == (0.0, 1, 3)
    assert options.evaluators == EvaluatorResources(number=1, num_cpus=1.0)


def test_places_come_back_whatever_the_environment_says_now(home, monkeypatch):
    plan = start("smoke")
    monkeypatch.setenv("R2D2_HPATCHES", "/nowhere")
    assert _plan("smoke").roles == plan.roles


def test_a_file_of_ones_own_is_continued_when_it_is_gone(home, tmp_path):
    file = tmp_path / "own.py"
    file.write_text(GRID)
    plan = start(str(file))
    file.unlink()
    again = _plan("own")
    assert again.trials == plan.trials
    assert again.question == "Mine?"
    save(again)
    assert _plan("own").trials == plan.trials


def test_a_sweep_of_an_earlier_version_is_refused_with_what_to_do(home):
    plan = start("smoke")
    (plan.stored.folder / "started.json").unlink()
    with pytest.raises(ValueError, match="run it with the command that started it"):
        _plan("smoke")


def test_a_damaged_file_is_named(home):
    plan = start("smoke")
    (plan.stored.folder / "started.json").write_text("{}")
    with pytest.raises(ValueError, match=r"started\.json is damaged"):
        _plan("smoke")


def test_trials_are_extended_by_every_value_in_all_combinations_and_each_once():
    trials = load_sweep("smoke")[0].trials()
    found = extend_trials(trials, ("seed=0", "seed=1", "loss.similarity=jaccard", "loss.similarity=dice"))
    assert found[:2] == trials
    assert [(t.config.seed, t.config.loss.similarity) for t in found[2:]] == [
        (0, "jaccard"),
        (1, "jaccard"),
        (1, "dice"),
    ]


def test_an_extension_stays_and_the_command_that_started_the_sweep_knows_it(home):
    before = start("smoke").definition.trials
    extended = _plan("smoke", extension=("seed=1",))
    assert {k: dict(v) for k, v in before.items()}.items() <= extended.definition.trials.items()
    assert len(extended.trials) == 4
    save(extended)
    same = plan_sweep("smoke", Settings.from_environment(), SweepOptions())
    assert same.trials == extended.trials == _plan("smoke").trials
    twice = _plan("smoke", extension=("loss.similarity=jaccard",))
    assert len(twice.trials) == 6
    assert [t.config.epochs for t in twice.starts] == [0, 0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"extension": ("data.held_out=1",)}, "must share data.photos, .* data.held_out"),
        ({"extension": ("seed=0",)}, "nothing is added to the 2 trials of the sweep 'smoke'"),
        ({"extension": ("sed=0",)}, "unknown key 'sed'"),
        ({"num_samples": 5}, "'smoke' has no searcher: every point of its grid is a trial"),
    ],
)
def test_what_cannot_be_added_is_refused_with_a_sentence(home, changes, sentence):
    start("smoke")
    with pytest.raises(ValueError, match=sentence):
        _plan("smoke", **changes)


def test_an_extension_that_would_change_what_is_there_is_refused(home):
    plan = start("smoke")
    known = json.loads((plan.stored.folder / "sweep.json").read_text())
    next(iter(known["trials"].values()))["epochs"] = 7
    (plan.stored.folder / "sweep.json").write_text(json.dumps(known))
    with pytest.raises(ValueError, match=r"cannot be extended .* would change: epochs was 7, is 2"):
        _plan("smoke", extension=("seed=1",))


def test_what_has_ended_is_no_part_of_the_estimate_of_an_extension(home, tmp_path):
    plan = start("smoke")
    for trial in plan.trials:
        (plan.stored.trial_folder(trial)).mkdir(parents=True)
        (plan.stored.trial_folder(trial) / "config.json").write_text(json.dumps(trial.config.to_dict()))
        plan.stored.history(trial).mark_stopped(1)
    left, ended = what_is_left(_plan("smoke", extension=("seed=1",)))
    assert ended == 2
    assert [trial.config.seed for trial in left.trials] == [1, 1]
    left, ended = what_is_left(_plan("smoke"))
    assert (ended, left.trials) == (2, ())
    file = tmp_path / "searched.py"
    file.write_text(SEARCHED)
    first = start(str(file)).trials[0]
    searched = _plan("searched", num_samples=5)
    searched.stored.trial_folder(first).mkdir(parents=True)
    (searched.stored.trial_folder(first) / "config.json").write_text(json.dumps(first.config.to_dict()))
    searched.stored.history(first).mark_stopped(1)
    left, ended = what_is_left(searched)
    assert (ended, len(left.trials)) == (1, 4)


def test_a_searcher_is_asked_for_more(home, tmp_path):
    file = tmp_path / "searched.py"
    file.write_text(SEARCHED)
    start(str(file))
    with pytest.raises(ValueError, match="nothing is added to the 3 samples"):
        _plan("searched", num_samples=3)
    with pytest.raises(ValueError, match="ask it for more with --num-samples"):
        _plan("searched", extension=("seed=1",))
    more = _plan("searched", num_samples=5)
    save(more)
    assert _plan("searched").sweep.num_samples == 5


def test_only_failed_trials_are_run_again(home):
    plan = start("smoke")
    first, second = plan.trials
    for trial in plan.trials:
        (plan.stored.trial_folder(trial) / "train" / "checkpoint_001").mkdir(parents=True)
        (plan.stored.trial_folder(trial) / "config.json").write_text(json.dumps(trial.config.to_dict()))
    with pytest.raises(ValueError, match="no trial of the sweep 'smoke' has failed"):
        choose_failed(plan.stored)
    plan.stored.history(second).mark_failed("out of memory")
    assert choose_failed(plan.stored) == {second.key: "out of memory"}
    with pytest.raises(ValueError, match=f"'{first.key}' .* has not failed; failed ones: {second.key}"):
        choose_failed(plan.stored, (first.key,))
    chosen = _plan("smoke", only=frozenset([second.key]))
    assert _to_run(chosen) == [second]
    assert not _has_ended(chosen)
    forget(StoredSweep(plan.stored.folder), [second.key])
    assert not (plan.stored.trial_folder(second) / "train").exists()
    assert (plan.stored.trial_folder(first) / "train" / "checkpoint_001").is_dir()


def test_what_was_started_is_none_before_it_is_written(tmp_path):
    assert StartedSweep.load(tmp_path) is None


@pytest.mark.parametrize("verb", ["resume", "extend", "retry"])
def test_a_file_that_somebody_put_into_the_home_is_not_executed(home, tmp_path, verb):
    mine = tmp_path / "mine.py"
    mine.write_text(GRID)
    plan = start(str(mine), name="mine")
    planted = tmp_path / "home" / "sweeps" / "mine" / "own_sweep.py"
    planted.write_text(f"import pathlib\npathlib.Path({str(tmp_path / 'was_run')!r}).touch()\n" + GRID)
    digest = hashlib.sha256(planted.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=rf"own_sweep.py is a program.*SHA-256 {digest}.*give --trust"):
        _plan("mine")
    options = {"resume": [], "extend": ["--set", "seed=4"], "retry": ["--failed"]}[verb]
    refused = CliRunner().invoke(main, [verb, "mine", *options, "--dry-run"])
    assert refused.exit_code != 0
    assert not (tmp_path / "was_run").exists()
    assert _plan("mine", {"trust": True}).trials == plan.trials
    assert (tmp_path / "was_run").exists()
    # It has been trusted for good.
    assert _plan("mine").trials == plan.trials


@pytest.mark.parametrize("source", ["/tmp/own.py", "../smoke", "smoke.py", "s3://bucket/x.py", ""])
def test_what_was_written_down_names_a_sweep_or_its_copy_and_nothing_else(home, source):
    start("smoke", name="mine")
    file = home / "sweeps" / "mine" / "started.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "source": source}))
    with pytest.raises(ValueError, match=r"started.json names the sweep"):
        _plan("mine")
