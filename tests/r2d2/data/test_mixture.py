"""Sources mixed: how they are written, their shares and order, what is held out, the bytes of pairs."""

import json
import shutil

import miniatures
import numpy as np
import pytest
from PIL import Image

from r2d2.config import DataConfig, TrainConfig
from r2d2.data.loader import TooManyBadPhotos, epoch_loader, most_bad
from r2d2.data.mixture import Ingredient, Mixture
from r2d2.data.photos import open_photos
from r2d2.data.places import open_place
from r2d2.data.source_text import SourceText, absolute_sources, is_sources, parse_sources
from r2d2.data.sources import SOURCES
from r2d2.data.training_data import open_training_data
from r2d2.storage.cache import CacheSettings
from r2d2.storage.errors import PlaceError
from r2d2.storage.location import open_store
from r2d2.storage.manifest import Manifest, ManifestFile

SMALL = {"crop_size": 48, "min_shorter_side": 80, "max_shorter_side": 160, "held_out": 2}


def config_of(sources, pairs_per_worker=2, processes=0, **data):
    data = {**SMALL, "sources": sources, "loader_processes": processes, **data}
    return TrainConfig.from_dict({"data": data, "pairs_per_worker": pairs_per_worker})


def content(batches):
    """Everything about their pairs, one by one, to the byte."""
    return [
        (name, *(t[k].numpy().tobytes() for t in (b.image1, b.image2, b.aflow)))
        for b in batches
        for k, name in enumerate(b.samples)
    ]


@pytest.fixture
def root(tmp_path):
    miniatures.write_own_flow(tmp_path / "own")
    miniatures.write_homographies(tmp_path / "pairs")
    return miniatures.write_wasf(tmp_path)


def everything(root):
    return f"wasf={root}, flow={root}/own, homographies={root}/pairs*2, photos={root}/revisitop1m*0.5"


class Fake:
    """A source of so many items."""

    photos = None

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def files(self, item):
        return (type("File", (), {"files": None}),)


def test_sources_are_written_with_places_and_weights():
    found = parse_sources("web=s3://b/web*2, style = /data/a=b ,photos=samples,photos=/x*0.5")
    assert found == (
        SourceText("web", "web", "s3://b/web", 2.0),
        SourceText("style", "style", "/data/a=b", 1.0),
        SourceText("photos", "photos", "samples", 1.0),
        SourceText("photos-2", "photos", "/x", 0.5),
    )


def test_the_classic_mix_has_16010_pairs():
    found = parse_sources("WASF=/data/")
    assert [(part.name, part.place) for part in found] == [
        ("web", "/data/revisitop1m"),
        ("aachen", "/data/aachen"),
        ("style", "/data/aachen"),
        ("flow", "/data/aachen"),
    ]
    counts = (1_000_000, 4479, 3636, 4770)
    mix = Mixture(
        tuple(
            Ingredient(part.label, Fake(count), part.weight, part.at_most)
            for part, count in zip(found, counts, strict=True)
        )
    )
    assert mix.pairs == 16010
    assert mix.counts(16010) == (3125, 4479, 3636, 4770)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("web", "'web' names no source and place; write NAME=PLACE"),
        ("web=", "'web=' names no source and place"),
        ("web=*2", "names no source and place"),
        ("web=/a,", "'' names no source and place"),
        ("wob=/a", "unknown source 'wob'; known: aachen, flow, homographies, photos, style, web, wasf"),
        ("web=/a*x", "the weight 'x' of web must be a number of at least 0"),
        ("web=/a*-1", "the weight '-1' of web must be a number of at least 0"),
        ("web=/a*nan", "the weight 'nan' of web"),
        ("web=/a*0", "all weights are 0"),
    ],
)
def test_what_is_wrong_with_a_text_is_one_sentence(text, reason):
    with pytest.raises(
        ValueError, match=rf"data\.sources is '{text.replace('*', '[*]')}': .*{reason}"
    ) as bad:
        parse_sources(text)
    assert "\n" not in str(bad.value)


def test_places_are_made_absolute_and_written_in_one_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = f"web={tmp_path}/w*2, photos=samples, wasf={tmp_path}/d, style=s3://b/p"
    for text in (
        "web=w*2,photos=samples,WASF=d,style=s3://b/p",
        wanted,
        "web=./w*2.0, photos=samples, wasf=d, style=s3://b/p*1",
    ):
        assert absolute_sources(text) == wanted


