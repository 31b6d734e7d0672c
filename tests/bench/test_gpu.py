"""What `bench/gpu.sh` measures, with the CPU in the GPU's place, and how it runs its checks."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import gpu_checks
import pytest
import torch

from bench.gpu.__main__ import main
from bench.gpu.clock import call_times, each
from bench.gpu.parity import CPU, compared, outcome
from bench.gpu.plan import CHECKS, Check
from bench.gpu.run import run
from bench.gpu.setup import SMALL, Setup
from bench.gpu.steps import network_flops
from bench.gpu.training import RECIPE
from bench.loader import bench_photos
from search_spaces.sweep import load_sweep

ROOT = Path(__file__).parents[2]
# What the machine with the GPU may lack.
ABSENT = (
    "ray",
    "mlflow",
    "boto3",
    "botocore",
    "poselib",
    "rich",
    "requests",
    "click",
    "matplotlib",
    "optuna",
)


def ran(checks, seconds, photos="samples"):
    said = []
    setup = Setup(CPU, photos, scale=SMALL)
    bad = run(checks, setup, seconds, lambda name, figure: said.append((name, figure)))
    return said, bad


def is_running(process):
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_check_prints_a_figure_or_a_reason_on_a_cpu(tmp_path):
    done = subprocess.run(
        ["bash", str(ROOT / "bench" / "gpu.sh"), "--cpu", "--seconds", "850"],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable, "OUT": "figures"},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, lines[-1]
    assert (tmp_path / "figures" / "gpu-all.jsonl").read_text() == done.stdout
    # No figure hides the time of its line.
    assert [line["seconds"] for line in lines] == sorted(line["seconds"] for line in lines)
    for check in CHECKS:
        own = [line for line in lines if line["check"] == check.name]
        assert own, check.name
        assert all(len(line) > 2 for line in own)
    assert lines[-1]["check"] == "end"
    assert lines[-1]["not_well"] == {}


def test_nothing_is_imported_that_the_machine_may_lack():
    modules = [f"bench.gpu.{file.stem}" for file in sorted((ROOT / "bench" / "gpu").glob("*.py"))]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))"
    code = f"{blocked}\nimport importlib\nfor name in {modules}: importlib.import_module(name)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_check_that_fails_hangs_or_dies_does_not_stop_the_others(tmp_path):
    checks = [
        Check(1, 60, gpu_checks.good),
        Check(1, 4, gpu_checks.hangs),
        Check(1, 60, gpu_checks.fails),
        Check(1, 60, gpu_checks.dies),
        Check(1, 60, gpu_checks.misses),
        Check(1, 10_000, gpu_checks.good),
    ]
    said, bad = ran(checks, seconds=250, photos=str(tmp_path))
    names = [name for name, _ in said]
    assert names == ["good"] * 2 + ["hangs"] * 2 + ["fails"] * 2 + ["dies"] * 2 + ["misses", "good"]
    figures = [figure for _, figure in said]
    assert figures[:2] == [{"device": "cpu"}, {"second": 2}]
    assert "ArithmeticError: it went wrong" in figures[5]["failed"]
    assert figures[7] == {"failed": "the process ended"}
    assert figures[3] == {"ended": "it was not done after 8 s"}
    assert figures[9]["skipped"].startswith("may take 10000 s, and ")
    assert bad == {
        "fails": "failed",
        "dies": "failed",
        "hangs": "ended",
        "misses": "failed",
        "good": "skipped",
    }
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not is_running(child):
            break
        time.sleep(0.1)
    assert not is_running(child)


def test_without_time_nothing_is_begun():
    said, bad = ran([Check(1, 5, gpu_checks.dies)], seconds=1)
    assert said == [("dies", {"skipped": "may take 5 s, and 1 s are left"})]
    assert bad == {"dies": "skipped"}


def test_the_calls_fit_into_their_six_minutes():
    for call in (1, 2):
        expected = [check.seconds for check in CHECKS if check.call == call]
        # What comes last may be left out; the first two of a call never are.
        assert sum(expected[:2]) < 360
        assert sum(expected) < 2 * 360
    assert len({check.name for check in CHECKS}) == len(CHECKS)


def test_a_variant_that_fails_does_not_stop_the_others():
    def inverse(number):
        return {"inverse": 1 / number}

    figures = list(each([{"number": 0}, {"number": 2}], inverse))
    assert "ZeroDivisionError" in figures[0]["failed"]
    assert figures[1] == {"number": 2, "inverse": 0.5}


def test_times_are_those_of_the_calls():
    figure = call_times(lambda: time.sleep(0.01), CPU, seconds=0.05)
    assert 10 <= figure["least_ms"] <= figure["median_ms"]
    assert figure["rounds"] >= 3


def test_what_differs_from_the_cpu_is_found():
    setup = Setup(CPU, scale=SMALL)
    found = outcome(setup.config(pairs_per_worker=2), CPU)
    same = compared(found, found, limit=1e-3)
    assert same["good"]
    assert same["gradient"] == same["weights"] == same["descriptors"] == 0
    other = compared(replace(found, losses=tuple(1.01 * loss for loss in found.losses)), found, limit=1e-3)
    assert not other["good"]
    assert other["losses"] == pytest.approx([0.01, 0.01], rel=1e-3)


def test_operations_of_a_pair_are_those_of_its_convolutions():
    # Forwards a multiplication and an addition for each weight and pixel, backwards twice that, less the
    # gradient of the images. `fast` of c = 1, D = 8: three layers and two heads at full size, six at half.
    full = 3 * 8 * 9 + 8 * 8 * 9 + 8 * 16 * 9 + 8 * 3
    half = 16 * 16 * 9 + 16 * 32 * 9 + 32 * 32 * 9 + 2 * 32 * 32 * 4 + 32 * 8 * 4
    one = 2 * 64 * 64 * (full + half / 4)
    images = 2 * 64 * 64 * 3 * 8 * 9
    assert network_flops(Setup(CPU, scale=SMALL), "fast") == 2 * (3 * one - images)
    # A large window is counted by a part of it.
    large = replace(SMALL, side=128)
    assert network_flops(Setup(CPU, scale=large), "fast") == 4 * 2 * (3 * one - images)


def test_the_recipe_is_that_of_the_sweep_of_one_hour():
    (trial,) = load_sweep("one_hour")[0].trials()
    for group, values in RECIPE.items():
        assert values.items() <= trial.config.to_dict()[group].items()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys):
    assert main(["1"]) == 2
    assert "There is no GPU" in capsys.readouterr().err


def test_an_unknown_check_is_refused_by_name():
    with pytest.raises(SystemExit, match="unknown check 'partiy'"):
        main(["--cpu", "--only", "partiy"])


def test_a_folder_without_photographs_of_the_size_is_refused(tmp_path):
    from PIL import Image

    Image.new("RGB", (100, 100)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="holds no photograph of 640x480"), bench_photos(str(tmp_path)):
        pass
