"""Whatever kind of image file: upright 8-bit RGB, or a refusal with the file's name and the reason."""

import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from r2d2.data.images import ImageRefused, is_image, open_header, open_image, read_image, shows_nothing
from r2d2.data.normalisation import denormalise, normalise, normalise_planes


def scene(width=64, height=48):
    """A smooth picture without any symmetry, so that turning or shifting it shows."""
    y, x = np.mgrid[:height, :width]
    channels = [255 * x / (width - 1), 255 * y / (height - 1), 128 + 100 * np.sin(x / 9 + y / 15)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


@pytest.fixture
def save(tmp_path):
    def save(image, name, **options):
        path = tmp_path / name
        (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, **options)
        return path

    return save


def difference(pixels, expected):
    assert pixels.dtype == np.uint8
    assert pixels.shape == expected.shape
    return np.abs(pixels.astype(int) - expected).mean()


@pytest.mark.parametrize("suffix", ["png", "ppm", "bmp", "tif"])
def test_lossless_formats_come_back_as_they_were(save, suffix):
    assert difference(read_image(save(scene(), f"photo.{suffix}")), scene()) == 0


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_formats_come_back_nearly(save, suffix):
    assert difference(read_image(save(scene(), f"photo.{suffix}", quality=95)), scene()) < 3


@pytest.mark.parametrize("suffix", ["png", "jpg", "pgm"])
def test_grey_is_the_same_in_three_channels(save, suffix):
    grey = scene()[..., 0]
    pixels = read_image(save(grey, f"grey.{suffix}"))
    assert difference(pixels, np.repeat(grey[..., None], 3, axis=-1)) < 1


def test_cmyk_becomes_rgb(save):
    image = Image.fromarray(scene()).convert("CMYK")
    assert difference(read_image(save(image, "print.jpg", quality=95)), scene()) < 4


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_become_8(save, suffix):
    grey = scene()[..., 0].astype(np.uint16) * 257
    pixels = read_image(save(grey, f"deep.{suffix}"))
    assert difference(pixels, np.repeat(scene()[..., :1], 3, axis=-1)) == 0


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def test_16_bit_colours_become_8(tmp_path):
    rows = [b"\0" + row.tobytes() for row in scene().astype(">u2") * 257]
    header = (64).to_bytes(4, "big") + (48).to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    assert difference(read_image(tmp_path / "deep.png"), scene()) == 0


def test_palette_becomes_rgb(save):
    image = Image.fromarray(scene()).quantize(256)
    assert difference(read_image(save(image, "palette.png")), np.asarray(image.convert("RGB"))) == 0


def test_bilevel_becomes_black_and_white(save):
    image = Image.fromarray(scene()).convert("1")
    assert set(np.unique(read_image(save(image, "fax.png")))) == {0, 255}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white_whatever_colour_hides_there(save, mode):
    image = Image.fromarray(np.dstack([np.zeros_like(scene()), np.full((48, 64), 255, np.uint8)]))
    image.paste((0, 0, 0, 0), (0, 0, 20, 48))
    pixels = read_image(save(image.convert(mode), "cut-out.png"))
    assert (pixels[:, :20] == 255).all()
    assert (pixels[:, 20:] == 0).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotated_by_exif_is_upright(save, orientation, suffix):
    stored = {
        1: scene(),
        2: scene()[:, ::-1],
        3: scene()[::-1, ::-1],
        4: scene()[::-1],
        5: scene().transpose(1, 0, 2),
        6: np.rot90(scene()),
        7: scene()[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(scene(), -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if suffix == "jpg" else {}
    path = save(np.ascontiguousarray(stored[orientation]), f"turned.{suffix}", exif=exif, **options)
    with open_image(path) as image:
        assert image.size == (64, 48)
    assert difference(read_image(path), scene()) < 3


def test_damaged_exif_does_not_spoil_the_photo(save):
    path = save(scene(), "photo.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff", quality=95)
    assert difference(read_image(path), scene()) < 3


@pytest.mark.parametrize("shrink", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(640, 480), (641, 479)])
def test_shrinking_while_decoding_keeps_the_frame_at_the_top_left(save, size, shrink):
    path = save(scene(*size), "photo.jpg", quality=95)
    with open_image(path) as image:
        small, factor = image.decode(shrink)
    assert factor == shrink
    assert small.size == (-(-size[0] // shrink), -(-size[1] // shrink))
    full = np.pad(
        scene(*size).astype(float), ((0, -size[1] % shrink), (0, -size[0] % shrink), (0, 0)), "edge"
    )
    blocks = full.reshape(small.height, shrink, small.width, shrink, 3).mean(axis=(1, 3))
    assert np.abs(np.asarray(small) - blocks).mean() < 2


@pytest.mark.parametrize(("width", "factor"), [(640, 2), (641, 1)])
def test_a_turned_photo_is_shrunk_only_when_no_pixel_is_covered_in_part(save, width, factor):
    exif = Image.Exif()
    exif[0x0112] = 3
    with open_image(save(scene(width, 480), "turned.jpg", exif=exif)) as image:
        assert image.decode(2)[1] == factor


def test_other_formats_are_not_shrunk(save):
    with open_image(save(scene(640, 480), "photo.png")) as image:
        small, factor = image.decode(4)
    assert (small.size, factor) == ((640, 480), 1)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "ppm", "webp"])
def test_truncated_is_refused(save, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = save(noise, f"cut.{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageRefused, match=rf"cut\.{suffix}: "):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.jpg", b"", "not an image of a known format"),
        ("text.jpg", b"this is no picture", "not an image of a known format"),
        ("header.png", b"\x89PNG\r\n\x1a\n", "not an image of a known format"),
        ("start.jpg", b"\xff\xd8\xff\xe0", "not an image of a known format"),
    ],
)
def test_rubbish_is_refused(tmp_path, name, content, reason):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ImageRefused) as refusal:
        read_image(path)
    assert refusal.value.file == str(path)
    assert refusal.value.reason == reason
    assert str(refusal.value) == f"{path}: {reason}"


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(ImageRefused, match=r"gone\.jpg: there is no such file"):
        read_image(tmp_path / "gone.jpg")
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(ImageRefused, match=r"folder\.jpg: cannot be read"):
        read_image(tmp_path / "folder.jpg")


@pytest.mark.parametrize("size", [(31, 200), (200, 31), (1, 1)])
def test_tiny_is_refused_and_32_is_not(save, size):
    with pytest.raises(ImageRefused, match=f"{size[0]}x{size[1]} pixels; both sides must be at least 32"):
        read_image(save(np.zeros((size[1], size[0], 3), np.uint8), "tiny.png"))
    assert read_image(save(scene(32, 32), "small.png")).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("pixels", "kind"),
    [
        (np.zeros((40, 40), np.float32), "floating-point"),
        (np.full((40, 40), 70000, np.int32), "32-bit or signed"),
        (scene()[..., 0].astype(np.int32), "32-bit or signed"),
    ],
)
def test_numbers_that_do_not_say_what_is_white_are_refused(save, pixels, kind):
    with pytest.raises(ImageRefused, match=f"{kind} pixels, and the file does not say which value is white"):
        read_image(save(pixels, "grey.tif"))


