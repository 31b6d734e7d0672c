"""No text gets past runner/terminal/console.py to the terminal: it cleans the standard output and error."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    path for wing in ("runner", "r2d2", "evaluation", "search_spaces") for path in (ROOT / wing).rglob("*.py")
]
# The streams that Python began with, bytes, and consoles of one's own.
PAST = {"__stdout__", "__stderr__", "buffer", "Console", "FileHandler", "os.write"}
# Where frames of this program are shown, and nothing of a stranger.
ALLOWED = {("runner/trial/watchdog.py", "__stderr__")}


def used(code: str) -> set[str]:
    """What a program calls, or takes of `sys`, of the names in PAST."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).partition(".")[0] == "sys":
            found.add(node.attr)
        if isinstance(node, ast.Call):
            found.add(ast.unparse(node.func).rpartition(".")[2])
            if ast.unparse(node).startswith(("os.write(1,", "os.write(2,")):
                found.add("os.write")
    return found & PAST


@pytest.mark.parametrize(
    "code",
    ["sys.__stderr__.write(x)", "sys.stdout.buffer.write(x)", "Console().print(x)", "os.write(1, x)"],
)
def test_the_ways_past_it_are_found(code):
    assert used(code)


def test_nobody_takes_one():
    found = {(str(path.relative_to(ROOT)), name) for path in FILES for name in used(path.read_text())}
    assert found <= ALLOWED
