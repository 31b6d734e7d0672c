"""What a sweep keeps of a trial may lie on S3: nothing half uploaded counts, and little is asked for."""

import json
import pickle

import pytest
import torch
from faulty_proxy import Fault
from pyarrow.fs import FileSelector, FileType, PyFileSystem

from r2d2.checkpoint import load_checkpoint, load_model, save_checkpoint
from r2d2.config import TrainConfig
from r2d2.network import build_network
from r2d2.network_config import NetworkConfig
from r2d2.storage.errors import StorageError
from r2d2.storage.location import fetched, open_store
from r2d2.training.epoch import make_optimiser
from r2d2.training.siamese import SiameseNetwork
from runner.benchmarks import prepare_data
from runner.record.checkpoints import checkpoint_place, delete_checkpoint, existing, upload_checkpoint
from runner.record.history import TRAIN, History, Record
from runner.record.layout import HEADER, HISTORY, TRIAL_CONFIG
from runner.record.sweep import StoredSweep, sweep_names
from runner.settings import Settings
from runner.trial.progress import ProgressReader, ProgressWriter
from runner.trial.storage import StoreFiles, storage_arguments, uploader
from search_spaces.sweep import Trial

NETWORK = NetworkConfig(name="fast", channels=1, dim=8)
CONFIGURATION = TrainConfig(network=NETWORK)


@pytest.fixture
def trial(s3):
    return open_store(s3.place("home/sweeps/mine/trials/key"), timeout=20)


@pytest.fixture
def local(tmp_path):
    """A checkpoint with the state of an optimiser, on this disk."""
    network = build_network(NETWORK, seed=1)
    optimiser = make_optimiser(SiameseNetwork(network), CONFIGURATION)
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    save_checkpoint(tmp_path / "checkpoint_001", network, CONFIGURATION, 1, optimiser)
    return tmp_path / "checkpoint_001"


def record(trial, epoch):
    return Record(epoch, TRAIN, {}, trial.below(f"train/checkpoint_{epoch:03d}").place)


def test_a_checkpoint_comes_back_from_s3_bit_for_bit(trial, local):
    kept = trial.below("train/checkpoint_001")
    upload_checkpoint(local, kept)
    assert existing([record(trial, 1), record(trial, 2)]) == {kept.place}
    with fetched(kept.place) as folder:
        assert folder.name == "checkpoint_001"
        copy, original = load_checkpoint(folder), load_checkpoint(local)
    assert copy.digest == original.digest
    states = [c.optimiser_state["state"] for c in (copy, original)]
    assert all(torch.equal(states[0][i][n], v) for i, s in states[1].items() for n, v in s.items())
    assert not folder.exists()
    assert load_model(kept.place).name == "checkpoint_001"


def test_a_checkpoint_whose_upload_did_not_end_does_not_count(trial, local, proxy):
    hasty = open_store(trial.place, timeout=0.2).below("train/checkpoint_001")
    proxy.faults = [Fault("weights.safetensors", times=100, method="PUT", cut_upload=2000)]
    with pytest.raises(StorageError, match=r"weights.safetensors: the server does not answer"):
        upload_checkpoint(local, hasty)
    assert existing([record(trial, 1)]) == set()
    # Nor does it where one of that name had been complete.
    proxy.faults = []
    upload_checkpoint(local, hasty)
    assert existing([record(trial, 1)]) == {hasty.place}
    proxy.faults = [Fault("optimiser.safetensors", times=100, method="PUT", status=503)]
    with pytest.raises(StorageError, match="the server answers"):
        upload_checkpoint(local, hasty)
    assert existing([record(trial, 1)]) == set()


def test_an_upload_that_is_cut_and_a_server_that_is_busy_are_outlasted(trial, local, proxy):
    proxy.faults = [
        Fault("weights.safetensors", times=2, method="PUT", cut_upload=2000),
        Fault("optimiser.safetensors", times=3, method="PUT", status=503, code="SlowDown"),
        Fault(HEADER, method="PUT", lose_answer=True),
    ]
    kept = trial.below("train/checkpoint_001")
    upload_checkpoint(local, kept)
    assert [fault.times for fault in proxy.faults] == [0, 0, 0]
    with fetched(kept.place) as folder:
        assert load_checkpoint(folder).digest == load_checkpoint(local).digest


def test_what_the_server_has_is_compared_with_what_was_sent(trial, local, s3, monkeypatch):
    kept = trial.below("train/checkpoint_001")
    head = s3.client.head_object
    monkeypatch.setattr(
        kept._server.client, "head_object", lambda **names: {**head(**names), "ContentLength": 3}
    )
    with pytest.raises(StorageError, match="something else than what was sent"):
        upload_checkpoint(local, kept)
    assert existing([record(trial, 1)]) == set()


