"""Models, benchmarks and features on S3 are used like those in folders, and give the same figures."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from r2d2.checkpoint import save_checkpoint
from r2d2.config import TrainConfig
from r2d2.network import build_network
from runner.__main__ import main
from runner.settings import Settings
from runner.sweep.plan import SweepOptions, plan_sweep

# Keypoints of a network that was never trained.
ALL = ("--min-size", 0, "--min-reliability", 0, "--min-repeatability", 0, "--top-k", 50)
TINY = TrainConfig.from_dict({"network": {"channels": 1, "dim": 32}})


@pytest.fixture
def r2d2(tmp_path, monkeypatch):
    for name in ("R2D2_CACHE", "R2D2_HPATCHES", "R2D2_RELEASED", "R2D2_CACHE_GIB", "R2D2_OBJECTS_GIB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("R2D2_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def checkpoint(tmp_path, s3):
    """A checkpoint in the folder `net`, and at `models/net` on S3."""
    folder = tmp_path / "net"
    save_checkpoint(folder, build_network(TINY.network, seed=0), TINY, epoch=1)
    s3.put_folder(folder, "models/net")
    return folder


@pytest.fixture
def benchmark(tmp_path, s3):
    """One sequence in the folder `bench`, with features `1.png.mine`, and the same at `sets/bench` on S3."""
    folder = tmp_path / "bench" / "i_one"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)
    for number in range(1, 7):
        Image.fromarray(pixels).save(folder / f"{number}.png")
        places = rng.uniform(5, 90, (20, 2))
        descriptors = np.eye(20, 32)
        with (folder / f"{number}.png.mine").open("wb") as file:
            np.savez(file, keypoints=places, descriptors=descriptors, scores=np.ones(20))
    for number in range(2, 7):
        np.savetxt(folder / f"H_1_{number}", np.eye(3))
    s3.put_folder(folder.parent, "sets/bench")
    return folder.parent


def figures(result, path):
    assert result.exit_code == 0, result.output
    scored = json.loads(path.read_text())
    scored.pop("timings", None)
    return scored


@pytest.mark.parametrize("what", ["model", "features"])
def test_evaluate(r2d2, s3, checkpoint, benchmark, tmp_path, what):
    here, there = ["--features", "mine"], ["--features", "mine"]
    if what == "model":
        here, there = [checkpoint], [s3.place("models/net")]
    found = []
    for model, place in ((here, benchmark), (there, s3.place("sets/bench"))):
        path = tmp_path / "scores.json"
        result = r2d2("evaluate", *model, "--benchmark", place, "--json", path, "--no-cache", *ALL)
        found.append(figures(result, path))
    assert found[0] == found[1]
    assert min(pair["keypoints1"] for pair in found[0]["pairs"]) > 0


def test_compare_extract_and_show(r2d2, s3, checkpoint, benchmark, tmp_path):
    net, image = s3.place("models/net"), benchmark / "i_one" / "1.png"
    compared = r2d2("compare", f"mine={net}", "features:mine", "--benchmark", s3.place("sets/bench"))
    assert compared.exit_code == 0, compared.output
    assert "mine" in compared.output
    extracted = r2d2("extract", net, image, *ALL)
    assert extracted.exit_code == 0, extracted.output
    assert image.with_name("1.png.r2d2").is_file()
    shown = r2d2("show", net, image, "--out", tmp_path / "shown.png")
    assert shown.exit_code == 0, shown.output


def test_keypoints_of_images_on_s3_are_stored_beside_them(r2d2, s3, checkpoint, benchmark):
    place = s3.place("sets/bench")
    extracted = r2d2("extract", checkpoint, place, *ALL)
    assert extracted.exit_code == 0, extracted.output
    assert "6 images extracted" in extracted.output
    assert r2d2("extract", checkpoint, benchmark / "i_one" / "1.png", *ALL).exit_code == 0
    stored = s3.client.get_object(Bucket=s3.bucket, Key="sets/bench/i_one/1.png.r2d2")["Body"].read()
    assert stored == (benchmark / "i_one" / "1.png.r2d2").read_bytes()
    assert "0 images extracted, 6 existed already" in r2d2("extract", checkpoint, place, *ALL).output
    refused = r2d2("extract", checkpoint, s3.place("models/net"))
    assert refused.exit_code == 2
    assert "holds no image" in refused.output.splitlines()[-1]


def test_what_is_not_on_s3_is_one_sentence(r2d2, s3, checkpoint, benchmark):
    for arguments, sentence in (
        ((s3.place("models/other"), "--benchmark", benchmark), "there is nothing at s3://"),
        ((s3.place("models/other.pt"), "--benchmark", benchmark), "there is nothing at s3://"),
        ((checkpoint, "--benchmark", "s3://no-such-bucket-here/x"), "there is no such bucket"),
        ((checkpoint, "--benchmark", s3.place("models/net")), "holds no sequences"),
        ((s3.place("sets/bench"), "--benchmark", benchmark), "holds neither config.json"),
    ):
        result = r2d2("evaluate", *arguments)
        assert (result.exit_code, "Traceback" in result.output) == (2, False), result.output
        assert sentence in result.output.splitlines()[-1]


def test_a_sweep_is_defined_alike_from_a_folder_and_from_s3(s3, checkpoint, benchmark, tmp_path):
    path = tmp_path / "tuned.py"
    path.write_text(
        '"""Does it?"""\n\nfrom search_spaces.sweep import Sweep\n'
        'sweep = Sweep(samples=True, space={"init": "released", "network": {"channels": 1, "dim": 32},'
        ' "epochs": 1, "data": {"held_out": 2}})\n'
    )
    home = {"R2D2_HOME": str(tmp_path / "home")}
    here = {"R2D2_HPATCHES": str(benchmark), "R2D2_RELEASED": str(checkpoint)}
    there = {"R2D2_HPATCHES": s3.place("sets/bench"), "R2D2_RELEASED": s3.place("models/net")}
    plans = [
        plan_sweep(str(path), Settings.from_environment({**home, **places}), SweepOptions())
        for places in (here, there)
    ]
    assert plans[0].definition == plans[1].definition
    assert plans[0].definition.init
    assert plans[1].inits["released"] == s3.place("models/net")
    hpatches = plans[1].data.benchmarks[-1]
    assert (hpatches.folder, hpatches.cache) == (
        s3.place("sets/bench"),
        Settings.from_environment(home).objects,
    )
