"""Features made elsewhere: what is unambiguous is read, what can be repaired is, the rest is refused."""

import numpy as np
import pytest

from evaluation.predictions.features import Notes, read_features

SIZE = (100, 80)


def unit(descriptors):
    return descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)


def usual():
    rng = np.random.default_rng(0)
    return {
        "keypoints": rng.uniform(0, 79, (6, 2)),
        "descriptors": unit(rng.normal(size=(6, 4))),
        "scores": np.array([0.1, 0.6, 0.3, 0.5, 0.2, 0.4]),
    }


@pytest.fixture
def read(tmp_path):
    """Writes arrays into a file and reads it; gives the keypoints and the notes."""

    def write_and_read(arrays, top_k=None):
        path = tmp_path / "1.ppm.mine"
        with path.open("wb") as file:
            np.savez(file, **arrays)
        notes = Notes()
        return read_features(path, SIZE, top_k, notes), notes.sentences()

    return write_and_read


def test_best_first(read):
    arrays = usual()
    found, notes = read(arrays)
    order = [1, 3, 5, 2, 4, 0]
    np.testing.assert_allclose(found.scores, arrays["scores"][order], rtol=1e-6)
    np.testing.assert_allclose(found.keypoints[:, :2], arrays["keypoints"][order], rtol=1e-6)
    np.testing.assert_allclose(found.descriptors, arrays["descriptors"][order], rtol=1e-5)
    assert found.image_size == SIZE
    assert notes == ()
    best, _ = read(arrays, top_k=2)
    np.testing.assert_array_equal(best.keypoints, found.keypoints[:2])


def test_descriptors_by_column_are_turned(read):
    arrays = usual()
    upright, _ = read(arrays)
    turned, _ = read(arrays | {"descriptors": arrays["descriptors"].T})
    np.testing.assert_array_equal(turned.descriptors, upright.descriptors)


def test_a_square_is_read_along_the_side_of_unit_length(read):
    arrays = usual()
    square = unit(np.random.default_rng(1).normal(size=(6, 6)))
    upright, _ = read(arrays | {"descriptors": square})
    turned, _ = read(arrays | {"descriptors": square.T})
    np.testing.assert_array_equal(turned.descriptors, upright.descriptors)
    with pytest.raises(ValueError, match=r"1\.ppm\.mine: 'descriptors' has shape \(6, 6\) and does not tell"):
        read(arrays | {"descriptors": 2 * square})
    with pytest.raises(ValueError, match="does not tell"):
        read(arrays | {"descriptors": np.eye(6)})


def test_the_scale_is_kept_and_the_angle_is_not(read):
    arrays = usual()
    wide = np.hstack([arrays["keypoints"], np.full((6, 1), 7), np.full((6, 1), 0.5)])
    assert read(arrays | {"keypoints": wide})[0].keypoints[:, 2].tolist() == [7] * 6
    assert read(arrays)[0].keypoints[:, 2].tolist() == [1] * 6


def test_descriptors_of_another_length_are_normalised_with_a_note(read):
    arrays = usual()
    found, notes = read(arrays | {"descriptors": 300 * arrays["descriptors"]})
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, rtol=1e-6)
    assert len(notes) == 1
    assert "normalised (1 file, first " in notes[0]
    assert notes[0].endswith("1.ppm.mine)")


def test_descriptors_of_16_bits_are_of_unit_length(read):
    arrays = usual()
    assert read(arrays | {"descriptors": arrays["descriptors"].astype(np.float16)})[1] == ()


def test_duplicates_are_removed_with_a_note(read):
    arrays = {name: np.concatenate([values, values[:2]]) for name, values in usual().items()}
    found, notes = read(arrays)
    assert len(found) == 6
    assert "duplicate keypoints were removed (1 file" in notes[0]


def test_two_descriptors_at_one_place_are_no_duplicates(read):
    arrays = usual()
    arrays["keypoints"][1] = arrays["keypoints"][0]
    found, notes = read(arrays)
    assert (len(found), notes) == (6, ())


def test_no_keypoints_are_noted(read):
    empty = {"keypoints": np.zeros((0, 2)), "descriptors": np.zeros((0, 4)), "scores": np.zeros(0)}
    found, notes = read(empty)
    assert len(found) == 0
    assert notes[0].startswith("no keypoints (1 file")


def test_keypoints_outside_the_image_are_noted(read):
    arrays = usual()
    arrays["keypoints"][0, 0] = 99.6
    assert read(arrays)[1][0].startswith("keypoints outside the image: are they in pixels of the image file?")


def test_without_scores_the_order_counts(read):
    arrays = usual()
    del arrays["scores"]
    found, notes = read(arrays, top_k=6)
    np.testing.assert_allclose(found.keypoints[:, :2], arrays["keypoints"], rtol=1e-6)
    assert "no scores" in notes[0]
    with pytest.raises(ValueError, match="holds 6 keypoints without 'scores'; the protocol takes the best 5"):
        read(arrays, top_k=5)


def with_nan(name):
    arrays = usual()
    arrays[name].reshape(6, -1)[2, 0] = np.nan
    return arrays


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_nan("keypoints"), "'keypoints' holds NaN or infinity in 1 of 6 rows"),
        (with_nan("descriptors"), "'descriptors' holds NaN or infinity in 1 of 6 rows"),
        (with_nan("scores"), "'scores' holds NaN or infinity in 1 of 6 rows"),
        ({"keypoints": np.zeros(6)}, r"'keypoints' has shape \(6,\); it must be \(N, 2 or more\)"),
        ({"keypoints": np.zeros((6, 1))}, r"'keypoints' has shape \(6, 1\)"),
        ({"descriptors": np.ones((5, 4))}, r"'descriptors' has shape \(5, 4\); it must be \(6, D\)"),
        ({"scores": np.ones(5)}, r"'scores' has shape \(5,\); it must be \(6,\)"),
        ({"descriptors": np.zeros((6, 4))}, "a descriptor is all zeros"),
        ({"scores": np.array(list("abcdef"))}, "'scores' holds <U1; it must hold numbers"),
        ({"scores": np.array([None] * 6)}, "is no file of features"),
    ],
)
def test_what_cannot_be_repaired_names_the_file(read, change, reason):
    with pytest.raises(ValueError, match=rf"1\.ppm\.mine.*{reason}"):
        read(usual() | change)


@pytest.mark.parametrize("name", ["keypoints", "descriptors"])
def test_what_is_lacking_is_named(read, name):
    arrays = usual()
    del arrays[name]
    with pytest.raises(ValueError, match=rf"1\.ppm\.mine lacks '{name}': it must hold keypoints"):
        read(arrays)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"no archive"])
def test_an_interrupted_file_is_named(tmp_path, damage):
    path = tmp_path / "1.ppm.mine"
    with path.open("wb") as file:
        np.savez(file, **usual())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"1\.ppm\.mine is no file of features"):
        read_features(path, SIZE, None, Notes())


def test_a_missing_file_and_a_single_array_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file of features .*/none"):
        read_features(tmp_path / "none", SIZE, None, Notes())
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"one\.npy is no file of features \(File is not a zip file\)"):
        read_features(tmp_path / "one.npy", SIZE, None, Notes())


def test_notes_say_each_kind_once(tmp_path):
    notes = Notes()
    for name in "abc":
        notes.add("odd", tmp_path / name)
    notes.add("the disk is full")
    notes.add("even", tmp_path / "d")
    assert notes.sentences() == (
        f"odd (3 files, first {tmp_path / 'a'})",
        "the disk is full",
        f"even (1 file, first {tmp_path / 'd'})",
    )
