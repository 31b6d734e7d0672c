"""The pairs of an epoch are the same whoever prepares them, and one bad photo does not stop it."""

import multiprocessing
import pickle
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from r2d2.config import TrainConfig
from r2d2.data.images import NOTHING
from r2d2.data.loader import MAX_LISTED, PairDataset, TooManyBadPhotos, epoch_loader
from r2d2.data.photos import open_photos
from r2d2.data.share import Share


def config_of(processes=0, pairs_per_worker=4, seed=0, **data):
    data = {"crop_size": 48, "loader_processes": processes, **data}
    return TrainConfig.from_dict({"data": data, "pairs_per_worker": pairs_per_worker, "seed": seed})


@pytest.fixture
def photos(tmp_path):
    return photos_in(tmp_path / "photos", 10)


def photos_in(folder, count):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(count):
        blobs = Image.fromarray(rng.integers(0, 256, (8, 10, 3), np.uint8))
        blobs.resize((60, 48), Image.Resampling.BICUBIC).save(folder / f"{k:03}.png")
    return open_photos(str(folder))


def spoil(photos, *which):
    """The same photographs, some of them cut off, opened anew."""
    for k in which:
        photos.paths[k].write_bytes(photos.paths[k].read_bytes()[:300])
    return open_photos(str(photos.paths[0].parent))


def content(batches):
    """Everything about batches, to the byte."""
    return [
        (b.samples, b.refused, *(t.numpy().tobytes() for t in (b.image1, b.image2, b.aflow))) for b in batches
    ]


def pairs(batches):
    """Everything about their pairs, one by one."""
    return [
        (name, *(t[k].numpy().tobytes() for t in (b.image1, b.image2, b.aflow)))
        for b in batches
        for k, name in enumerate(b.samples)
    ]


def photos_of(batches):
    return [name.split()[0] for b in batches for name in b.samples]


def test_batches_have_their_size_and_the_incomplete_last_one_is_left_out(photos):
    loader = epoch_loader(photos, config_of(pairs_per_worker=4), epoch=0)
    batches = list(loader)
    assert len(loader) == len(batches) == 2
    assert all(batch.image1.shape == (4, 3, 48, 48) for batch in batches)
    assert all(batch.aflow.shape == (4, 2, 48, 48) for batch in batches)


def test_samples_are_called_after_photo_epoch_and_number(photos):
    dataset = PairDataset(photos, config_of(), epoch=3)
    batch = next(iter(epoch_loader(photos, config_of(), epoch=3)))
    assert batch.samples[1] == f"{photos.names[dataset.order[1]]} epoch 3 pair 1"


def test_every_photo_has_its_turn_in_another_order_each_epoch(photos):
    config = config_of(pairs_per_worker=1)
    turns = [photos_of(epoch_loader(photos, config, epoch)) for epoch in range(3)]
    assert all(sorted(names) == list(photos.names) for names in turns)
    assert len({tuple(names) for names in turns}) == 3


def test_longer_epochs_cycle_through_fresh_orders(photos):
    config = config_of(pairs_per_worker=1, pairs_per_epoch=25)
    names = photos_of(epoch_loader(photos, config, 0))
    assert len(names) == 25
    assert sorted(names[:10]) == sorted(names[10:20]) == list(photos.names)
    assert names[:10] != names[10:20]
    assert len(set(names[20:])) == 5


def test_shorter_epochs_take_some_photos(photos):
    names = photos_of(epoch_loader(photos, config_of(pairs_per_worker=1, pairs_per_epoch=4), 0))
    assert len(set(names)) == 4


def test_pairs_of_one_photo_differ(photos):
    config = config_of(pairs_per_worker=1, pairs_per_epoch=20)
    assert len({made[1:] for made in pairs(epoch_loader(photos, config, 0))}) == 20


