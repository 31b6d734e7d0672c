"""Every source on miniatures with the folders of the original, and on real flow."""

import pickle
import shutil
import tracemalloc

import miniatures
import numpy as np
import pytest
import torch
from PIL import Image

from r2d2.config import DataConfig
from r2d2.data.images import ImageRefused, read_image
from r2d2.data.normalisation import denormalise
from r2d2.data.pairs.flow_files import AachenFlow, KittiFlow, MiddleburyFlow
from r2d2.data.places import open_place
from r2d2.data.sources import SOURCES
from r2d2.storage.files import FolderFiles, StoredFile
from r2d2.warp import warp

CONFIG = DataConfig(crop_size=48, min_shorter_side=80, max_shorter_side=160)
STILL = DataConfig(
    crop_size=48, min_shorter_side=96, max_shorter_side=96, brightness=0, contrast=0, saturation=0, hue=0
)
WRITERS = {
    "aachen": lambda folder: miniatures.write_aachen(folder),
    "flow": lambda folder: miniatures.write_flow(miniatures.write_aachen(folder)),
    "homographies": lambda folder: miniatures.write_homographies(folder),
    "photos": lambda folder: miniatures.write_web(folder),
    "style": lambda folder: miniatures.write_style(miniatures.write_aachen(folder)),
    "web": lambda folder: miniatures.write_web(folder),
}
COUNTS = {"aachen": 6, "flow": 3, "homographies": 4, "photos": 6, "style": 6, "web": 6}


def source_in(folder, name, change=lambda: None):
    """A source of miniatures, opened after `change` was made to its files."""
    place = str(WRITERS[name](folder))
    change()
    return SOURCES[name].open(place, open_place)


def make(source, item=0, seed=0, config=CONFIG):
    return source.make(item, config, np.random.default_rng([seed, item]), "sample")


def content(pair):
    return [t.numpy().tobytes() for t in (pair.image1, pair.image2, pair.aflow)]


def misfit(pair, dx=0.0):
    """Mean difference, in grey levels, between image 1 and image 2 seen through the flow moved by dx."""
    image1, image2 = (
        torch.from_numpy(denormalise(i)).permute(2, 0, 1)[None].float() for i in (pair.image1, pair.image2)
    )
    warped, valid = warp(image2, pair.aflow[None] + torch.tensor([dx, 0]).view(1, 2, 1, 1))
    return float((warped - image1).abs().mean(dim=1)[valid[:, 0]].mean())


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_source_states_its_items_and_makes_pairs_that_fit(tmp_path, name):
    source = source_in(tmp_path / name, name)
    assert len(source) == COUNTS[name]
    names = [source.name(item) for item in range(len(source))]
    assert names == sorted(set(names))
    for item in range(len(source)):
        pair = make(source, item)
        assert pair.sample == "sample"
        assert pair.valid
        assert content(pair) == content(make(pickle.loads(pickle.dumps(source)), item))
        assert content(pair) != content(make(source, item, seed=1))
    if name != "style":
        # A styled picture has other colours.
        config = DataConfig(crop_size=64, tilt=0.05, noise=0, min_shorter_side=96, max_shorter_side=110)
        still = [make(source, k % len(source), k, config) for k in range(12)]
        assert sum(misfit(p) for p in still) < 0.8 * sum(misfit(p, 3) for p in still)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_source_has_the_same_digest_wherever_it_lies(tmp_path, name):
    source = source_in(tmp_path / name, name)
    moved = SOURCES[name].open(str(shutil.copytree(tmp_path / name, tmp_path / "elsewhere")), open_place)
    assert moved.digest == source.digest
    file = moved.files(len(moved) - 1)[-1]
    path = tmp_path / "elsewhere" / file.name
    path.write_bytes(path.read_bytes() + b" ")
    assert SOURCES[name].open(str(tmp_path / "elsewhere"), open_place).digest != source.digest


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_place_without_items_is_an_error_that_names_it(tmp_path, name):
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(ValueError, match=f"'{tmp_path}' holds no"):
        SOURCES[name].open(str(tmp_path), open_place)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_what_is_held_out_is_left_out(tmp_path, name):
    source = source_in(tmp_path / name, name)
    withheld = {str(source.files(0)[0])}

    class Held:
        def __contains__(self, file):
            return str(file) in withheld

    left = source.without(Held())
    lost = sum(str(source.files(item)[0]) in withheld for item in range(len(source)))
    assert len(left) == len(source) - lost
    assert not any(str(file) in withheld for item in range(len(left)) for file in left.files(item))
    withheld |= {str(f) for item in range(len(source)) for f in source.files(item)}
    assert source.without(Held()) is None


def test_only_photographs_of_aachens_database_are_taken(tmp_path):
    source = source_in(tmp_path, "aachen")
    assert source.photos.names == tuple(f"images_upright/db/{k}.jpg" for k in range(6))


