"""`r2d2 extract` of a 20-megapixel photograph fits into 4 GiB, whatever its settings."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from r2d2.checkpoint import save_checkpoint
from r2d2.config import TrainConfig
from r2d2.extraction.keypoint_file import load_keypoints
from r2d2.network import build_network

ROOT = Path(__file__).parents[3]
WIDTH, HEIGHT = 5472, 3648
LIMIT = 4 * 2**30

# VmHWM is the peak of this very program; getrusage's would count what its parent held when it started it.
EXTRACT = """
import re, sys
from pathlib import Path
from runner.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit as done:
    assert not done.code, done.code
print(re.search(r"VmHWM.*", Path("/proc/self/status").read_text())[0])
"""

needs_linux = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="needs Linux, which tells the peak memory of a program"
)


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A JPEG file with texture everywhere."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("photograph") / "large.jpg"
    Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


@pytest.fixture(scope="module", params=["fast", "quad"])
def checkpoint(tmp_path_factory, request):
    """An untrained network of the usual size."""
    folder = tmp_path_factory.mktemp("model") / request.param
    config = TrainConfig.from_dict({"network": {"name": request.param, "channels": 4, "dim": 128}})
    save_checkpoint(folder, build_network(config.network, seed=0), config, epoch=1)
    return folder


@pytest.mark.real_size
@pytest.mark.timeout(3600)
@needs_linux
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param([], id="default"),
        # The largest level of the pyramid at full resolution, where memory peaks; the others would take as
        # long again twice.
        pytest.param(["--min-size", "0", "--max-size", "9999", "--min-scale", "1"], id="full-resolution"),
    ],
)
def test_twenty_megapixels_fit_into_four_gibibytes(photograph, checkpoint, settings):
    # Without thresholds an untrained network has keypoints everywhere, more than any trained one.
    thresholds = ["--min-reliability", "0", "--min-repeatability", "0"]
    command = [sys.executable, "-c", EXTRACT, "extract", str(checkpoint), str(photograph), "--overwrite"]
    done = subprocess.run(
        [*command, *thresholds, *settings], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    peak = int(re.search(r"VmHWM:\s*(\d+) kB", done.stdout)[1]) * 1024
    assert peak < LIMIT, f"the peak is {peak / 2**30:.2f} GiB"
    found = load_keypoints(photograph.with_name("large.jpg.r2d2"))
    assert len(found) == 5000
    assert found.image_size == (WIDTH, HEIGHT)
