"""A published model holds the files of its checkpoint, by name, and nothing that a link points to."""

from __future__ import annotations

import pytest
from mlflow.models import Model

from r2d2.checkpoint import save_checkpoint
from r2d2.config import TrainConfig
from r2d2.network import build_network
from runner.registry.package import CHECKPOINT_PATH, save_package

CONFIG = TrainConfig.from_dict({"network": {"name": "fast", "channels": 1, "dim": 16}})


@pytest.fixture
def checkpoint(tmp_path):
    save_checkpoint(tmp_path / "checkpoint", build_network(CONFIG.network, seed=0), CONFIG, epoch=1)
    (tmp_path / "secret").write_text("a secret of this machine")
    return tmp_path / "checkpoint"


def test_what_others_put_beside_a_checkpoint_is_not_published(checkpoint, tmp_path):
    (checkpoint / "notes.txt").write_text("mine")
    (checkpoint / "key").symlink_to(tmp_path / "secret")
    save_package(checkpoint, tmp_path / "package", Model())
    published = {path.name for path in (tmp_path / "package" / CHECKPOINT_PATH).iterdir()}
    assert published == {"config.json", "weights.safetensors"}


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "optimiser.safetensors"])
def test_a_link_in_the_place_of_a_file_is_refused(checkpoint, tmp_path, name):
    (checkpoint / name).unlink(missing_ok=True)
    (checkpoint / name).symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match=rf"{name} is a link or no regular file"):
        save_package(checkpoint, tmp_path / "package", Model())
    assert not (tmp_path / "package").exists()
