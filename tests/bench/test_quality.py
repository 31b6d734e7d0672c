"""The curve of a tiny training: planned by pairs, scored on the way, printed as a table."""

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from bench import course, quality
from bench.course import planned
from r2d2.checkpoint import load_checkpoint
from r2d2.config import TrainConfig
from r2d2.data.photos import SAMPLES
from r2d2.training.siamese import SiameseNetwork
from search_spaces.sweep import load_sweep

TINY = {
    "network": {"channels": 1, "dim": 8},
    "data": {"photos": SAMPLES, "held_out": 1, "crop_size": 64, "max_shorter_side": 300},
    "optimiser": {"learning_rate": 3e-3, "schedule": "linear", "warmup_steps": 50},
    "pairs_per_worker": 2,
}


@pytest.mark.parametrize(
    ("speed", "minutes", "pairs_per_epoch", "warmup"),
    [(10.0, 60.0, 9000, 50), (1.0, 1.0, 14, 2), (0.01, 0.01, 2, 0)],
)
def test_pairs_and_warm_up_follow_from_the_speed(speed, minutes, pairs_per_epoch, warmup):
    config = planned(TrainConfig.from_dict(TINY), speed, minutes, points=4)
    assert (config.epochs, config.data.pairs_per_epoch) == (4, pairs_per_epoch)
    assert config.optimiser.warmup_steps == warmup
    assert config.optimiser.schedule == "linear"


def test_the_recipe_is_that_of_the_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (trial,) = load_sweep("one_hour")[0].trials()
    found = quality.recipe("photos")
    assert found.data.photos == str(tmp_path / "photos")
    assert replace(found, data=trial.config.data, compute=trial.config.compute) == trial.config


@pytest.mark.parametrize("fastest", [torch.float32, torch.bfloat16, torch.float16])
def test_it_trains_in_16_bits_where_these_are_quicker(monkeypatch, fastest):
    monkeypatch.setattr(quality, "fast_precision", lambda _: fastest)
    precision = quality.recipe("photos").compute.precision
    assert precision == ("float32" if fastest == torch.float32 else "bfloat16")


def test_it_trains_in_the_arithmetic_of_its_configuration(tmp_path, monkeypatch):
    precisions = []

    class Noted(SiameseNetwork):
        def __init__(self, network, **options):
            super().__init__(network, **options)
            precisions.append("bfloat16" if self.autocast else "float32")

    monkeypatch.setattr(course, "SiameseNetwork", Noted)
    config = TrainConfig.from_dict({**TINY, "compute": {"precision": "bfloat16"}})
    planned_course = course.Course(config, tmp_path)
    planned_course.train(planned_course.plan(0.001, 1), {})
    assert precisions == ["bfloat16", "bfloat16"]


@pytest.fixture
def bench_quality(tmp_path, monkeypatch):
    """Runs the command with a tiny network where no ../shared is."""
    monkeypatch.setattr(quality, "SHARED", tmp_path / "nowhere")
    monkeypatch.setattr(quality, "recipe", lambda photos: TrainConfig.from_dict(TINY))

    def run(*options):
        arguments = ["--threads", str(torch.get_num_threads()), "--out", str(tmp_path / "out"), *options]
        return CliRunner().invoke(quality.main, arguments, catch_exceptions=False)

    return run


@pytest.mark.slow
def test_a_tiny_training_has_a_curve_and_a_table(bench_quality, tmp_path):
    result = bench_quality("--minutes", "0.005", "--points", "2")
    assert result.exit_code == 0
    assert "Not scored on HPatches: name its folder with --hpatches" in result.output
    assert "No released networks beside it" in result.output
    first, second = json.loads((tmp_path / "out" / "curve.json").read_text())["points"]
    assert first["pairs"] >= 2
    assert second["pairs"] == 2 * first["pairs"]
    assert 0 < first["minutes"] < second["minutes"]
    for point in (first, second):
        for name in ("overall", "illumination", "viewpoint"):
            shares = point["scores"]["validation"][name]
            assert len(shares) == 4
            assert 0 <= shares[0] <= shares[-1] <= 1
            assert shares == sorted(shares)
        assert " ".join([f"{share:.3f}" for share in shares][:1]) in result.output
    weights = [load_checkpoint(tmp_path / "out" / f"checkpoint_00{n}") for n in (1, 2)]
    assert [saved.epoch for saved in weights] == [1, 2]
    assert weights[0].digest != weights[1].digest
    # The schedule is that of the planned pairs: its last step has a twentieth of the peak.
    assert second["metrics"]["train/learning_rate"] == pytest.approx(3e-3 / 20)


def test_no_minutes_are_refused(bench_quality):
    result = bench_quality("--minutes", "0")
    assert result.exit_code == 2
    assert "0" in result.output
