"""Runs the README's commands on small inputs and compares what they print and write with the recording.

`make walk` compares; `make walk RECORD=1` records anew. Times, sizes, dates, addresses, folders, digests and
run ids are blanked. Everything else is the same on every run on one kind of processor, whose name opens the
recording; on another one the last bits of trainings differ, and decimal fractions are left out of the
comparison.
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORDING = Path(__file__).with_name("recording.txt")
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from miniatures import moved_views, save  # noqa: E402

# In braces: folders of the walk.
COMMANDS = (
    "--version",
    "--help",
    "sweeps",
    "settings rate",
    "sweep smoke --dry-run --seconds-per-epoch 10",
    "sweep smoke --concurrent 1",
    "resume smoke",
    "extend smoke --set seed=1",
    "retry smoke --failed",
    "compare smoke --metric validation/mma_1px --html {out}/page.html",
    "promote smoke",
    "promote smoke --force",
    "promote --list",
    "promote --rollback",
    "sync smoke",
    "prune",
    "evaluate models:/r2d2@champion --protocol validation --benchmark {benchmark} --json {out}/scores.json",
    "extract models:/r2d2@champion {photos} --min-reliability 0 --min-repeatability 0 --top-k 300",
    "show models:/r2d2@champion {photos}/0.png {photos}/1.png --out {out}/show.png --top-k 300",
    "data list",
    "data check {photos}",
    "sweep no_such_sweep",
    "sweep smoke --set rate=1",
)
BLANKS = (
    (r"\x1b\[[0-9;]*[A-Za-z]", ""),
    (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{32}\b|\b[0-9a-f]{12}\b", "<ID>"),
    (r"\b\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:\d\d)?)?", "<DATE>"),
    (r"https?://[^\s\"'<>]*", "<URL>"),
    (r"\b\d+(\.\d+)? ?(ms|s|min|h|minutes|seconds|hours)\b", "<TIME>"),
    (r"\b\d+(\.\d+)? ?(B|KiB|MiB|GiB|kB|MB|GB|TB)\b", "<SIZE>"),
    (r"\b\d+(\.\d+)? (pairs|images|megapixels)/s\b", "<SPEED>"),
    # A bar that tells how far a command is.
    (r"^.*━+ +\d+/\d+.*\n", ""),
    (r"[^\S\n]+$", ""),
)
# What is said of a trial while it runs: trials run at once, in no certain order.
OF_TRIAL = re.compile(r"[a-z0-9-]+-s\d+-[0-9a-f]{8}: ")
FRACTION = re.compile(r"[-+]?\d+\.\d+(e[-+]?\d+)?")


def main() -> int:
    """0 if everything is as recorded, or was recorded."""
    with tempfile.TemporaryDirectory(prefix="walk") as folder:
        lines = [f"processor: {processor()}", *walk(Path(folder))]
    if "--record" in sys.argv:
        RECORDING.write_text("\n".join(lines) + "\n")
        print(f"recorded {len(lines)} lines in {RECORDING.relative_to(ROOT)}")
        return 0
    recorded = RECORDING.read_text().splitlines()
    if recorded[0] != lines[0]:
        print("recorded on another processor: decimal fractions are not compared")
        recorded, lines = ([FRACTION.sub("#.#", line) for line in text[1:]] for text in (recorded, lines))
    found = list(difflib.unified_diff(recorded, lines, "recorded", "now", lineterm="", n=2))
    print("\n".join(found) if found else f"the same: {len(lines)} lines of {len(COMMANDS)} commands")
    return bool(found)


def processor() -> str:
    names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return names[0] if names else platform.machine()


def walk(folder: Path) -> Iterator[str]:
    """Lines of what the commands print, each followed by the names of the files that are new or gone."""
    places = {"home": folder / "home", "out": folder / "out", "photos": folder / "photos"}
    places["benchmark"] = folder / "benchmark"
    for number in range(6):
        moved = (3 * number, -2 * number)
        view = moved_views(0, moved, size=(352, 288))[1]
        save(places["photos"] / f"{number}.png", view)
        save(places["benchmark"] / "v_scene" / f"{number + 1}.png", view)
        if number:
            (places["benchmark"] / "v_scene" / f"H_1_{number + 1}").write_text(
                f"1 0 {-moved[0]}\n0 1 {-moved[1]}\n0 0 1\n"
            )
    places["out"].mkdir()
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("R2D2_", "RAY_", "MLFLOW_", "AWS_"))}
    own = {"R2D2_HOME": places["home"], "XDG_CONFIG_HOME": folder / "config", "COLUMNS": 120}
    environment = kept | {name: str(value) for name, value in own.items()} | {"OMP_NUM_THREADS": "1"}
    before = names_in(folder)
    for command in COMMANDS:
        words = command.format_map({name: str(path) for name, path in places.items()}).split()
        done = subprocess.run(
            [sys.executable, "-m", "runner", *words],
            env=environment | {"PYTHONPATH": str(ROOT)},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        yield from (
            "",
            f"$ r2d2 {command}",
            *blanked(done.stdout, folder).splitlines(),
            f"= {done.returncode}",
        )
        after = names_in(folder)
        changes = {f"+ {name}" for name in after - before} | {f"- {name}" for name in before - after}
        yield from sorted({blanked(name, folder) for name in changes})
        before = after
    scores = json.loads((places["out"] / "scores.json").read_text())
    del scores["timings"]
    pairs = scores.pop("pairs")
    yield from ("", *(blanked(json.dumps(value, sort_keys=True), folder) for value in (scores, *pairs)))


def names_in(folder: Path) -> set[str]:
    """Of all files, those that differ in their numbers and trials once."""
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    trials = {re.sub(r"(?<=/trials/)[^/]+", "<TRIAL>", name) for name in names}
    return {re.sub(r"\d+", "#", re.sub(r"[0-9a-f]{2}/[0-9a-f]{64}|[0-9a-f]{16,}", "<ID>", n)) for n in trials}


def blanked(text: str, folder: Path) -> str:
    text = text.replace(str(folder), "<FOLDER>")
    for pattern, instead in BLANKS:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    parts = itertools.groupby(text.splitlines(), key=lambda line: bool(OF_TRIAL.match(line)))
    return "\n".join(line for of_trial, lines in parts for line in (sorted(lines) if of_trial else lines))


if __name__ == "__main__":
    sys.exit(main())
