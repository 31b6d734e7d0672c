"""Miniatures of the sources of training data: the folders of the originals, with a few small files.

Photographs are smooth random textures. The second image of a pair with flow or a homography is the first one
moved by whole pixels, so tests know the truth.
"""

import numpy as np
from PIL import Image

SIZE = (120, 96)
# How far the second image's window lies from the first one's in the texture, (x, y) pixels.
MOVED = (9, -6)
MARGIN = 16


def texture(seed, size=SIZE):
    """A random photograph (H, W, 3) uint8."""
    rng = np.random.default_rng([7, seed])
    coarse = Image.fromarray(rng.integers(0, 256, (9, 11, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)
    fine = rng.integers(-12, 13, (size[1] // 4 + 1, size[0] // 4 + 1, 3)).astype(np.int16)
    fine = fine.repeat(4, axis=0).repeat(4, axis=1)[: size[1], : size[0]]
    return (np.asarray(coarse).astype(np.int16) + fine).clip(0, 255).astype(np.uint8)


def moved_views(seed, moved=MOVED, size=SIZE):
    """Two windows of one texture; pixel p of the first is pixel p - moved of the second."""
    width, height = size
    whole = texture(seed, (width + 2 * MARGIN, height + 2 * MARGIN))
    first = whole[MARGIN : MARGIN + height, MARGIN : MARGIN + width]
    top, left = MARGIN + moved[1], MARGIN + moved[0]
    return first, whole[top : top + height, left : left + width]


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))


def write_web(folder, count=6):
    """revisitop1m: `000/NAME.jpg`, `001/NAME.jpg`, ..."""
    for k in range(count):
        save(folder / f"{k % 3:03x}" / f"{k:032x}.jpg", texture(k))
    return folder


def write_aachen(folder, count=6):
    """`images_upright/db/NAME.jpg`; photographs 2k and 2k + 1 show one scene, moved."""
    for k in range(count):
        save(folder / "images_upright" / "db" / f"{k}.jpg", moved_views(100 + k // 2)[k % 2])
    save(folder / "images_upright" / "query" / "night.jpg", texture(999))
    return folder


def write_style(folder, count=6, size=(60, 48)):
    """`style_transfer/NAME.jpg.st_STYLE.jpg` beside `write_aachen`: darker, and half as large."""
    for k in range(count):
        pixels = moved_views(100 + k // 2)[k % 2]
        styled = Image.fromarray((pixels * 0.5).astype(np.uint8)).resize(size, Image.Resampling.BOX)
        save(folder / "style_transfer" / f"{k}.jpg.st_night{k % 2}.jpg", np.asarray(styled))
    return folder


def aachen_flow(flow):
    """Pixels (H, W, 4) of a flow file, of flow (H, W, 2) in pixels."""
    return (flow * 16).round().astype("<i2").view(np.uint8)


def known_partners(moved=MOVED, size=SIZE):
    """Whether each pixel's partner lies in the second image, (H, W) bool."""
    x, y = np.meshgrid(np.arange(size[0]) - moved[0], np.arange(size[1]) - moved[1])
    return (x >= 0) & (x < size[0]) & (y >= 0) & (y < size[1])


def constant_flow(moved=MOVED, size=SIZE):
    """The flow (H, W, 2) of `moved_views`."""
    return np.broadcast_to(-np.array(moved, np.float32), (size[1], size[0], 2)).copy()


def write_flow(folder, count=6):
    """`optical_flow/flow/A_B.png` and `optical_flow/mask/A_B.png` beside `write_aachen`."""
    for k in range(0, count - 1, 2):
        save(folder / "optical_flow" / "flow" / f"{k}_{k + 1}.png", aachen_flow(constant_flow()))
        save(folder / "optical_flow" / "mask" / f"{k}_{k + 1}.png", known_partners().astype(np.uint8) * 255)
    return folder


def middlebury_flow(flow):
    """The bytes of a `.flo` file."""
    height, width = flow.shape[:2]
    head = np.float32(202021.25).tobytes() + np.array([width, height], "<i4").tobytes()
    return head + flow.astype("<f4").tobytes()


def write_own_flow(folder, count=2):
    """`NAME/1.png`, `NAME/2.png`, `NAME/flow_1_2.flo`, unknown where the partner is outside."""
    for k in range(count):
        for number, view in enumerate(moved_views(200 + k), start=1):
            save(folder / f"scene{k}" / f"{number}.png", view)
        flow = np.where(known_partners()[..., None], constant_flow(), 1e10)
        (folder / f"scene{k}" / "flow_1_2.flo").write_bytes(middlebury_flow(flow))
    return folder


def write_homographies(folder, count=2, images=3):
    """HPatches' layout: `NAME/1.png` ... and `NAME/H_1_k`; image k is moved k - 1 times."""
    for k in range(count):
        for number in range(1, images + 1):
            moved = ((number - 1) * 4, (number - 1) * -3)
            save(folder / f"v_scene{k}" / f"{number}.png", moved_views(300 + k, moved)[1])
            if number > 1:
                text = f"1 0 {-moved[0]}\n0 1 {-moved[1]}\n0 0 1\n"
                (folder / f"v_scene{k}" / f"H_1_{number}").write_text(text)
    return folder


def write_wasf(folder, count=6):
    """The classic mix below one folder: `revisitop1m` and `aachen`."""
    write_web(folder / "revisitop1m", count)
    for write in (write_aachen, write_style, write_flow):
        write(folder / "aachen", count)
    return folder
