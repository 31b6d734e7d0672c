"""What every trial starts anew, and every verb that only reads, imports no package that takes seconds."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "mlflow", "matplotlib", "scipy", "optuna")


@pytest.mark.parametrize(
    "module", ["runner.trial.driver", "runner.trial.task", "runner.trial.scoring", "evaluation.actor"]
)
def test_processes_of_a_trial_import_only_what_they_use(module):
    code = f"import {module}, sys; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    "module",
    [
        "r2d2.config",
        "r2d2.prepare.catalogue",
        "runner.compare.report",
        "runner.sweep.prune",
        "runner.sweep.sync",
    ],
)
def test_verbs_that_train_nothing_do_not_import_torch(module):
    code = f"import {module}, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
