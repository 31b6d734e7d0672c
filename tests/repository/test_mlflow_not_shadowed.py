"""The folder mlflow/ of this repository, deployment files only, does not hide the installed package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def test_the_folder_holds_no_python():
    assert (ROOT / "mlflow").is_dir()
    assert list((ROOT / "mlflow").rglob("*.py")) == []


@pytest.mark.parametrize("arguments", [["-c"], ["-P", "-c"]], ids=["from the root", "without the root"])
def test_the_installed_package_wins_in_the_root(arguments):
    # Looked up without being run: that takes no seconds, and tells the same.
    code = "import importlib.util; print(importlib.util.find_spec('mlflow').origin)"
    command = [sys.executable, *arguments, code]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "site-packages" in Path(answer.stdout.strip()).parts


def test_the_installed_package_wins_with_the_root_first(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    import mlflow

    assert "site-packages" in Path(mlflow.__file__).parts


@pytest.mark.parametrize("module", ["runner", "runner.tracking.ui", "runner.settings"])
def test_importing_the_conductor_does_not_import_mlflow(module):
    code = f"import {module}, sys; sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_help_imports_neither_mlflow_nor_torch():
    code = (
        "import sys; from runner.__main__ import main; main(['--help'], standalone_mode=False); "
        "sys.exit(bool({'mlflow', 'torch', 'ray'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
