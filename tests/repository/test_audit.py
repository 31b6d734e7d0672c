"""`make audit` fails for an advisory and nothing else, and says when nobody could be asked for one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[2] / ".ci" / "audit.py"
SOUND = {"name": "click", "version": "8.5.1", "vulns": []}
BAD = {**SOUND, "name": "pillow", "vulns": [{"id": "PYSEC-1", "fix_versions": ["14.0"], "aliases": []}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "log", "status", "sentence"),
    [
        ([SOUND], "", 0, "No advisory is known of 1 packages."),
        (
            [SOUND, UNKNOWN],
            "",
            0,
            "No advisory is known of 1 packages; the package index does not answer for torch.",
        ),
        ([UNKNOWN], "", 0, "No advisory was asked for: the package index answers for none of 1 packages."),
        ([SOUND, BAD, UNKNOWN], "", 1, "pillow 8.5.1: PYSEC-1, mended in 14.0"),
        (None, "x\nERROR: no connection\n", 0, "No advisory was asked for: ERROR: no connection"),
        (None, "", 0, "No advisory was asked for: pip-audit cannot be had"),
    ],
)
def test_the_status_and_the_sentence(packages, log, status, sentence, tmp_path):
    if packages is not None:
        (tmp_path / "report").write_text(json.dumps({"dependencies": packages, "fixes": []}))
    (tmp_path / "log").write_text(log)
    command = [sys.executable, AUDIT, tmp_path / "report", tmp_path / "log"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (status, f"{sentence}\n")