def test_sources_are_told_from_places():
    assert is_sources("flow=/data")
    assert is_sources("WASF=s3://b")
    assert not any(is_sources(text) for text in ("samples", "/data/a=b", "s3://bucket/x", "photos"))


@pytest.mark.parametrize("pairs", [1, 7, 100, 1000])
def test_shares_add_up_and_sources_alternate(pairs):
    mix = Mixture((Ingredient("a", Fake(30)), Ingredient("b", Fake(10), 2.0), Ingredient("c", Fake(50))))
    assert mix.pairs == 100
    counts = mix.counts(pairs)
    assert sum(counts) == pairs
    assert all(abs(n - share * pairs) < 1 for n, share in zip(counts, (0.3, 0.2, 0.5), strict=True))
    order = mix.order(pairs, lambda *words: np.random.default_rng(words))
    for number in range(3):
        mine = [int(mix.locate(item)[0] is mix.ingredients[number]) for item in order]
        ahead = np.cumsum(mine) - np.arange(1, pairs + 1) * counts[number] / pairs
        assert np.abs(ahead).max() <= 1.5
    if pairs == 100:
        # Every item has its turn as often as its weight says.
        assert np.bincount(order).tolist() == [1] * 30 + [2] * 10 + [1] * 50


def test_an_epoch_of_everything_has_each_source_by_its_weight(root):
    config = config_of(everything(root), pairs_per_worker=1, held_out=0)
    data = open_training_data(config.data)
    # 6 + 6 + 6 + 3 of the mix, 2 with flow, 4 x 2 homographies, 6 x 0.5 photographs.
    assert data.training.pairs == 34
    labels = [batch.samples[0].partition(":")[0] for batch in epoch_loader(data.training, config, 0)]
    assert {name: labels.count(name) for name in labels} == {
        "web": 6, "aachen": 6, "style": 6, "flow": 3, "flow-2": 2, "homographies": 8, "photos": 3
    }  # fmt: skip


def test_pairs_are_the_same_bytes_whoever_makes_them(root):
    config = config_of(everything(root), pairs_per_worker=4)
    source = open_training_data(config.data).training
    alone = content(epoch_loader(source, config, 3))
    assert len({name.partition(":")[0] for name, *_ in alone}) == 7
    again = open_training_data(config.data).training
    for processes in (1, 2):
        with_processes = config_of(everything(root), pairs_per_worker=4, processes=processes)
        assert content(epoch_loader(again, with_processes, 3)) == alone
    for num_workers in (2, 4):
        part = 4 // num_workers
        workers = [
            content(epoch_loader(again, config_of(everything(root), part), 3, rank, num_workers))
            for rank in range(num_workers)
        ]
        steps = len(alone) // 4
        assert [
            p for k in range(steps) for worker in workers for p in worker[k * part : (k + 1) * part]
        ] == alone
    for processes in (0, 2):
        resumed = config_of(everything(root), pairs_per_worker=4, processes=processes)
        assert content(epoch_loader(again, resumed, 3, start_step=2)) == alone[8:]
    # What was made before changes nothing.
    pairs = epoch_loader(again, config, 3).batches.pairs
    assert pairs[5].image2.numpy().tobytes() == alone[5][2]


def test_a_loader_that_starts_at_the_end_has_nothing_left(root):
    config = config_of(f"web={root}/revisitop1m", held_out=0)
    source = open_training_data(config.data).training
    assert [len(epoch_loader(source, config, 0, start_step=k)) for k in (0, 2, 3, 9)] == [3, 1, 0, 0]
    assert list(epoch_loader(source, config, 0, start_step=3)) == []