def test_a_pgm_of_16_bits_says_what_is_white(tmp_path):
    grey = scene()[..., 0]
    numbers = (grey.astype(np.uint16) * 4).astype(">u2")
    (tmp_path / "deep.pgm").write_bytes(b"P5 64 48 1023 " + numbers.tobytes())
    assert difference(read_image(tmp_path / "deep.pgm"), np.repeat(grey[..., None], 3, axis=-1)) < 1


def test_a_tiff_of_16_bits_may_have_0_for_white(save):
    grey = scene()[..., 0]
    path = save(grey.astype(np.uint16) * 257, "negative.tif", tiffinfo={262: 0})
    assert difference(read_image(path), np.repeat(255 - grey[..., None], 3, axis=-1)) == 0


def test_a_tiff_of_12_bits_is_as_bright_as_it_was(tmp_path):
    grey = scene()[..., 0].astype(np.uint16) * 16
    pairs = grey.reshape(-1, 2)
    packed = np.stack(
        [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1
    )
    entries = {256: 64, 257: 48, 258: 12, 259: 1, 262: 1, 273: 122, 277: 1, 278: 48, 279: packed.size}
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    header = b"II*\0" + struct.pack("<IH", 8, len(entries)) + tags + bytes(4)
    (tmp_path / "twelve.tif").write_bytes(header + packed.astype(np.uint8).tobytes())
    assert len(header) == 122
    assert difference(read_image(tmp_path / "twelve.tif"), np.repeat(scene()[..., :1], 3, axis=-1)) < 1


def test_no_program_is_started_by_a_file_that_is_called_jpg(save):
    path = save(scene(), "drawing.eps")
    with pytest.raises(ImageRefused, match="not an image of a known format"):
        read_image(path.rename(path.with_suffix(".jpg")))


@pytest.mark.parametrize("suffix", ["gif", "jp2", "avif", "jfif", "pbm"])
def test_formats_that_are_seldom_are_read_too(save, suffix):
    image = Image.fromarray(scene()).convert("1") if suffix == "pbm" else scene()
    options = {"format": "jpeg"} if suffix == "jfif" else {}
    path = save(image, f"photo.{suffix}", **options)
    assert is_image(path.name)
    assert read_image(path).shape == (48, 64, 3)


def png(width, height, rows=b""):
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("side", [13_000, 2**31 - 1])
def test_a_size_is_compared_with_the_limit_before_pixels_are_decoded(tmp_path, side):
    # There are no pixels in it: who decoded them would say so.
    (tmp_path / "bomb.png").write_bytes(png(side, side))
    with pytest.raises(ImageRefused, match="pixels; an image may have at most 120 million"):
        read_image(tmp_path / "bomb.png")


def test_a_photograph_of_108_megapixels_passes_the_limit(tmp_path):
    (tmp_path / "large.png").write_bytes(png(12_000, 9_000))
    with open_header(tmp_path / "large.png", tmp_path / "large.png") as image:
        assert image.size == (12_000, 9_000)


@pytest.mark.parametrize(
    ("level", "noise", "nothing"), [(0, 0, True), (255, 0, True), (3, 2, True), (128, 60, False)]
)
def test_a_picture_of_nothing_is_noticed(level, noise, nothing):
    drawn = np.random.default_rng(0).normal(level, noise, (480, 640, 3))
    if not nothing:
        # Coarse enough to be more than noise.
        drawn = drawn[:48, :64].repeat(10, axis=0).repeat(10, axis=1)
    assert shows_nothing(Image.fromarray(drawn.clip(0, 255).astype(np.uint8))) is nothing


def test_few_strokes_on_a_page_and_stars_in_the_dark_are_something():
    page = np.full((480, 640, 3), 255, np.uint8)
    page[100:110, 100:300] = 0
    assert not shows_nothing(Image.fromarray(page))
    assert not shows_nothing(Image.fromarray(255 - page))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_random_damage_gives_pixels_or_a_refusal_and_nothing_else(save, suffix):
    path = save(scene(), f"damaged.{suffix}")
    sound = np.frombuffer(path.read_bytes(), np.uint8)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        bad = sound.copy()
        bad[rng.integers(0, len(bad), 5)] = rng.integers(0, 256, 5)
        path.write_bytes(bad.tobytes())
        try:
            read_image(path)
        except ImageRefused:
            refused += 1
    assert refused > 0


def test_a_refusal_travels_between_processes():
    copy = pickle.loads(pickle.dumps(ImageRefused(Path("a.jpg"), "why")))
    assert (str(copy), copy.file, copy.reason) == ("a.jpg: why", "a.jpg", "why")


def test_normalising_by_hand():
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[1, 2] = (255, 51, 0)
    image = normalise(pixels)
    assert image.shape == (3, 2, 3)
    assert image.dtype == torch.float32
    expected = torch.tensor([(1 - 0.485) / 0.229, (0.2 - 0.456) / 0.224, (0 - 0.406) / 0.225])
    torch.testing.assert_close(image[:, 1, 2], expected)
    torch.testing.assert_close(normalise_planes(torch.from_numpy(pixels).permute(2, 0, 1).float()), image)


def test_denormalising_leads_back_and_clamps():
    np.testing.assert_array_equal(denormalise(normalise(scene())), scene())
    assert denormalise(torch.full((3, 2, 2), 99.0)).min() == 255
    assert denormalise(torch.full((3, 2, 2), -99.0)).max() == 0
