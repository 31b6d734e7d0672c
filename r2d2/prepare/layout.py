"""Layouts: which files of an archive or a folder a source consists of, and where they lie at its place.

The places have the layouts of the originals, so Aachen's images, style transfers and flows may share one.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from r2d2.data.images import is_image

# What is wrong with the layout of a place, in sentences; none: nothing.
Check = Callable[[frozenset[str]], list[str]]

AACHEN_IMAGES = "images_upright/db"
STYLE = "style_transfer"
FLOW, MASK = "optical_flow/flow", "optical_flow/mask"

_WEB = re.compile(r"(?:^|/)([0-9a-f]{3}/[^/]+\.jpe?g)$", re.IGNORECASE)
_AACHEN = re.compile(r"(?:^|/)images_upright/(db/[^/]+\.(?:jpe?g|png))$", re.IGNORECASE)
_STYLED = re.compile(r"(?:^|/)([^/]+\.jpg\.st_[^/]+\.(?:jpe?g|png))$", re.IGNORECASE)
_FLOW = re.compile(r"(?:^|/)((?:flow|mask)/[^/]+_[^/]+\.png)$", re.IGNORECASE)
_SEQUENCE = re.compile(r"(?:^|/)([iv]_[^/]+)/((?:[1-6]\.(?:ppm|pgm|png|jpe?g))|H_1_[2-6])$")
_FIRST = 5


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.split("/"))


def web_place(path: str) -> str | None:
    """revisitop1m: folders `000` to `fff` of JPEGs."""
    found = None if _is_hidden(path) else _WEB.search(path)
    return found[1] if found else None


def aachen_place(path: str) -> str | None:
    """`images_upright/db/*.jpg`; queries are not trained on."""
    found = None if _is_hidden(path) else _AACHEN.search(path)
    return f"images_upright/{found[1]}" if found else None


def style_place(path: str) -> str | None:
    """`style_transfer/NAME.jpg.st_STYLE.jpg`, in whatever folder they come."""
    found = None if _is_hidden(path) else _STYLED.search(path)
    return f"{STYLE}/{found[1]}" if found else None


def flow_place(path: str) -> str | None:
    """`optical_flow/flow/A_B.png` and `optical_flow/mask/A_B.png`."""
    found = None if _is_hidden(path) else _FLOW.search(path)
    return f"optical_flow/{found[1]}" if found else None


def photo_place(path: str) -> str | None:
    """Any image, where it is."""
    return path if is_image(path) and not _is_hidden(path) else None


def hpatches_place(path: str) -> str | None:
    """`i_NAME` and `v_NAME`, each with images 1 to 6 and homographies `H_1_2` to `H_1_6`."""
    found = None if _is_hidden(path) else _SEQUENCE.search(path)
    return f"{found[1]}/{found[2]}" if found else None


def no_partners(path: str) -> tuple[str, ...]:  # noqa: ARG001 (others look at it)
    """Each file is of use without the others."""
    return ()


def flow_partners(path: str) -> tuple[str, ...]:
    """A flow is of no use without its mask, nor a mask without its flow."""
    folder, _, name = path.rpartition("/")
    return (f"{MASK if folder == FLOW else FLOW}/{name}",) if folder in (FLOW, MASK) else ()


def check_any(names: frozenset[str]) -> list[str]:
    """Nothing more is asked than that there are files."""
    return [] if names else ["there is no image"]


def check_style(names: frozenset[str]) -> list[str]:
    """Each transfer's photograph must be there, if the place holds photographs at all."""
    styled = {name for name in names if name.startswith(f"{STYLE}/")}
    photos = {PurePosixPath(name).stem for name in names if name.startswith(f"{AACHEN_IMAGES}/")}
    alone = [name for name in styled if PurePosixPath(name).name.split(".jpg.st_")[0] not in photos]
    return _named("style transfers have no photograph", alone) if photos else []


def check_flow(names: frozenset[str]) -> list[str]:
    """Each flow has its mask and each mask its flow; so have both photographs, if there are any."""
    flows, masks = (
        {name.rpartition("/")[2] for name in names if name.startswith(f"{part}/")} for part in (FLOW, MASK)
    )
    photos = {PurePosixPath(name).stem for name in names if name.startswith(f"{AACHEN_IMAGES}/")}
    alone = [pair for pair in flows if not _joins_two(pair[: -len(".png")], photos)] if photos else []
    return [
        *_named("flows have no mask", flows - masks),
        *_named("masks have no flow", masks - flows),
        *_named("flows lack a photograph", alone),
    ]


def _joins_two(pair: str, photos: set[str]) -> bool:
    """Whether a name is `A_B` of two photographs, whose names may hold underscores, too."""
    words = pair.split("_")
    return any("_".join(words[:k]) in photos and "_".join(words[k:]) in photos for k in range(1, len(words)))


def check_hpatches(names: frozenset[str]) -> list[str]:
    """Each sequence has six images and five homographies."""
    sequences: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name in names:
        if found := _SEQUENCE.search(name):
            sequences[found[1]][found[2].partition(".")[0]] += 1
    wanted = [*"123456", *(f"H_1_{k}" for k in range(2, 7))]
    lacking = [
        f"{sequence} lacks {', '.join(part for part in wanted if not parts[part])}"
        for sequence, parts in sorted(sequences.items())
        if any(not parts[part] for part in wanted)
    ]
    return _named("sequences are not complete", lacking)


def _named(what: str, names: Iterable[str]) -> list[str]:
    names = sorted(names)
    if not names:
        return []
    more = f" and {len(names) - _FIRST} more" if len(names) > _FIRST else ""
    return [f"{len(names)} {what}: {', '.join(names[:_FIRST])}{more}"]
