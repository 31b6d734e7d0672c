import os
import shutil

import numpy as np
import pytest

from evaluation.benchmarks.hpatches import LEFT_OUT, SUFFIXES, open_benchmark, read_homography


@pytest.fixture
def write(write_sequence, texture):
    def sequence(name, **options):
        return write_sequence(name, texture(), texture(), **options)

    return sequence


def test_sequences_are_sorted_and_split_by_name(write, tmp_path):
    for name in ("v_wall", "i_lamp", "boat"):
        write(name)
    benchmark = open_benchmark(tmp_path / "bench")
    assert benchmark.name == "bench"
    assert [(s.name, s.split) for s in benchmark.sequences] == [
        ("boat", None),
        ("i_lamp", "illumination"),
        ("v_wall", "viewpoint"),
    ]
    assert [image.name for image in benchmark.sequences[0].images] == [f"{k}.png" for k in range(1, 7)]
    assert len(benchmark.sequences[0].homographies) == 5


def test_left_out_sequences_are_left_out(write, tmp_path):
    assert len(LEFT_OUT) == 8
    for name in (*LEFT_OUT, "v_wall"):
        write(name)
    assert [s.name for s in open_benchmark(tmp_path / "bench").sequences] == ["v_wall"]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".PNG"])
def test_image_formats(write, tmp_path, suffix):
    folder = write("v_wall", suffix=".png")
    for path in folder.glob("*.png"):
        path.rename(path.with_suffix(suffix))
    assert open_benchmark(tmp_path / "bench").sequences[0].images[0] == folder / f"1{suffix}"


def test_the_lossless_one_of_two_copies_is_taken(write, tmp_path):
    folder = write("v_wall", suffix=".jpg")
    shutil.copy(folder / "1.jpg", folder / "1.ppm")
    assert open_benchmark(tmp_path / "bench").sequences[0].images[0].name == "1.ppm"


def test_other_files_and_folders_are_passed_over(write, tmp_path):
    folder = write("v_wall")
    digest = open_benchmark(tmp_path / "bench").digest
    (folder / "1.png.r2d2").touch()
    (folder / "7.png").touch()
    (tmp_path / "bench" / "README").touch()
    (tmp_path / "bench" / "results").mkdir()
    (tmp_path / "bench" / ".v_hidden").mkdir()
    assert open_benchmark(tmp_path / "bench").digest == digest


def test_folders_that_are_passed_over_are_named(write, tmp_path):
    write("v_wall")
    write("i_dc")
    (tmp_path / "bench" / "results").mkdir()
    (tmp_path / "bench" / ".v_hidden").mkdir()
    assert open_benchmark(tmp_path / "bench").passed_over == ("results",)


def test_a_sequence_whose_name_is_not_utf_8_is_refused_by_name(write, tmp_path):
    folder = write("v_wall")
    os.rename(folder, os.fsencode(folder.parent) + b"/v_caf\xe9")
    with pytest.raises(ValueError, match=r"the name of '.*/v_caf\\xe9' is not UTF-8; rename it"):
        open_benchmark(tmp_path / "bench")


def test_a_homography_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "H").write_bytes("\ufeff1 0 1\r\n0 1 0\r\n0 0 1".encode())
    np.testing.assert_array_equal(read_homography(tmp_path / "H"), [[1, 0, 1], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("1 0 0 0 1 0 0 0 1".encode("utf-16"), "H, line 1: the file is UTF-16; save it as UTF-8"),
        (b"1 0 0\n0 1 0\n0 0 1 d\xe9", "H, line 3: the byte 0xe9 is not UTF-8"),
        (b"1 " * 10_000, "H has 20000 bytes; it may have at most 10000"),
    ],
)
def test_a_homography_of_another_encoding_or_size_is_one_sentence(tmp_path, content, reason):
    (tmp_path / "H").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_homography(tmp_path / "H")


def test_digest_follows_what_the_protocol_sees(write, tmp_path):
    folder = write("v_wall")
    bench = tmp_path / "bench"
    digests = [open_benchmark(bench).digest]
    shutil.copytree(bench, tmp_path / "elsewhere")
    assert open_benchmark(tmp_path / "elsewhere").digest == digests[0]

    (folder / "H_1_2").write_text("1 0 0\n0   1 0\n0 0 1.0")
    assert open_benchmark(bench).digest == digests[0], "spaces say nothing"
    (folder / "H_1_2").write_text("1 0 1 0 1 0 0 0 1")
    digests.append(open_benchmark(bench).digest)
    shutil.copy(folder / "H_1_2", folder / "4.png")
    digests.append(open_benchmark(bench).digest)
    folder.rename(folder.with_name("v_gate"))
    digests.append(open_benchmark(bench).digest)
    assert len(set(digests)) == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "is missing"),
        ("1 0 0 0 1 0 0 0", "holds 8 numbers"),
        ("1 0 0 0 1 0 0 0 1 0", "holds 10 numbers"),
        ("", "holds 0 numbers"),
        ("1 0 0 0 1 0 0 0 one", "no number"),
        ("1 0 0 0 1 0 0 0 nan", "NaN"),
        ("1 0 0 0 inf 0 0 0 1", "infinity"),
        ("1 2 3 4 5 6 7 8 9", "singular"),
        ("\1\2", "no number"),
    ],
)
def test_unusable_homographies_are_named(write, tmp_path, text, reason):
    path = write("v_wall") / "H_1_3"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(ValueError, match=f"H_1_3.*{reason}.*nine finite numbers"):
        open_benchmark(tmp_path / "bench")


def test_a_far_translation_is_not_singular(tmp_path):
    homography = [[1e-3, 0, 4000], [0, 1e-3, 3000], [1e-7, 0, 1]]
    np.savetxt(tmp_path / "H_1_2", homography)
    np.testing.assert_array_equal(read_homography(tmp_path / "H_1_2"), homography)


def test_a_missing_image_is_named(write, tmp_path):
    (write("v_wall") / "4.png").unlink()
    with pytest.raises(ValueError, match=r"v_wall/4 is missing.*1 to 6.*\.ppm"):
        open_benchmark(tmp_path / "bench")


def test_without_sequences(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        open_benchmark(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no sequences; expected"):
        open_benchmark(tmp_path)


def test_a_single_sequence_is_no_benchmark(write, tmp_path):
    with pytest.raises(ValueError, match=f"itself a sequence.*{tmp_path / 'bench'}"):
        open_benchmark(write("v_wall"))


def test_real_sequences(shared):
    benchmark = open_benchmark(shared / "data" / "hpatches")
    assert [s.name for s in benchmark.sequences] == ["i_leuven", "v_churchill", "v_graffiti"]
    assert [s.split for s in open_benchmark(shared / "data" / "oxford").sequences] == [None] * 3
