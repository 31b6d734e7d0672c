"""No verb leaves a person before a silent terminal while it imports what takes seconds."""

import subprocess
import sys

import pytest

from runner.__main__ import VERBS, WORDS

# Ends the process at the first import of what takes long, as if that took for ever.
CODE = """
import os, sys
class Wall:
    def find_spec(self, name, *_):
        if name in {"torch", "ray", "mlflow", "numpy", "scipy", "PIL", "boto3", "rich", "matplotlib"}:
            os._exit(3)
sys.meta_path.insert(0, Wall())
from runner.__main__ import main
main(sys.argv[1:])
"""


def test_every_verb_has_its_word():
    assert WORDS.keys() == VERBS.keys()
    assert all(WORDS.values())


@pytest.mark.parametrize("verb", ["sweep", "show", "evaluate", "promote", "demo", "compare"])
def test_the_first_words_come_before_anything_that_takes_long_is_imported(verb):
    done = subprocess.run(
        [sys.executable, "-c", CODE, verb, "x"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert done.stderr == f"{WORDS[verb]} ...\n"
    assert done.stdout == ""


def test_help_has_no_such_words():
    code = "from runner.__main__ import main; main(['stop', '--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage:")
    assert done.stderr == ""


def test_a_bar_begins_with_the_right_number():
    from rich.progress import Progress

    from runner.cli.evaluate import show_images

    progress = Progress(disable=True)
    show_images(progress, "images", 0, 12)
    assert [(task.completed, task.total) for task in progress.tasks] == [(0, 12)]
    show_images(progress, "images", 5, 12)
    assert [(task.completed, task.total) for task in progress.tasks] == [(5, 12)]