def test_a_styled_picture_of_another_size_shows_the_same_places(tmp_path):
    source = source_in(tmp_path, "style")
    config = DataConfig(
        **{**vars(STILL), "noise": 0.0, "tilt": 0.02, "min_shorter_side": 96, "max_shorter_side": 97}
    )
    here, aside = [], []
    for k in range(12):
        pair = make(source, k % 6, k, config)
        pixels = torch.from_numpy(denormalise(pair.image2)).float() * 2
        bright = (pixels.clamp(0, 255) / 255).permute(2, 0, 1)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        lit = type(pair)(pair.image1, (bright - mean) / std, pair.aflow, "")
        here.append(misfit(lit))
        aside += [misfit(lit, 2), misfit(lit, -2)]
    assert np.mean(here) < 0.75 * np.mean(aside)


def test_transfers_and_flow_without_their_partners_are_left_out_and_named(tmp_path):
    WRITERS["flow"](miniatures.write_style(tmp_path))
    (tmp_path / "optical_flow/mask/2_3.png").unlink()
    (tmp_path / "images_upright/db/0.jpg").unlink()
    with pytest.warns(UserWarning, match=r"left out: 2: optical_flow/flow/0_1\.png, optical_flow/flow/2_3"):
        assert len(SOURCES["flow"].open(str(tmp_path), open_place)) == 1
    with pytest.warns(UserWarning, match=r"left out: 1: style_transfer/0\.jpg\.st_night0\.jpg"):
        assert len(SOURCES["style"].open(str(tmp_path), open_place)) == 5


def test_names_of_photographs_may_hold_underscores(tmp_path):
    folder = WRITERS["flow"](tmp_path)
    for name in ("images_upright/db/0.jpg", "optical_flow/flow/0_1.png", "optical_flow/mask/0_1.png"):
        (folder / name).rename(folder / name.replace("/0", "/day_1_0"))
    source = SOURCES["flow"].open(str(folder), open_place)
    assert [file.name.rpartition("/")[2] for file in source.files(2)[:2]] == ["day_1_0.jpg", "1.jpg"]


def test_flow_leads_where_it_says_and_is_unknown_where_masked(tmp_path):
    source = source_in(tmp_path, "flow")
    files = source.files(0)
    flow = AachenFlow(*files[2:])
    known = miniatures.known_partners()
    rows, columns = np.mgrid[: known.shape[0], : known.shape[1]]
    partners = flow.partners(rows, columns)
    assert np.array_equal(np.isfinite(partners).all(axis=-1), known)
    assert np.array_equal(partners[known], (np.stack([columns, rows], axis=-1) - miniatures.MOVED)[known])
    # Windows of the crop's own size are copied: no pixel beside an unknown one is lost.
    from r2d2.data.pairs.windows import Window

    part = flow.crop_aflow(Window(0, 40, 48, 48), 48)
    assert np.array_equal(np.isfinite(part).all(axis=0), known[40:88, :48])
    doubled = flow.crop_aflow(Window(20, 40, 24, 24), 48)
    assert np.allclose(doubled[0, :, 10], 20 - 0.5 + 10.5 / 2 - miniatures.MOVED[0])


@pytest.mark.parametrize("side", [48, 72])
def test_pairs_of_flow_fit_to_a_fraction_of_a_pixel(tmp_path, side):
    source = source_in(tmp_path, "flow")
    config = DataConfig(**{**vars(STILL), "crop_size": side})
    for seed in range(6):
        pair = make(source, seed % 3, seed, config)
        assert misfit(pair) < 0.6 * min(misfit(pair, 1), misfit(pair, -1))


def test_middlebury_flow_of_ones_own_pairs(tmp_path):
    source = SOURCES["flow"].open(str(miniatures.write_own_flow(tmp_path)), open_place)
    assert [source.name(k) for k in range(2)] == ["scene0/flow_1_2.flo", "scene1/flow_1_2.flo"]
    pair = make(source, config=STILL)
    assert misfit(pair) < 0.6 * min(misfit(pair, 1), misfit(pair, -1))


def test_without_common_windows_a_pair_is_unknown_everywhere(tmp_path):
    def hide():
        for mask in (tmp_path / "optical_flow/mask").iterdir():
            miniatures.save(mask, np.zeros(miniatures.SIZE[::-1], np.uint8))

    pair = make(source_in(tmp_path, "flow", hide))
    assert torch.isnan(pair.aflow).all()
    assert torch.isfinite(pair.image1).all()
    assert torch.isfinite(pair.image2).all()


def spoil_size(folder):
    miniatures.save(folder / "optical_flow/flow/0_1.png", np.zeros((40, 50, 4), np.uint8))
    miniatures.save(folder / "optical_flow/mask/0_1.png", np.ones((40, 50), np.uint8))


def spoil_mask(folder):
    miniatures.save(folder / "optical_flow/mask/0_1.png", np.ones((40, 50), np.uint8))


def spoil_mode(folder):
    miniatures.save(folder / "optical_flow/flow/0_1.png", np.zeros((96, 120, 3), np.uint8))


