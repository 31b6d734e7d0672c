"""What a large sweep costs its driver: `python -m bench.sweep --trials 1000 --slots 16 --seconds 1`.

Trials train nothing (see stub.py), so that all that is measured is the conductor: how busy it keeps the
slots, how much memory it takes, how many requests MLflow gets, and how long it takes to hear of everything.
Status 1 if the slots are busy for less than 95 % of the time or the driver takes more than 1 GiB.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import resource
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.stub import BUSY, stub_trial
from runner.terminal.console import make_console
from runner.terminal.fitted_table import FittedTable

BUSY_AT_LEAST, MEMORY_GIB = 0.95, 1.0
SWEEP = '''"""How much does a large sweep cost its driver?"""
from ray import tune
from search_spaces.sweep import Sweep
sweep = Sweep(
    samples=True,
    space={{
        "data": {{"held_out": 1, "crop_size": 64}},
        "optimiser": {{"learning_rate": tune.grid_search([0.001 * n for n in range(1, {rates} + 1)])}},
        "seed": tune.grid_search(list(range({seeds}))),
        "epochs": {epochs},
    }},
    baselines=False,
)
'''


def main() -> int:
    """Runs the sweep and prints the figures; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.sweep")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=16, help="CPUs that Ray is told this machine has")
    parser.add_argument("--seconds", type=float, default=1.0, help="of one trial")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="print where the driver's main thread was")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="sweep") as folder,
        ray_node(arguments.slots) as variables,
    ):
        figures = measure(Path(folder), variables, arguments)
    table = FittedTable(["figure", "value"], title=" ".join(["python -m bench.sweep", *sys.argv[1:]]))
    for name, value in figures.items():
        table.add_row(name, f"{value:.3f}" if isinstance(value, float) else str(value))
    make_console().print(table)
    busy, memory = figures["share of slot time busy"], figures["driver's memory, GiB"]
    return 0 if busy >= BUSY_AT_LEAST and memory < MEMORY_GIB else 1


def measure(folder: Path, variables: dict[str, str], arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs the sweep in this process."""
    os.environ.update(variables)
    from runner.settings import Settings
    from runner.sweep.plan import SweepOptions, plan_sweep
    from runner.sweep.run import run_sweep

    seeds = min(50, arguments.trials)
    file = folder / "large.py"
    file.write_text(SWEEP.format(rates=-(-arguments.trials // seeds), seeds=seeds, epochs=arguments.epochs))
    settings = Settings.from_environment(
        {"R2D2_HOME": str(folder / "home")}
        | {k: v for k, v in os.environ.items() if k in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS")}
    )
    plan = plan_sweep(str(file), settings, SweepOptions())
    trainable = stub_trial(arguments.seconds, plan.data.digests["validation"])
    requests = _count_requests()
    sampled: collections.Counter[str] = collections.Counter()
    if arguments.profile:
        threading.Thread(target=_sample, args=(threading.get_ident(), sampled), daemon=True).start()
    began = time.time()
    result = run_sweep(plan, settings, make_console(), trainable)
    ended = time.time()
    problems = (result.failed, result.interrupted, result.behind)
    assert not any(problems), problems
    spans = [json.loads(p.read_text()) for p in plan.folder.glob(f"trials/*/{BUSY}")]
    assert len(spans) == len(plan.trials)
    for place, count in sampled.most_common(25):
        print(f"{count / max(1, sampled.total()):6.1%} {place}")  # noqa: T201
    return {
        "trials": len(spans),
        "share of slot time busy": _share(spans, arguments.slots),
        "the same from the first trial's start": _share(spans, arguments.slots, whole=True),
        "trials a second": len(spans) / (max(s[1] for s in spans) - min(s[0] for s in spans)),
        "driver's memory, GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "seconds from start to the first trial": min(s[0] for s in spans) - began,
        "seconds from the last trial to the end": ended - max(s[1] for s in spans),
        "requests of figures per trial and epoch": requests["log_batch"] / len(spans) / arguments.epochs,
        **{f"requests {name}": count for name, count in requests.items()},
    }


def _share(spans: list[tuple[float, float]], slots: int, whole: bool = False) -> float:
    """The share of slot time in which trials ran.

    Counted from when every slot has had a trial (or, whole, from the first one's start) until none is left.
    """
    starts, ends = sorted(s[0] for s in spans), sorted(s[1] for s in spans)
    begin = starts[0] if whole else starts[slots - 1]
    end = ends[-slots]
    busy = sum(max(0.0, min(s[1], end) - max(s[0], begin)) for s in spans)
    return busy / (slots * (end - begin))


def _count_requests() -> collections.Counter[str]:
    """Counts what MLflow's client is asked to do from here on, by method."""
    from mlflow import MlflowClient

    counted: collections.Counter[str] = collections.Counter()

    def counting(name: str) -> Any:
        method = getattr(MlflowClient, name)

        def count(*args: Any, **kwargs: Any) -> Any:
            counted[name] += 1
            return method(*args, **kwargs)

        return count

    for name in ("create_run", "log_batch", "log_inputs", "set_terminated", "get_run", "get_metric_history"):
        setattr(MlflowClient, name, counting(name))
    return counted


def _sample(thread: int, counted: collections.Counter[str]) -> None:
    while True:
        time.sleep(0.01)
        frame: Any = sys._current_frames().get(thread)
        seen = set()
        while frame is not None:
            code = frame.f_code
            seen.add(f"{Path(code.co_filename).name}:{code.co_name}")
            frame = frame.f_back
        counted.update(seen)


@contextmanager
def ray_node(slots: int) -> Iterator[dict[str, str]]:
    """A Ray node of its own that believes it has `slots` CPUs; the variables with which it is joined."""
    ray = str(Path(sys.executable).with_name("ray"))
    python_path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    account = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {**os.environ, **account, "PYTHONPATH": python_path}
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as sockets:
        command = [ray, "start", "--head", "--port=0", f"--num-cpus={slots}", f"--temp-dir={sockets}"]
        command += ["--include-dashboard=false", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        command += [f"--object-store-memory={200 * 2**20}"]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
            found = re.search(r"--address='([^']+)'", done.stdout)
            assert found is not None, done.stdout + done.stderr
            yield {**account, "RAY_ADDRESS": found[1]}
        finally:
            _end_processes_of(sockets)


def _end_processes_of(folder: str) -> None:
    """Ends the processes that name a folder in their command."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            named = folder.encode() in (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if named and int(entry.name) != os.getpid():
            os.kill(int(entry.name), 9)


if __name__ == "__main__":
    sys.exit(main())