def test_ray_train_finds_its_snapshot_and_removes_checkpoints_through_our_client(trial, local):
    arguments = storage_arguments(trial)
    filesystem = pickle.loads(pickle.dumps(arguments["storage_filesystem"]))
    root = arguments["storage_path"]
    assert filesystem.equals(PyFileSystem(StoreFiles(trial)))
    assert filesystem.get_file_info(f"{root}/train/snapshot.json").type == FileType.NotFound
    with filesystem.open_output_stream(f"{root}/train/snapshot.json") as file:
        file.write(b"{}")
    assert filesystem.get_file_info(f"{root}/train/snapshot.json").size == 2
    with filesystem.open_input_stream(f"{root}/train/snapshot.json") as file:
        assert file.read() == b"{}"
    import ray.train

    sent = uploader(trial)(ray.train.Checkpoint.from_directory(str(local)), "checkpoint_001")
    assert checkpoint_place(sent) == f"{trial.place}/train/checkpoint_001"
    assert filesystem.get_file_info(sent.path).type == FileType.Directory
    listed = filesystem.get_file_info(FileSelector(f"{root}/train"))
    assert {info.base_name for info in listed} == {"snapshot.json", "checkpoint_001"}
    filesystem.delete_dir(sent.path)
    assert filesystem.get_file_info(sent.path).type == FileType.NotFound
    assert filesystem.get_file_info(f"{root}/train/snapshot.json").type == FileType.File


def test_following_a_history_costs_one_request_a_look(trial, proxy):
    history = History(trial.below(HISTORY))
    for epoch in range(1, 4):
        history.write(record(trial, epoch))
    looks = iter([False, False, False, True])
    del proxy.requests[:]
    told = list(history.follow(lambda: next(looks), interval=0.01))
    assert [r.epoch for r in told] == [1, 2, 3]
    # Four listings, and each event once.
    assert len(proxy.requests) == 4 + 3


def test_a_removed_checkpoint_is_gone_header_first(trial, local, proxy):
    upload_checkpoint(local, trial.below("train/checkpoint_001"))
    del proxy.requests[:]
    delete_checkpoint(trial.below("train/checkpoint_001"))
    deleted = [path for method, path, _ in proxy.requests if method == "DELETE"]
    assert deleted[0].endswith(HEADER)
    assert len(deleted) == 3
    assert list(trial.walk()) == []


def test_a_stored_sweep_tells_its_trials_the_oldest_first(s3):
    sweep = StoredSweep(open_store(s3.place("home/sweeps/mine"), timeout=20))
    trials = [Trial(TrainConfig(seed=seed)) for seed in (5, 1, 3)]
    for trial in trials:
        sweep.store.write(f"trials/{trial.key}/{TRIAL_CONFIG}", json.dumps(trial.config.to_dict()).encode())
    assert sorted(t.key for t in sweep.trials()) == sorted(t.key for t in trials)
    modified = {f.name: f.modified for f in sweep.store.walk("trials")}
    # To the second: of a single object the server tells no more.
    times = [int(modified[f"trials/{t.key}/{TRIAL_CONFIG}"]) for t in sweep.trials()]
    assert times == sorted(times)
    assert sweep.name == "mine"
    with pytest.raises(ValueError, match=r"there is no sweep 'mine' in s3://.*/home/sweeps; known: none"):
        _ = sweep.definition
    sweep.store.write("sweep.json", b"{}")
    assert sweep_names(open_store(s3.place("home/sweeps"))) == ["mine"]


def test_progress_is_written_and_read_beside_the_work(trial, proxy):
    writer, reader = ProgressWriter(trial), ProgressReader(trial)
    writer.write({"epoch": 2, "step": 3, "steps": 4})
    writer._thread.join()
    assert reader.position() == 0
    while reader._asked is not None and not reader._asked.done():
        pass
    assert reader.position() == 1.75
    # So often as a person looks, and no more often is it asked for.
    asked = len(proxy.requests)
    for _ in range(50):
        reader.position()
        writer.write({"epoch": 2, "step": 4, "steps": 4})
    assert len(proxy.requests) == asked


def test_progress_that_cannot_be_written_stops_nobody(trial, proxy):
    proxy.down = True
    writer = ProgressWriter(trial)
    writer.write({"epoch": 2, "step": 3, "steps": 4})
    writer._thread.join(10)
    assert not writer._thread.is_alive()


def test_what_cannot_lie_on_s3_lies_in_the_working_directory(s3, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment({"R2D2_HOME": s3.place("home/")})
    assert settings.home == s3.place("home")
    assert settings.sweep("mine").place == s3.place("home/sweeps/mine")
    assert settings.local == settings.cache.parent == tmp_path / ".r2d2"
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/.r2d2/mlflow.db"
    assert list(tmp_path.iterdir()) == []


def test_a_validation_benchmark_is_where_every_node_finds_it(s3, tmp_path, monkeypatch):
    settings = Settings.from_environment({"R2D2_HOME": s3.place("home"), "R2D2_CACHE": str(tmp_path)})
    config = TrainConfig().data
    arguments = (settings.cache, None, settings.objects)
    here = prepare_data(config, *arguments)
    shared = prepare_data(config, *arguments, settings.benchmarks)
    assert shared.benchmarks[0].folder.startswith(s3.place("home/benchmarks/"))
    assert shared.digests == here.digests
    before = {f.name: f.modified for f in settings.benchmarks.walk()}
    assert prepare_data(config, *arguments, settings.benchmarks).digests == here.digests
    assert {f.name: f.modified for f in settings.benchmarks.walk()} == before