def test_nothing_held_out_is_trained_on_by_any_source(root):
    # The same photographs once more, by other names.
    shutil.copytree(root / "aachen/images_upright/db", root / "again")
    text = f"wasf={root}, photos={root}/again"
    for seed in range(4):
        data = open_training_data(config_of(text, held_out=3, split_seed=seed).data)
        assert len(data.held_out) == 3
        held = {file.read() for file in data.held_out.files}
        used = [file for item in range(len(data.training)) for file in data.training.files(item)]
        assert not held & {file.read() for file in used}
        stems = {file.name.rpartition("/")[2] for file in data.held_out.files if "db/" in file.name}
        names = [file.name.rpartition("/")[2].partition(".st_")[0] for file in used]
        assert not stems & set(names)
        assert not any(
            stem.partition(".")[0] in name.partition(".png")[0].split("_")
            for stem in stems
            for name in names
            if name.endswith(".png")
        )


def test_a_photograph_of_aachen_is_known_by_its_name_where_it_was_stored_anew(root, tmp_path):
    other = miniatures.write_style(miniatures.write_aachen(tmp_path / "other"))
    for path in (other / "images_upright/db").iterdir():
        Image.open(path).save(path, quality=60)
    text = f"aachen={root}/aachen, style={other}"
    data = open_training_data(config_of(text, held_out=2).data)
    assert len(data.training) == 4 + 4


def test_without_single_photographs_those_of_data_photos_are_held_out(root):
    config = config_of(f"flow={root}/own", photos=str(root / "revisitop1m"))
    data = open_training_data(config.data)
    assert len(data.held_out) == 2
    assert set(data.held_out.names) < set(open_photos(str(root / "revisitop1m")).names)
    assert len(data.training) == 2


def test_photographs_alone_are_as_without_sources(root):
    folder = str(root / "revisitop1m")
    plain = config_of("", photos=folder, held_out=0)
    mixed = config_of(f"photos={folder}", held_out=0)
    old, new = (open_training_data(config.data).training for config in (plain, mixed))
    assert old.digest == new.digest == open_photos(folder).digest
    assert content(epoch_loader(old, plain, 1)) == content(epoch_loader(new, mixed, 1))


def test_the_digest_tells_weights_and_contents(root):
    def digest(text):
        return open_training_data(config_of(text, held_out=0).data).training.digest

    text = f"web={root}/revisitop1m, flow={root}/own"
    first = digest(text)
    assert first == digest(text)
    assert first != digest(text + "*2")
    path = root / "own/scene0/1.png"
    path.write_bytes(path.read_bytes() + b" ")
    assert first != digest(text)


# --- faults


def write_manifest(folder):
    names = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    files = [ManifestFile.of(folder, name) for name in names]
    Manifest("web", tuple(files)).write(open_store(folder))


def test_with_a_manifest_the_digest_is_the_same_and_reads_no_file(root, monkeypatch):
    folder = root / "revisitop1m"
    plain = open_photos(str(folder)).digest
    write_manifest(folder)
    for path in folder.rglob("*.jpg"):
        path.write_bytes(b"")
    assert open_photos(str(folder)).digest == plain


def test_a_file_replaced_or_deleted_while_training_is_replaced_and_counted(root):
    folder = root / "revisitop1m"
    write_manifest(folder)
    config = config_of(f"web={folder}", pairs_per_worker=1, held_out=0, pairs_per_epoch=12)
    source = open_training_data(config.data).training
    batches = iter(epoch_loader(source, config, 0))
    before = [next(batches) for _ in range(6)]
    assert not any(batch.refused for batch in before)
    shutil.copy(folder / "001" / f"{1:032x}.jpg", folder / "000" / f"{0:032x}.jpg")
    after = list(batches)
    assert len(after) == 6
    ((file, reason),) = {r for batch in after for r in batch.refused}
    assert file == str(folder / "000" / f"{0:032x}.jpg")
    assert "not the file of the manifest" in reason
    (folder / "002" / f"{2:032x}.jpg").unlink()
    with pytest.raises(TooManyBadPhotos, match=r"2 of 6 photographs .*it is not there \(any more\)"):
        list(epoch_loader(source, config, 0))