def spoil_bytes(folder):
    path = folder / "optical_flow/flow/0_1.png"
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_size, r"flow/0_1\.png: 50x40 pixels; image 1 has 120x96"),
        (spoil_mask, r"mask/0_1\.png: 50x40 pixels; its flow has 120x96"),
        (spoil_mode, r"flow/0_1\.png: a PNG of mode RGB; flow has four bytes a pixel"),
        (spoil_bytes, r"flow/0_1\.png: cannot be read"),
    ],
)
def test_a_broken_flow_is_refused_and_named(tmp_path, spoil, reason):
    source = source_in(tmp_path, "flow", lambda: spoil(tmp_path))
    with pytest.raises(ImageRefused, match=reason):
        make(source)


def test_a_flow_that_is_gone_or_replaced_is_refused_and_named(tmp_path):
    source, path = source_in(tmp_path, "flow"), tmp_path / "optical_flow/flow/0_1.png"
    spoil_bytes(tmp_path)
    with pytest.raises(ImageRefused, match=r"flow/0_1\.png: it was changed while in use"):
        make(source)
    path.unlink()
    with pytest.raises(ImageRefused, match=r"flow/0_1\.png: there is no such file"):
        make(source)


def test_a_flow_file_is_compared_with_its_header_before_it_is_read(tmp_path):
    with (tmp_path / "a.flo").open("wb") as file:
        file.write(miniatures.middlebury_flow(np.zeros((4, 4, 2))))
        file.truncate(2**29)
    tracemalloc.start()
    with pytest.raises(ImageRefused, match="536870912 bytes; 4x4 pixels need 140"):
        MiddleburyFlow(StoredFile(FolderFiles.of(tmp_path), "a.flo"))
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"PIEH", miniatures.middlebury_flow(np.zeros((4, 4, 2)))[:-1]])
def test_a_broken_flo_file_is_refused(tmp_path, content):
    (tmp_path / "a.flo").write_bytes(content)
    with pytest.raises(ImageRefused, match=r"a\.flo: (no \.flo file|\d+ bytes)"):
        MiddleburyFlow(StoredFile(FolderFiles.of(tmp_path), "a.flo"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [("1 0 0", "nine numbers"), ("0 0 0 0 0 0 0 0 0", "cannot be inverted"), ("a b", "cannot be read")],
)
def test_a_broken_homography_is_refused(tmp_path, text, reason):
    file = tmp_path / "v_scene0" / "H_1_2"
    source = source_in(tmp_path, "homographies", lambda: file.write_text(text))
    with pytest.raises(ImageRefused, match=rf"v_scene0/H_1_2: .*{reason}"):
        make(source)


@pytest.mark.parametrize("scene", ["rubberwhale", "chairs_0000000"])
def test_real_flow_leads_to_the_same_places(shared, scene):
    source = SOURCES["flow"].open(str(shared / "data" / "flow" / scene), open_place)
    config = DataConfig(**{**vars(STILL), "crop_size": 192, "min_shorter_side": 375, "max_shorter_side": 376})
    pairs = [make(source, 0, seed, config) for seed in range(8)]
    seen = [pair for pair in pairs if warp(pair.image2[None], pair.aflow[None])[1].float().mean() > 0.05]
    assert len(seen) >= 4
    here, aside = (np.mean([misfit(p, dx) for p in seen]) for dx in (0, 8))
    assert here < 0.7 * aside


def test_16_bits_of_kittis_files_are_both_read(tmp_path, shared):
    files = FolderFiles.of(shared / "data" / "flow" / "kitti")
    flow = KittiFlow(StoredFile(files, "flow_1_2.png"))
    rows, columns = np.mgrid[: flow.size[1], : flow.size[0]]
    values = flow.relative(rows, columns)
    known = np.isfinite(values).all(axis=-1)
    assert 0.1 < known.mean() < 0.5
    assert (values[known] * 64 == np.round(values[known] * 64)).all()
    assert len(np.unique(values[known] * 64 % 256)) > 200
    images = [
        torch.from_numpy(read_image(StoredFile(files, f"{k}.png"))).permute(2, 0, 1).float() for k in (1, 2)
    ]
    aflow = torch.from_numpy(flow.partners(rows, columns)).permute(2, 0, 1)[None].float()

    def error(dx, dy):
        warped, valid = warp(images[1][None], aflow + torch.tensor([dx, dy]).view(1, 2, 1, 1))
        return float((warped - images[0]).abs().mean(dim=1)[valid[:, 0]].mean())

    assert all(error(0.0, 0.0) < 0.95 * error(dx, dy) for dx, dy in [(1, 0), (-1, 0), (0, 1), (0, -1)])
    pair = make(SOURCES["flow"].open(files.place, open_place), config=DataConfig())
    assert pair.valid
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(ImageRefused, match="three channels of 16 bits"):
        KittiFlow(StoredFile(FolderFiles.of(tmp_path), "grey.png"))
