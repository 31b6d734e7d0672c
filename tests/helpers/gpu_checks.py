"""Checks that end well, fail, hang or die, in a file that other processes can import."""

import os
import signal
import time
from pathlib import Path


def good(setup):
    yield {"device": str(setup.device)}
    yield {"second": 2}


def fails(_):
    yield {"first": 1}
    raise ArithmeticError("it went wrong")


def hangs(setup):
    # A process of its own, which is to end with the check.
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    Path(setup.photos, "child").write_text(str(child))
    yield {"first": 1}
    time.sleep(600)


def dies(_):
    yield {"first": 1}
    os.kill(os.getpid(), signal.SIGKILL)


def misses(_):
    yield {"good": False}
