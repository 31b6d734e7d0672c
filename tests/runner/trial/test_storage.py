"""What Ray Train keeps in a trial's folder is whole or not there, and what is damaged is done without."""

import json

import pytest
import ray.train
import torch
from pyarrow.fs import FileType
from small_disk import small_disk

from r2d2.checkpoint import save_checkpoint
from r2d2.config import SCRATCH, TrainConfig
from r2d2.network import build_network
from r2d2.storage.location import open_store
from r2d2.training.epoch import make_optimiser
from r2d2.training.siamese import SiameseNetwork
from runner.record.checkpoints import checkpoint_place, existing
from runner.record.history import TRAIN, Record
from runner.record.layout import SNAPSHOT
from runner.trial.storage import (
    drop_damaged_snapshot,
    last_checkpoint,
    remove_forgotten,
    storage_arguments,
    uploader,
)
from runner.trial.task import WorkerTask
from runner.trial.worker import _resume


def snapshot_of(*names: str) -> bytes:
    return json.dumps({"checkpoint_results": [{"checkpoint_dir_name": name} for name in names]}).encode()


@pytest.fixture
def trial(tmp_path):
    """A trial with checkpoints of two epochs and one of the third's steps, and half of a fourth one."""
    store = open_store(tmp_path / "trial")
    for name in ("checkpoint_001", "checkpoint_002", "checkpoint_003_step_000010"):
        store.write(f"train/{name}/config.json", b"{}")
    store.write("train/checkpoint_003/weights.safetensors", b"")
    return store


def test_a_disk_that_is_full_leaves_the_former_snapshot(tmp_path):
    with small_disk(tmp_path / "disk", "1m") as disk:
        arguments = storage_arguments(open_store(disk / "trial"))
        files, path = arguments["storage_filesystem"], f"{arguments['storage_path']}/train/{SNAPSHOT}"
        with files.open_output_stream(path) as file:
            file.write(snapshot_of("checkpoint_001"))
        (disk / "much").write_bytes(bytes(1000 * 1024))
        with pytest.raises(OSError, match="No space left"), files.open_output_stream(path) as file:
            file.write(snapshot_of("checkpoint_001", "checkpoint_002") + b" " * 100_000)
        with files.open_input_stream(path) as file:
            assert file.read() == snapshot_of("checkpoint_001")


def test_a_checkpoint_in_a_folder_counts_when_it_is_complete(trial, tmp_path):
    local = tmp_path / "local"
    local.mkdir()
    (local / "config.json").write_text("{}")
    sent = uploader(trial)(ray.train.Checkpoint.from_directory(str(local)), "checkpoint_004")
    assert checkpoint_place(sent) == f"{trial.place}/train/checkpoint_004"
    assert sent.filesystem.get_file_info(sent.path).type == FileType.Directory
    half = f"{trial.place}/train/checkpoint_003"
    records = [Record(epoch, TRAIN, {}, place) for epoch, place in ((3, half), (4, checkpoint_place(sent)))]
    assert existing(records) == {checkpoint_place(sent)}
    sent.filesystem.delete_dir(sent.path)
    assert existing(records) == set()


def test_the_last_checkpoint_is_the_last_complete_one(trial):
    assert last_checkpoint(trial) == f"{trial.place}/train/checkpoint_003_step_000010"
    trial.write("train/checkpoint_003/config.json", b"{}")
    assert last_checkpoint(trial) == f"{trial.place}/train/checkpoint_003"
    assert last_checkpoint(trial.below("elsewhere")) is None


@pytest.mark.parametrize(
    "content",
    [b"", snapshot_of("checkpoint_001")[:20], b"[]", b"null", b"\xff", snapshot_of("checkpoint_009")],
)
def test_a_snapshot_that_ray_train_could_not_read_is_removed(trial, content):
    trial.write(f"train/{SNAPSHOT}", content)
    assert drop_damaged_snapshot(trial)
    assert trial.read(f"train/{SNAPSHOT}") is None
    assert not drop_damaged_snapshot(trial)


def test_a_sound_snapshot_stays(trial):
    trial.write(f"train/{SNAPSHOT}", snapshot_of("checkpoint_001", "checkpoint_002"))
    assert not drop_damaged_snapshot(trial)
    assert trial.read(f"train/{SNAPSHOT}") is not None


@pytest.mark.parametrize("listed", [(), ("checkpoint_001", "checkpoint_003_step_000010")])
def test_what_ray_train_forgot_in_mid_epoch_goes_when_the_trial_has_ended(trial, listed):
    trial.write("train/checkpoint_001_step_000003/config.json", b"{}")
    trial.write("train/checkpoint_002_step_000003/weights.safetensors", b"")
    if listed:
        trial.write(f"train/{SNAPSHOT}", snapshot_of(*listed))
    whole = {"checkpoint_001", "checkpoint_002", "checkpoint_003"}
    remove_forgotten(trial)
    assert set(trial.folders("train")) == whole | set(listed)


def test_a_training_without_a_snapshot_goes_on_from_the_last_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: None)
    config = TrainConfig.from_dict({"network": {"channels": 1, "dim": 16}, "epochs": 3})
    task = WorkerTask(config.to_dict(), SCRATCH, str(tmp_path), threads=1, started=0.0)
    fresh, trained = (build_network(config.network, seed=seed) for seed in (0, 1))
    assert _resume(fresh, make_optimiser(SiameseNetwork(fresh), config), task).epoch == 1
    for epoch in (1, 2):
        optimiser = make_optimiser(SiameseNetwork(trained), config)
        save_checkpoint(tmp_path / "train" / f"checkpoint_{epoch:03d}", trained, config, epoch, optimiser)
    assert _resume(fresh, make_optimiser(SiameseNetwork(fresh), config), task).epoch == 3
    weights, known = fresh.state_dict(), trained.state_dict()
    assert all(torch.equal(weights[name], known[name]) for name in known)