@pytest.mark.parametrize("change", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_and_another_epoch_are_other_pairs(photos, change):
    usual = pairs(epoch_loader(photos, config_of(), 0))
    other = pairs(epoch_loader(photos, config_of(seed=change.get("seed", 0)), change.get("epoch", 0)))
    assert not {made[1] for made in usual} & {made[1] for made in other}


def test_iterating_again_gives_the_same(photos):
    loader = epoch_loader(photos, config_of(), 0)
    assert content(loader) == content(loader)


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_workers_share_the_steps_of_one(photos, num_workers):
    alone = content(epoch_loader(photos, config_of(pairs_per_worker=4), 0))
    parts = [
        pairs(epoch_loader(photos, config_of(pairs_per_worker=4 // num_workers), 0, rank, num_workers))
        for rank in range(num_workers)
    ]
    assert {len(part) for part in parts} == {8 // num_workers}
    size = 4 // num_workers
    together = [made for k in range(2) for part in parts for made in part[k * size : (k + 1) * size]]
    assert together == pairs(epoch_loader(photos, config_of(pairs_per_worker=4), 0))
    assert len(alone) == 2


@pytest.mark.parametrize("processes", [0, 2])
def test_a_worker_that_stands_in_for_others_makes_their_parts_in_turn(photos, processes):
    config = config_of(processes, pairs_per_worker=1)
    alone = [content(epoch_loader(photos, config, 0, part, 3)) for part in range(3)]
    loader = epoch_loader(photos, config, 0, share=Share.of_worker(0, 2, 3))
    assert len(loader) == len(alone[0]) + len(alone[2])
    expected = [part for step in zip(alone[0], alone[2], strict=True) for part in step]
    assert content(loader) == expected
    later = epoch_loader(photos, config, 0, start_step=1, share=Share.of_worker(0, 2, 3))
    assert content(later) == expected[2:]


def test_loader_processes_change_no_byte_and_leave_nobody_behind(photos):
    photos = spoil(photos, 3)
    in_process = content(epoch_loader(photos, config_of(0), 0))
    for processes in (1, 2):
        assert content(epoch_loader(photos, config_of(processes), 0)) == in_process
        assert multiprocessing.active_children() == []
    assert any(refused for _, refused, *_ in in_process)
    half_way = iter(epoch_loader(photos, config_of(2), 0))
    next(half_way)
    half_way.close()
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("on_gpu", [False, True])
def test_where_a_gpu_trains_the_loader_pins_its_batches_ahead(photos, monkeypatch, on_gpu):
    asked = {}

    def loader(*_, **settings):
        asked.update(settings)
        return iter(())

    monkeypatch.setattr("r2d2.data.loader.DataLoader", loader)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: on_gpu)
    assert list(epoch_loader(photos, config_of(processes=1), epoch=1)) == []
    assert asked["pin_memory"] is on_gpu


def test_batches_that_are_kept_stay_as_they_were_while_others_come(photos):
    config = config_of(2, pairs_per_worker=1, pairs_per_epoch=24)
    kept, seen = {}, []
    for number, batch in enumerate(epoch_loader(photos, config, epoch=0)):
        if number % 8 == 0:
            kept[number] = batch
        seen += content([batch])
    assert seen == content(
        epoch_loader(photos, replace(config, data=replace(config.data, loader_processes=0)), 0)
    )
    assert {number: content([batch])[0] for number, batch in kept.items()} == {k: seen[k] for k in (0, 8, 16)}


def test_pixels_made_on_a_device_are_the_same_whoever_prepares_the_pairs(photos):
    def rendered(*arguments, processes=0, **options):
        loader = epoch_loader(spoiled, config_of(processes, pixels="device"), 0, *arguments, **options)
        return content(batch.to(torch.device("cpu")) for batch in loader)

    spoiled = spoil(photos, 3)
    alone = rendered()
    assert [names[:2] for names in alone] == [
        names[:2] for names in content(epoch_loader(spoiled, config_of(), 0))
    ]
    assert rendered(processes=2) == alone
    assert rendered(start_step=1) == alone[1:]
    assert any(refused for _, refused, *_ in alone)


def test_the_global_generators_are_left_alone(photos):
    before = torch.get_rng_state()
    for processes in (0, 1):
        next(iter(epoch_loader(photos, config_of(processes), 0)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("pairs_per_worker", "num_workers", "pairs_per_epoch"), [(11, 1, 0), (6, 2, 0), (4, 1, 3)]
)
def test_an_epoch_without_a_batch_is_an_error(photos, pairs_per_worker, num_workers, pairs_per_epoch):
    config = config_of(pairs_per_worker=pairs_per_worker, pairs_per_epoch=pairs_per_epoch)
    with pytest.raises(ValueError, match=f"does not fill one batch of {pairs_per_worker} pairs"):
        epoch_loader(photos, config, 0, 0, num_workers)


def test_a_photo_that_is_replaced_while_training_is_not_used(photos):
    other = Image.new("RGB", (60, 48), (200, 100, 50))
    other.save(photos.paths[3])
    (batch,) = epoch_loader(photos, config_of(pairs_per_worker=10), 0)
    ((file, reason),) = batch.refused
    assert file == str(photos.paths[3])
    assert "changed while in use" in reason


def test_a_bad_photo_is_replaced_and_reported_and_its_neighbours_stay(photos):
    config = config_of(pairs_per_worker=10)
    (sound,) = epoch_loader(photos, config, 0)
    photos = spoil(photos, 3)
    (batch,) = epoch_loader(photos, config, 0)
    ((file, reason),) = batch.refused
    assert file == str(photos.paths[3])
    assert "truncated" in reason
    bad = next(k for k, name in enumerate(sound.samples) if name.startswith("003.png"))
    assert batch.samples[bad].split()[0] in set(photos.names) - {"003.png"}
    assert batch.samples[bad].endswith(f"epoch 0 pair {bad}")
    for k, (before, after) in enumerate(zip(pairs([sound]), pairs([batch]), strict=True)):
        assert (before == after) == (k != bad)


def test_pictures_of_nothing_are_replaced_and_reported_and_stop_no_epoch(photos):
    for path in photos.paths[:3]:
        Image.fromarray(np.zeros((48, 60, 4), np.uint8)).save(path)
    photos = open_photos(str(photos.paths[0].parent))
    (batch,) = epoch_loader(photos, config_of(pairs_per_worker=10), 0)
    assert dict(batch.refused) == {str(path): NOTHING for path in photos.paths[:3]}
    assert not {path.name for path in photos.paths[:3]} & set(photos_of([batch]))


def test_one_bad_photo_of_few_never_stops_an_epoch(photos):
    photos = spoil(photos, 3)
    config = config_of(pairs_per_worker=5, pairs_per_epoch=40)
    batches = list(epoch_loader(photos, config, 0))
    assert len(batches) == 8
    assert {file for batch in batches for file, _ in batch.refused} == {str(photos.paths[3])}


@pytest.mark.parametrize("processes", [0, 1])
def test_two_bad_photos_of_ten_stop_the_epoch_with_the_list(photos, processes):
    photos = spoil(photos, 3, 5)
    with pytest.raises(
        TooManyBadPhotos, match="2 of 10 photographs cannot be used, which is more than 1%"
    ) as bad:
        list(epoch_loader(photos, config_of(processes, pairs_per_worker=5), 0))
    assert {file for file, _ in bad.value.refused} == {str(photos.paths[k]) for k in (3, 5)}
    for k in (3, 5):
        assert str(photos.paths[k]) in str(bad.value)


@pytest.mark.parametrize(("bad", "stops"), [(2, False), (3, True)])
def test_one_in_a_hundred_may_be_bad_and_not_more(tmp_path, bad, stops):
    photos = photos_in(tmp_path / "many", 200)
    photos = spoil(photos, *range(bad))
    loader = epoch_loader(photos, config_of(pairs_per_worker=40), 0)
    if not stops:
        assert len(list(loader)) == 5
        return
    with pytest.raises(TooManyBadPhotos, match="3 of 200 photographs"):
        list(loader)


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize("count", [1, 10])
def test_a_folder_without_a_single_usable_photo(tmp_path, count, processes):
    photos = photos_in(tmp_path / "spoilt", count)
    photos = spoil(photos, *range(count))
    with pytest.raises(TooManyBadPhotos, match=f"{count} of {count} photographs cannot be used"):
        list(epoch_loader(photos, config_of(processes, pairs_per_worker=1), 0))


def test_a_long_list_is_cut():
    refused = tuple((f"{k}.jpg", "truncated") for k in range(MAX_LISTED + 7))
    text = str(TooManyBadPhotos(refused, 500))
    assert text.startswith("17 of 500 photographs cannot be used, which is more than 1%: 0.jpg: truncated; ")
    assert "9.jpg" in text
    assert "10.jpg" not in text
    assert text.endswith("; and 7 more")


def test_the_failure_travels_between_processes():
    failure = TooManyBadPhotos((("a.jpg", "why"),), 5)
    copy = pickle.loads(pickle.dumps(failure))
    assert (str(copy), copy.refused, copy.opened) == (str(failure), failure.refused, 5)


SCRIPT = """
import multiprocessing
import sys

from r2d2.config import TrainConfig
from r2d2.data.loader import epoch_loader
from r2d2.data.photos import open_photos

if __name__ == "__main__":
    data = {"crop_size": 48, "loader_processes": 2, "pairs_per_epoch": int(sys.argv[2])}
    config = TrainConfig.from_dict({"data": data, "pairs_per_worker": 5})
    for batch in epoch_loader(open_photos(sys.argv[1]), config, 0):
        print(len(batch), *(process.pid for process in multiprocessing.active_children()), flush=True)
        if len(sys.argv) > 3:
            sys.stdin.read()
"""


def alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_loader_processes_work_from_a_plain_script(photos, tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "train.py", photos.paths[0].parent, "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["5", "5"]
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_killing_the_training_ends_its_loader_processes(photos, tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "train.py", photos.paths[0].parent, "10000", "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as training:
        processes = [int(pid) for pid in training.stdout.readline().split()[1:]]
        assert len(processes) == 2
        assert all(alive(pid) for pid in processes)
        training.kill()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in processes):
        assert time.monotonic() < deadline
        time.sleep(0.05)
