"""Reproduces a training: finds its inputs, trains and scores it again in a folder of its own, compares."""

from __future__ import annotations

import json
import os
import pprint
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from r2d2.processor.kind import Processor, this_processor
from r2d2.source_code import running_root, source_code
from r2d2.storage.manifest import first_names
from r2d2.storage.scratch import scratch_folder
from runner.record.command import StartedSweep
from runner.record.history import History
from runner.record.layout import TRIAL_CONFIG
from runner.record.provenance import Provenance, installed_versions, processors_of
from runner.record.sweep import StoredSweep
from runner.reproduce.answer import (
    Answer,
    SeedNoise,
    first_difference,
    noise_of,
    read_table,
    require_tables,
    verdict_of,
)
from runner.reproduce.code import OR_THIS_CODE, write_code
from runner.reproduce.differences import (
    CODE,
    DIGITS,
    Difference,
    code_differences,
    package_differences,
    processor_differences,
    protocol_differences,
)
from runner.reproduce.inputs import find_inputs
from runner.reproduce.target import Target, deciding_value
from runner.settings import SWEEPS, Settings
from search_spaces.sweep import HPATCHES, RELEASED, VALIDATION

NAME, MESSAGES = "reproduction", "messages.txt"
_MAY, _VERB = "--choose-on-test", "runner/cli/sweep.py"
STOPS_WITHIN_S = 60.0
_NAMED = 5
# What belongs to the user's own sweeps, and not to a training that was started with other options.
_NOT_INHERITED = (
    *("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "R2D2_HPATCHES", "R2D2_RELEASED", "R2D2_NOTIFY"),
    *("R2D2_CLUSTER_CPUS", "R2D2_CLUSTER_GPUS"),
)


def reproduce(
    target: Target,
    settings: Settings,
    say: Callable[[str], None],
    this_code: bool = False,
    trust: bool = False,
    keep: Path | None = None,
) -> Answer:
    """Trains and scores a stored training again on this machine, and compares every figure.

    Args:
        target: the training.
        settings: where the user's caches are; nothing else is written there.
        say: gets a sentence on what happens, and on each difference that is known beforehand.
        this_code: whether the code that is here trains, and not the run's own.
        trust: whether recorded code may run that is neither in the history of HEAD nor this user's own.
        keep: folder of the reproduction, new or empty; None: a temporary one.

    Raises:
        ValueError: if something that it needs is not to be had, which is said before anything runs, or if
            the training fails; its folder is kept then.
    """
    record = _record(target, this_code)
    if keep is not None and (keep.is_file() or (keep.is_dir() and any(keep.iterdir()))):
        raise ValueError(f"{keep} is not empty; --keep takes a folder that is new or empty")
    say(f"looking for what {target} was made of")
    require_tables(target)
    noise = noise_of(target, settings)
    differences = find_inputs(target, settings)
    if record is not None:
        differences += package_differences(record.packages, installed_versions())
    with scratch_folder() as scratch:
        code, home = scratch / "code", keep or scratch / "home"
        code.mkdir()
        here = _processor_here(target)
        for one in (*differences, *processor_differences(_noted(target), here)):
            say(str(one))
        trained_with, of_code = _code(target, record, code, say, this_code, trust)
        differences += of_code
        with _kept_after_failure(home, keep, say):
            _train(target, settings, running_root() if this_code else code, home, say)
            again = StoredSweep(home / SWEEPS / NAME)
            trials = again.trials()
            if len(trials) != 1:
                raise ValueError(f"the reproduction has {len(trials)} trials and not one")
            there = processors_of(again.trial_store(trials[0])) or here
            now = Provenance.load(again.store, 1)
            differences += processor_differences(_noted(target), there) or _of_evaluation(record, now)
            return _compare(target, again.history(trials[0]), differences, trained_with, noise)


@contextmanager
def _kept_after_failure(home: Path, keep: Path | None, say: Callable[[str], None]) -> Iterator[None]:
    try:
        yield
    except Exception:
        kept = home if keep else home.rename(tempfile.mkdtemp(prefix="r2d2-reproduction-"))
        say(f"what was trained, and {MESSAGES}, stay in {kept}")
        raise


def _compare(
    target: Target, now: History, differences: Sequence[Difference], code: str, noise: SeedNoise
) -> Answer:
    was, value = (deciding_value(target, history) for history in (target.history, now))
    if was is None or value is None:
        raise ValueError(f"the reproduction has no {target.metric} at epoch {target.epoch}")
    tables = {
        role: [read_table(history, target.epoch, role) for history in (target.history, now)]
        for role in target.sweep.definition.benchmarks
    }
    protocols = [one for pair in tables.values() if all(pair) for one in protocol_differences(*pair)]
    first = first_difference(target.history, now)
    return Answer(
        verdict=verdict_of(value - was, first, noise),
        training=str(target),
        metric=target.metric,
        epoch=target.epoch,
        was=was,
        now=value,
        first=first,
        noise=noise,
        code=code,
        differences=(*differences, *protocols),
    )


def _record(target: Target, this_code: bool) -> Provenance | None:
    """What the training was computed with; None if it was not recorded, and the code that is here trains."""
    records = target.provenances()
    if records != records[-1:] or records == [None]:
        why = "by a version of this program that did not record its code"
        if len(records) > 1:
            why = f"in parts, by {len(records)} different states of code or packages"
            why += ", of which one was not recorded" if None in records else ""
        if not this_code:
            raise ValueError(f"{target} was trained {why}; {OR_THIS_CODE}")
    return records[-1]


def _code(
    target: Target,
    record: Provenance | None,
    folder: Path,
    say: Callable[[str], None],
    this_code: bool,
    trust: bool,
) -> tuple[str, list[Difference]]:
    """Writes the run's code into a folder; returns whose code trains, and how that differs from the run's."""
    source = source_code()
    here = f"the code that is here ({source.version})"
    if record is None:
        return here, []
    try:
        write_code(record.code, folder, f"{target.sweep.store.place}/provenance", trust)
        found = code_differences(folder, running_root())
    except ValueError:
        if not this_code:
            raise
        same = (record.code.version, record.code.diff) == (source.version, source.diff)
        found = [] if same else [Difference(CODE, "version", record.code.version, source.version)]
    if found:
        names = first_names([one.name for one in found], _NAMED)
        whose = "the code here" if this_code else "the run's"
        say(f"the code here differs from the run's, and {whose} trains: {names}")
    if this_code:
        return here, found
    added = ", with what was not committed" if record.code.diff else ""
    return f"the run's code ({record.code.commit[:DIGITS]}{added})", []


def _noted(target: Target) -> tuple[Processor, ...]:
    return processors_of(target.sweep.trial_store(target.trial))


def _of_evaluation(was: Provenance | None, now: Provenance | None) -> list[Difference]:
    found = processor_differences((was.evaluation,), (now.evaluation,)) if was and now else []
    return [replace(one, name=f"{one.name} of the evaluation") for one in found]


def _processor_here(target: Target) -> tuple[Processor, ...]:
    """This machine's processor of the kind that trained."""
    noted = _noted(target)
    uses_gpu = torch.cuda.is_available() and (not noted or bool(noted[-1].gpu))
    device = torch.device("cuda" if uses_gpu else "cpu")
    return (this_processor(device, noted[-1].threads if noted else 1),)


def _train(target: Target, settings: Settings, root: Path, home: Path, say: Callable[[str], None]) -> None:
    """Runs a sweep of the one training, as its user would, by the code below `root`, in a home of its own."""
    home.mkdir(parents=True, exist_ok=True)
    file, messages = home / f"{NAME}.py", home / MESSAGES
    file.write_text(_sweep_file(target), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    environment |= {"R2D2_HOME": str(home), "R2D2_CACHE": str(settings.cache)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), environment.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "runner", "sweep", str(file), *_options(target, root)]
    say(f"training {target} again; what it prints is in {messages}")
    with (
        messages.open("wb") as output,
        subprocess.Popen(  # noqa: S603  (this program itself)
            command, cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT
        ) as child,
    ):
        _wait(child)
    if child.returncode:
        lines = [line for line in messages.read_text(errors="replace").splitlines() if line.strip()]
        said = next((line for line in lines if line.startswith("failed ")), lines[-1] if lines else "no word")
        raise ValueError(f"the training of the reproduction failed: {said}")


def _wait(child: subprocess.Popen[bytes]) -> None:
    """Waits for a sweep; Ctrl-C, which it hears too, and SIGTERM end it and its own processes."""

    def stop(*_: Any) -> None:
        child.send_signal(signal.SIGINT)
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, stop)
    try:
        child.wait()
    except KeyboardInterrupt:
        try:
            with suppress(subprocess.TimeoutExpired):
                child.wait(STOPS_WITHIN_S)
        finally:
            child.kill()
            child.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, former)


