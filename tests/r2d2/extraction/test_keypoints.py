"""Keypoints are the reference ones; pyramid, maxima, ties and files behave as their docstrings say."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from r2d2.checkpoint import load_model
from r2d2.containers import DenseFeatures, Keypoints
from r2d2.extraction.keypoint_file import load_keypoints, save_keypoints
from r2d2.extraction.keypoints import extract_keypoints
from r2d2.extraction.settings import ExtractionSettings
from r2d2.network import NETWORKS, R2D2Network, build_network, network_from_state
from r2d2.network_config import NetworkConfig

EVERYTHING = ExtractionSettings(
    top_k=None, min_size=0, max_size=9999, min_scale=0.9, min_reliability=0, min_repeatability=0
)
REFERENCE_SETTINGS = [
    f.name for f in dataclasses.fields(ExtractionSettings) if f.name not in ("top_k", "exact", "precision")
]


def normalised(pixels):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((torch.tensor(pixels) / 255 - mean) / std).permute(2, 0, 1)


class Canned(R2D2Network):
    """Answers every image with given peaks (row, column, repeatability); notes the sizes it was asked for."""

    def __init__(self, *peaks, flat=0.0, reliability=1.0):
        super().__init__(NetworkConfig("fast", 1, 2))
        self.peaks, self.flat, self.reliability, self.sizes = peaks, flat, reliability, []

    def forward(self, image):
        assert not self.training
        assert torch.is_inference_mode_enabled()
        height, width = image.shape[2:]
        self.sizes.append((height, width))
        repeatability = torch.full((1, 1, height, width), self.flat)
        for row, column, value in self.peaks:
            if row < height and column < width:
                repeatability[0, 0, row, column] = value
        x, y = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy")
        descriptors = torch.stack([x, y])[None].float()
        return DenseFeatures(descriptors, torch.full_like(repeatability, self.reliability), repeatability)


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize("variant", ["", "_capped"])
def test_keypoints_equal_the_reference(golden, name, variant):
    weights, reference = golden(f"network_{name}"), golden(f"extraction_{name}{variant}")
    state = {key.removeprefix("state/"): torch.tensor(a) for key, a in weights.items() if key[:6] == "state/"}
    network = network_from_state(NetworkConfig(name, 1, 32), state, "the reference")
    given = {key: reference[key].item() for key in REFERENCE_SETTINGS}
    settings = ExtractionSettings(top_k=None, exact=True, **given)
    found = extract_keypoints(network, normalised(reference["image"]), settings)

    assert found.image_size == (210, 150)
    assert len(found) == len(reference["scores"])
    np.testing.assert_allclose(found.scores, reference["scores"], atol=1e-5, rtol=0)
    # Equal scores may come in any order, so keypoints are compared in the order of their positions.
    mine, theirs = np.lexsort(found.keypoints.T), np.lexsort(reference["keypoints"].T)
    np.testing.assert_allclose(found.keypoints[mine], reference["keypoints"][theirs], atol=1e-3, rtol=0)
    np.testing.assert_allclose(found.scores[mine], reference["scores"][theirs], atol=1e-5, rtol=0)
    if "descriptors_first200" in reference:
        np.testing.assert_allclose(
            found.descriptors[:200], reference["descriptors_first200"], atol=1e-5, rtol=0
        )


@pytest.mark.real_size
def test_a_released_network_finds_and_matches_as_many_keypoints_as_the_reference(shared):
    reference = json.loads((Path(__file__).parents[2] / "golden" / "hpatches_reference.json").read_text())
    pair = reference["faster2d2_WASF_N16"]["v_graffiti"][0]
    assert pair["image"] == 2
    network = load_model(shared / "weights" / "faster2d2_WASF_N16.pt").network
    found = []
    for name in ("1.ppm", "2.ppm"):
        with Image.open(shared / "data" / "hpatches" / "v_graffiti" / name) as image:
            pixels = np.asarray(image.convert("RGB"))
        found.append(extract_keypoints(network, normalised(pixels), ExtractionSettings(exact=True)))
    assert len(found[0]) == pair["keypoints1"]
    assert len(found[1]) == pair["keypoints2"]

    products = found[0].descriptors @ found[1].descriptors.T
    forth, back = products.argmax(axis=1), products.argmax(axis=0)
    assert int((back[forth] == np.arange(len(forth))).sum()) == pytest.approx(pair["matches"], abs=1)


def test_a_single_peak_becomes_one_keypoint_worked_out_by_hand():
    settings = dataclasses.replace(EVERYTHING, min_repeatability=0.5)
    found = extract_keypoints(Canned((3, 5, 0.8), reliability=0.5), torch.zeros(3, 20, 30), settings)
    np.testing.assert_allclose(found.keypoints, [[5, 3, 32]])
    np.testing.assert_allclose(found.scores, [0.4])
    np.testing.assert_allclose(found.descriptors, [[5, 3]])
    assert found.image_size == (30, 20)


def test_a_keypoint_of_a_smaller_level_is_mapped_to_the_image_by_the_ratio_of_sizes():
    settings = dataclasses.replace(
        EVERYTHING, min_repeatability=0.5, min_scale=0.4, max_scale=0.6, scale_factor=2.0
    )
    network = Canned((4, 5, 0.8))
    found = extract_keypoints(network, torch.zeros(3, 21, 31), settings)
    assert network.sizes == [(10, 16)]  # round(10.5) is 10 and round(15.5) is 16
    np.testing.assert_allclose(found.keypoints, [[5 * 31 / 16, 4 * 21 / 10, 64]], rtol=1e-6)


@pytest.mark.parametrize(
    ("bounds", "longer_sides"),
    [
        ({"min_size": 0, "max_size": 9999, "min_scale": 0.25}, [800, 400, 200]),
        ({"min_size": 200, "max_size": 400}, [400, 200]),
        ({"min_size": 201, "max_size": 399}, []),
        ({"min_size": 0, "max_size": 9999, "min_scale": 0.2501}, [800, 400, 200]),  # within the tolerance
        ({"min_size": 0, "max_size": 9999, "min_scale": 0.252}, [800, 400]),
        ({"min_size": 0, "max_size": 9999, "min_scale": 0.3, "max_scale": 0.7}, [400]),
        ({"min_size": 900, "max_size": 9999}, []),
        ({"min_size": 0, "max_size": 100}, [100, 50, 25, 12, 6]),  # a 3 px shorter side is too small
    ],
)
def test_levels_are_those_within_the_bounds(bounds, longer_sides):
    network = Canned()
    settings = ExtractionSettings(scale_factor=2.0, **bounds)
    extract_keypoints(network, torch.zeros(3, 800, 600), settings)
    assert [height for height, _ in network.sizes] == longer_sides


def test_full_resolution_searches_large_images_whole():
    network = Canned()
    extract_keypoints(network, torch.zeros(3, 1100, 40), ExtractionSettings().full_resolution())
    assert network.sizes[0] == (1100, 40)
    assert network.sizes[-1][0] == pytest.approx(0.3 * 1100, rel=0.2)
    assert ExtractionSettings(top_k=7, min_reliability=0.1).full_resolution() == ExtractionSettings(
        top_k=7, min_reliability=0.1, min_size=0, max_size=9999, min_scale=0.3
    )


def test_a_keypoint_is_a_maximum_of_its_3x3_neighbourhood_and_passes_both_thresholds():
    peaks = ((5, 5, 0.9), (5, 6, 0.8), (5, 10, 0.7), (7, 10, 0.71), (15, 15, 0.69))
    settings = dataclasses.replace(EVERYTHING, min_repeatability=0.7, min_reliability=0.4)
    found = extract_keypoints(Canned(*peaks, reliability=0.4), torch.zeros(3, 20, 20), settings)
    assert found.keypoints[:, :2].tolist() == [[5, 5], [10, 7], [10, 5]]
    settings = dataclasses.replace(settings, min_reliability=0.41)
    assert len(extract_keypoints(Canned(*peaks, reliability=0.4), torch.zeros(3, 20, 20), settings)) == 0


def test_a_flat_map_keeps_every_pixel_as_a_tie_and_top_k_takes_the_first_rows():
    image = torch.zeros(3, 6, 8)
    assert len(extract_keypoints(Canned(flat=0.9), image, EVERYTHING)) == 48
    found = extract_keypoints(Canned(flat=0.9), image, dataclasses.replace(EVERYTHING, top_k=10))
    assert found.keypoints[:, :2].tolist() == [[x, 0] for x in range(8)] + [[0, 1], [1, 1]]


def test_top_k_counts_over_all_levels_and_prefers_large_scales_among_ties():
    settings = dataclasses.replace(
        EVERYTHING, min_scale=0.25, scale_factor=2.0, min_repeatability=0.5, top_k=4
    )
    network = Canned((2, 2, 0.8), (4, 9, 0.9))
    found = extract_keypoints(network, torch.zeros(3, 40, 40), settings)
    assert found.keypoints[:, 2].tolist() == [32, 64, 128, 32]
    assert found.scores.tolist() == pytest.approx([0.9, 0.9, 0.9, 0.8])


@pytest.mark.parametrize("top_k", [1, 7, 100])
def test_the_best_k_are_the_first_k_of_all(top_k):
    network, image = build_network(NetworkConfig("fast", 1, 8), seed=0), torch.randn(3, 60, 70)
    settings = dataclasses.replace(EVERYTHING, min_scale=0.3)
    everything = extract_keypoints(network, image, settings)
    best = extract_keypoints(network, image, dataclasses.replace(settings, top_k=top_k))
    assert (np.diff(everything.scores) <= 0).all()
    assert len(best) == top_k < len(everything)
    for name in ("keypoints", "descriptors", "scores"):
        np.testing.assert_array_equal(getattr(best, name), getattr(everything, name)[:top_k])


@pytest.mark.parametrize("network", [Canned(), build_network(NetworkConfig("quad", 1, 2), seed=0)])
def test_no_keypoints_are_empty_arrays_of_the_right_shape(network):
    for settings in (ExtractionSettings(), dataclasses.replace(EVERYTHING, min_repeatability=1.0)):
        found = extract_keypoints(network, torch.zeros(3, 20, 30), settings)
        assert (found.keypoints.shape, found.descriptors.shape, found.scores.shape) == ((0, 3), (0, 2), (0,))
        assert found.keypoints.dtype == found.descriptors.dtype == found.scores.dtype == np.float32


def test_where_the_map_is_not_a_number_there_is_no_keypoint_and_the_neighbours_stay():
    peaks = ((5, 5, math.nan), (5, 6, 0.9), (12, 12, 0.8))
    settings = dataclasses.replace(EVERYTHING, min_repeatability=0.5)
    found = extract_keypoints(Canned(*peaks), torch.zeros(3, 20, 20), settings)
    assert found.keypoints[:, :2].tolist() == [[6, 5], [12, 12]]
    assert len(extract_keypoints(Canned(flat=math.nan), torch.zeros(3, 20, 20), EVERYTHING)) == 0
    assert (
        len(extract_keypoints(Canned(flat=0.5, reliability=math.nan), torch.zeros(3, 20, 20), EVERYTHING))
        == 0
    )


def test_a_network_whose_weights_are_not_numbers_finds_nothing():
    network = build_network(NetworkConfig("fast", 1, 8), seed=0)
    with torch.no_grad():
        network.ops[0].weight.fill_(math.nan)
    assert len(extract_keypoints(network, torch.zeros(3, 20, 20), EVERYTHING)) == 0


def test_every_module_gets_its_mode_back():
    network = build_network(NetworkConfig("fast", 1, 8), seed=0).train()
    network.ops[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    extract_keypoints(network, torch.randn(3, 20, 20), EVERYTHING)
    assert network.training
    assert network.ops[4].training
    assert not network.ops[1].training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_double_precision_images_are_taken():
    network = build_network(NetworkConfig("fast", 1, 8), seed=0)
    image = torch.randn(3, 20, 20)
    single, double = (extract_keypoints(network, i, EVERYTHING) for i in (image, image.double()))
    np.testing.assert_array_equal(single.keypoints, double.keypoints)


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_gpu_finds_the_same_keypoints(name):
    network, image = build_network(NetworkConfig(name, 1, 8), seed=0), torch.randn(3, 60, 71)
    settings = dataclasses.replace(EVERYTHING, min_scale=0.3, exact=True)
    here = extract_keypoints(network, image, settings)
    there = extract_keypoints(network.cuda(), image, settings)
    # Two neighbours that differ by rounding only may swap which of them is the maximum.
    assert shared_places(here, there) >= 0.99
    best = min(len(here), len(there)) // 2
    np.testing.assert_allclose(here.scores[:best], there.scores[:best], atol=1e-5, rtol=0)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(("precision", "least"), [("float32", 0.998), ("float16", 0.98), ("bfloat16", 0.93)])
def test_a_trained_network_finds_nearly_the_same_keypoints_in_16_bits(shared, device, precision, least):
    """Of an untrained one rounding decides where the maxima are."""
    network = load_model(shared / "weights" / "faster2d2_WASF_N16.pt").network
    with Image.open(shared / "data" / "hpatches" / "v_graffiti" / "1.ppm") as image:
        pixels = normalised(np.asarray(image.convert("RGB").resize((320, 256))))
    settings = ExtractionSettings(top_k=1000, min_size=0, min_reliability=0, min_repeatability=0)
    exact = extract_keypoints(network, pixels, dataclasses.replace(settings, exact=True))
    short = dataclasses.replace(settings, precision=precision)
    found = extract_keypoints(network.to(device), pixels, short)
    assert shared_places(exact, found) >= least
    scores = [np.sort(one.scores)[-500:] for one in (exact, found)]
    np.testing.assert_allclose(*scores, atol=1e-5 if precision == "float32" else 1e-3, rtol=0)


def shared_places(first, second):
    """The share of keypoints that both have."""
    places = [{tuple(row) for row in found.keypoints.round(2).tolist()} for found in (first, second)]
    return len(places[0] & places[1]) / max(map(len, places))


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((1, 3, 20, 20), r"shape \(1, 3, 20, 20\); it must be \(3, H, W\)"),
        ((20, 20, 3), r"shape \(20, 20, 3\); it must be \(3, H, W\)"),
        ((3, 3, 20), "the image is 20 x 3 pixels; the smallest is 4 x 4"),
    ],
)
def test_what_is_no_image_is_refused(shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        extract_keypoints(Canned(), torch.zeros(shape), EVERYTHING)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"top_k": 0}, "top_k is 0; it must be at least 1"),
        ({"top_k": 10.0}, "top_k is 10.0; it must be a whole number"),
        ({"top_k": True}, "top_k is True; it must be a whole number"),
        ({"min_size": -1}, "min_size is -1; it must be at least 0"),
        ({"max_size": 0}, "max_size is 0; it must be at least 1"),
        ({"min_size": 300, "max_size": 200}, r"min_size \(300\) is larger than max_size \(200\)"),
        ({"min_scale": 0.8, "max_scale": 0.5}, r"min_scale \(0.8\) is larger than max_scale \(0.5\)"),
        ({"max_scale": 2.0}, "max_scale is 2.0; it must be between 0 and 1"),
        ({"scale_factor": 1.0}, "scale_factor is 1.0; it must be at least 1.01"),
        ({"scale_factor": math.inf}, "scale_factor is inf; it must be"),
        ({"min_reliability": math.nan}, "min_reliability is nan; it must be between 0 and 1"),
        ({"min_repeatability": 1.5}, "min_repeatability is 1.5; it must be between 0 and 1"),
        ({"exact": 1}, "exact is 1; it must be true or false"),
        ({"precision": "half"}, "precision is 'half'; it must be fastest, float32, bfloat16 or float16"),
        (
            {"precision": "float16", "exact": True},
            r"exact extraction is in float32; leave precision \(float16\)",
        ),
        ({"min_repeatability": "high"}, "min_repeatability is 'high'; it must be a number"),
    ],
)
def test_impossible_settings_are_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        ExtractionSettings(**values)


# Files


@pytest.fixture
def keypoints():
    """Three keypoints, two of them with equal scores."""
    return Keypoints(
        keypoints=np.array([[1, 2, 32], [3, 4, 32], [5, 6, 64]], dtype=np.float32),
        descriptors=np.eye(3, 4, dtype=np.float32),
        scores=np.array([0.9, 0.5, 0.5], dtype=np.float32),
        image_size=(640, 480),
    )


def assert_equal(one, other):
    assert one.image_size == other.image_size
    for name in ("keypoints", "descriptors", "scores"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_the_file_lists_ascending_scores_under_the_names_other_tools_know(tmp_path, keypoints):
    save_keypoints(tmp_path / "photo.jpg.r2d2", keypoints)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg.r2d2"]
    with np.load(tmp_path / "photo.jpg.r2d2", allow_pickle=False) as archive:
        assert sorted(archive.files) == ["descriptors", "imsize", "keypoints", "scores"]
        assert archive["imsize"].tolist() == [640, 480]
        assert archive["scores"].tolist() == pytest.approx([0.5, 0.5, 0.9])
        assert archive["keypoints"].tolist() == [[5, 6, 64], [3, 4, 32], [1, 2, 32]]
        assert archive["descriptors"].dtype == np.float32
        assert archive["descriptors"].shape == (3, 4)


def test_keypoints_come_back_from_their_file(tmp_path, keypoints):
    save_keypoints(tmp_path / "k.r2d2", keypoints)
    assert_equal(load_keypoints(tmp_path / "k.r2d2"), keypoints)


def test_no_keypoints_come_back_from_their_file(tmp_path):
    none = extract_keypoints(Canned(), torch.zeros(3, 20, 30), ExtractionSettings())
    save_keypoints(tmp_path / "k.r2d2", none)
    assert_equal(load_keypoints(tmp_path / "k.r2d2"), none)


def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path, keypoints, monkeypatch):
    def fail(file, **_arrays):
        file.write(b"half a file")
        raise OSError("no space left")

    save_keypoints(tmp_path / "k.r2d2", keypoints)
    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="no space left"):
        save_keypoints(tmp_path / "k.r2d2", keypoints)
    assert [path.name for path in tmp_path.iterdir()] == ["k.r2d2"]
    assert_equal(load_keypoints(tmp_path / "k.r2d2"), keypoints)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path, keypoints, share):
    path = tmp_path / "k.r2d2"
    save_keypoints(path, keypoints)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"k\.r2d2 is no file of keypoints"):
        load_keypoints(path)


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    class Touches:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    (tmp_path / "k.r2d2").write_bytes(pickle.dumps(Touches()))
    with pytest.raises(ValueError, match=r"k\.r2d2 is no file of keypoints"):
        load_keypoints(tmp_path / "k.r2d2")
    np.savez(tmp_path / "k.npz", imsize=np.array([Touches()], dtype=object))
    with pytest.raises(ValueError, match=r"k\.npz is no file of keypoints"):
        load_keypoints(tmp_path / "k.npz")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"imsize": [640]},
        {"imsize": 640},
        {"keypoints": np.zeros((3, 2))},
        {"keypoints": np.zeros((2, 3))},
        {"descriptors": np.zeros(3)},
        {"descriptors": np.full((3, 4), "text")},
        {"scores": np.zeros((3, 1))},
        {"scores": None},
    ],
)
def test_another_layout_is_refused(tmp_path, keypoints, changes):
    arrays = {**vars(keypoints), "imsize": keypoints.image_size, **changes}
    np.savez(tmp_path / "k.npz", **{k: v for k, v in arrays.items() if v is not None and k != "image_size"})
    with pytest.raises(ValueError, match=r"k\.npz is no file of keypoints"):
        load_keypoints(tmp_path / "k.npz")


def test_an_array_file_and_a_missing_file_are_refused(tmp_path):
    np.save(tmp_path / "k.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"k\.npy is no file of keypoints"):
        load_keypoints(tmp_path / "k.npy")
    with pytest.raises(ValueError, match=r"there is no file of keypoints .*nowhere"):
        load_keypoints(tmp_path / "nowhere")
