"""A stored sweep of one variant with three seeds, on photographs of its own, that nobody trained."""

import numpy as np
import pytest
from PIL import Image

from r2d2.config import TrainConfig
from r2d2.data.training_data import open_training_data
from runner.record.definition import SweepDefinition
from runner.record.history import TRAIN, Record, put_json
from runner.record.provenance import save_files
from runner.record.sweep import StoredSweep
from runner.settings import Settings
from search_spaces.sweep import Trial

SCORES = (0.50, 0.52, 0.51)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(generator.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def settings(tmp_path):
    return Settings.from_environment({"R2D2_HOME": str(tmp_path / "home")})


@pytest.fixture
def write_score():
    """Writes an epoch that was trained and scored."""

    def write(history, evaluation, score, attempt=None):
        metrics, table = (
            {"train/loss_total": 1.0, "train/pairs_per_second": score},
            "table_001.validation.json",
        )
        history.write(Record(1, TRAIN, metrics, "uri", attempt=attempt))
        put_json(history.store, table, evaluation.to_json())
        history.write(Record(1, "validation", {"validation/mma_3px": score}, "uri", table, attempt=attempt))

    return write


@pytest.fixture
def store_sweep(settings, photos, make_evaluation, write_score):
    """Writes a sweep; returns it."""

    def store(seeds=(0, 1, 2), init="scratch", name="mine", attempt=None):
        sweep = StoredSweep(settings.sweep(name))
        data = {"photos": str(photos), "held_out": 1}
        for seed, score in zip(seeds, SCORES, strict=False):
            trial = Trial(TrainConfig.from_dict({"data": data, "seed": seed, "init": init, "epochs": 1}))
            put_json(sweep.trial_store(trial), "config.json", trial.config.to_dict())
            write_score(sweep.history(trial), make_evaluation(), score, attempt)
        opened = open_training_data(trial.config.data)
        save_files(sweep.store, opened.training.contents | opened.held_out.contents)
        benchmarks = {"validation": {"protocol": "validation", "protocol_digest": "p", "digest": "d"}}
        keys = {trial.key: trial.config.to_dict() for trial in sweep.trials()}
        SweepDefinition(name, "validation/mma_3px", "max", keys, {}, "", benchmarks, "i").save(sweep.store)
        return sweep

    return store