def _sweep_file(target: Target) -> str:
    """The file of a sweep with the one training, whose configuration is taken as it was stored."""
    content = target.sweep.trial_store(target.trial).read(TRIAL_CONFIG)
    assert content is not None
    config, definition = json.loads(content), target.sweep.definition
    if target.photos is not None:
        config["data"]["photos"] = target.photos
    # It chooses nothing, so it is decided by a score that every version of this program lets decide.
    metric, mode = definition.metric, definition.mode
    if VALIDATION in definition.benchmarks:
        metric, mode = f"{VALIDATION}/mma_3px", "max"
    # `baselines` is the name that all versions know for the starting networks.
    fields = f"metric={metric!r}, mode={mode!r}, baselines=False, samples=True"
    return (
        f'"""Does {target.trial.key} come out the same?"""\n\nfrom search_spaces.sweep import Sweep\n\n'
        f"sweep = Sweep(space={pprint.pformat(config)}, {fields})\n"
    )


def _options(target: Target, root: Path) -> list[str]:
    """The options of the sweep's last run that may decide numbers, as the code below `root` knows them."""
    started, noted, wanted = StartedSweep.load(target.sweep.store), _noted(target), dict[str, object]()
    if started is not None:
        run = started.run
        wanted = {"gpus-per-worker": run.gpus_per_worker, "cpus-per-worker": run.cpus_per_worker}
        wanted |= {"evaluator-cpus": run.evaluators.num_cpus, "evaluator-gpus": run.evaluators.num_gpus}
    if not torch.cuda.is_available():
        wanted |= {"gpus-per-worker": 0, "evaluator-gpus": 0}
    elif noted and not noted[-1].gpu:
        wanted["gpus-per-worker"] = 0
    if HPATCHES in target.sweep.definition.benchmarks:
        wanted["hpatches"] = target.hpatches
    if target.trial.config.init == RELEASED:
        wanted["released"] = target.released
    options = [f"--{name}={value}" for name, value in wanted.items() if value is not None]
    # A sweep that its test decides. Earlier code does not ask whether it may.
    if VALIDATION not in target.sweep.definition.benchmarks and _MAY in (root / _VERB).read_text("utf-8"):
        options.append(_MAY)
    return options