def test_a_damaged_manifest_is_one_sentence(root):
    (root / "revisitop1m" / "manifest.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(ValueError, match=r"manifest\.json is no manifest of format 1"):
        open_place(str(root / "revisitop1m"))


@pytest.mark.parametrize("name", ["flow", "style"])
def test_a_broken_file_of_a_pair_is_replaced_by_another_of_its_source(root, name):
    config = config_of(f"web={root}/revisitop1m, {name}={root}/aachen", pairs_per_worker=1, held_out=0)
    source = open_training_data(config.data).training
    sound = [batch.samples[0] for batch in epoch_loader(source, config, 0)]
    victim = source.ingredients[1].source.files(0)[-1]
    (root / "aachen" / victim.name).write_bytes(b"nothing")
    batches = list(epoch_loader(source, config, 0))
    assert len(batches) == len(sound)
    assert {file for batch in batches for file, _ in batch.refused} == {str(victim)}
    for before, batch in zip(sound, batches, strict=True):
        assert batch.samples[0].partition(":")[0] == before.partition(":")[0]
        assert (batch.samples[0] == before) == (not batch.refused)


def test_one_in_a_hundred_of_1000_corrupt_photographs_is_replaced_and_counted(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    whole = tmp_path / "whole.jpg"
    miniatures.save(whole, miniatures.texture(0, (64, 48)))
    content = whole.read_bytes()
    for k in range(1000):
        (folder / f"{k:04}.jpg").write_bytes(content[: len(content) // 3] if k % 100 == 7 else content)
    photos = open_photos(str(folder))
    settings = {"crop_size": 34, "min_shorter_side": 32, "max_shorter_side": 48, "noise": 0.0}
    config = TrainConfig.from_dict({"data": settings, "pairs_per_worker": 50})
    for num_workers in (1, 2):
        batches = [
            batch
            for rank in range(num_workers)
            for batch in epoch_loader(photos, config, 1, rank, num_workers)
        ]
        assert sum(len(batch) for batch in batches) == 1000
        refused = {file for batch in batches for file, _ in batch.refused}
        assert refused == {str(folder / f"{k:04}.jpg") for k in range(7, 1000, 100)}
    (folder / "0000.jpg").write_bytes(b"one more")
    with pytest.raises(
        TooManyBadPhotos, match="11 of 1000 photographs cannot be used, which is more than 1%"
    ):
        list(epoch_loader(photos, config, 1))


def test_exactly_one_in_a_hundred_may_be_bad_whatever_their_number():
    assert all(most_bad(100 * n, 100 * n) == n for n in range(1, 2000))
    assert [most_bad(n, n) for n in (1, 99, 199, 299)] == [1, 1, 1, 2]


def test_who_opens_a_part_is_allowed_what_chance_adds():
    assert most_bad(50_000, 100_000) == 500 + 67
    rng = np.random.default_rng(0)
    bad = np.zeros(100_000, bool)
    bad[:1000] = True
    met = [int(rng.permutation(bad)[:50_000].sum()) for _ in range(50)]
    assert sum(count > 500 for count in met) > 15
    assert max(met) <= most_bad(50_000, 100_000)


# --- S3


@pytest.mark.parametrize("processes", [0, 2])
def test_from_s3_the_pairs_are_those_of_the_folder(root, s3, tmp_path, processes):
    s3.put_folder(root / "revisitop1m", "data/revisitop1m")
    s3.put_folder(root / "aachen", "data/aachen")
    cache = CacheSettings(str(tmp_path / "cache"), 10**9, timeout=5)
    here = config_of(f"wasf={root}")
    there = config_of(f"wasf={s3.place('data')}", processes=processes)
    local, remote = open_training_data(here.data), open_training_data(there.data, cache)
    assert remote.training.digest == local.training.digest
    assert remote.held_out.digest == local.held_out.digest
    pairs = content(epoch_loader(remote.training, there, 0))
    assert pairs == content(epoch_loader(local.training, here, 0))


def test_a_place_that_fails_ends_the_epoch_at_once(root):
    class Failing:
        place = "s3://gone"
        names = ("a.jpg",)

        def size(self, name):
            return 1

        def prefetch(self, names):
            pass

        def open(self, name):
            raise PlaceError(5, "no such bucket", self.place)

    photos = open_photos("s3://gone", lambda place: Failing())
    config = config_of("", pairs_per_worker=1)
    with pytest.raises(PlaceError, match="s3://gone: no such bucket"):
        list(epoch_loader(photos, config, 0))


def test_every_source_is_known_to_the_configuration():
    text = DataConfig.__dataclass_fields__["sources"].metadata["doc"]
    assert "wasf" in text
    assert list(SOURCES) == sorted(SOURCES)
