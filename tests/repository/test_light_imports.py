"""What every trial starts anew, and every verb that only reads, imports no package that takes seconds."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from runner.__main__ import VERBS, main

HEAVY = ("torch", "mlflow", "matplotlib", "scipy", "optuna", "ray.tune")


def imported(code: str, names: tuple[str, ...]) -> list[str]:
    """Which of the packages a new Python has imported after it ran the code."""
    shown = f"{code}\nimport sys\nprint('imported', *(name for name in {names} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "module", ["runner.trial.driver", "runner.trial.task", "runner.trial.scoring", "evaluation.actor"]
)
def test_processes_of_a_trial_import_only_what_they_use(module):
    assert imported(f"import {module}", tuple(name for name in HEAVY if name != "ray.tune")) == []


def test_what_compares_is_light_to_import():
    assert imported("import runner.compare.report, evaluation.pictures.matches", HEAVY) == []


def test_what_only_asks_mlflow_imports_no_torch():
    assert imported("import runner.sweep.sync, runner.registry.aliases", ("torch", "ray.tune")) == []


READING = ("sweeps", "settings", "settings rate", "data list", "prune")


def test_verbs_that_only_read_import_no_package_that_takes_seconds(tmp_path, monkeypatch):
    monkeypatch.setenv("R2D2_HOME", str(tmp_path))
    commands = [command.split() for command in (*READING, *(f"{verb} --help" for verb in VERBS))]
    code = f"""
from runner.__main__ import main
for command in {commands}:
    main(command, standalone_mode=False)"""
    assert imported(code, HEAVY) == []


@pytest.mark.parametrize(
    ("command", "said"), [("sweeps", "up to 40"), ("settings", "cosine, czekanowski, dice, jaccard")]
)
def test_what_is_read_without_them_is_whole(command, said):
    assert said in CliRunner().invoke(main, command).output
