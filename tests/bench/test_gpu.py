"""The benchmark of loader and GPU, small and on the CPU."""

import pytest
import torch

from bench.gpu import Load, main, speeds
from bench.loader import bench_photos
from r2d2.config import PIXELS
from r2d2.network_config import NetworkConfig

SMALL = Load(warm_up=1, measured=1, processes=0, network=NetworkConfig("fast", channels=1, dim=8))


@pytest.mark.parametrize("pixels", PIXELS)
def test_it_measures_loader_step_and_both(pixels):
    with bench_photos(None) as photos:
        found = speeds(photos, torch.device("cpu"), SMALL, pixels)
    assert list(found) == ["loader", "step", "together"]
    assert all(value > 0 for value in found.values())
    # Both together cannot be much quicker than the slower one; single steps differ by chance.
    assert found["together"] < 3 * min(found["loader"], found["step"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bench.gpu"])
    assert main() == 0
    assert "There is no GPU" in capsys.readouterr().out


def test_a_folder_without_photographs_of_the_size_is_refused(tmp_path):
    from PIL import Image

    Image.new("RGB", (100, 100)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="holds no photograph of 640x480"), bench_photos(str(tmp_path)):
        pass
