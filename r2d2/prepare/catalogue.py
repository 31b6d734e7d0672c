"""The catalogue: sources that are known by name, where they are, and what to do where they are not.

Of an archive or a folder it says which files a source consists of, and where they lie at its place. The
places have the layouts of the originals, so Aachen's images, style transfers and flows may share one.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from r2d2.data.images import is_image
from r2d2.prepare.http_file import RemoteFile
from r2d2.unknown import unknown

BY_HAND = "Not every network reaches these addresses: a file downloaded by hand is given with --from FILE."


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


@dataclass(frozen=True)
class Source:
    """A source of data.

    Attributes:
        name: on the command line.
        what: it is.
        place_of: where a path of an archive lies at the place; None: it is not wanted.
        check: what is wrong with the layout of a place that holds these paths.
        partners: the files that are of no use without a file.
        addresses: of the archives.
        count: what the original holds, in words.
        bytes: to download, about; 0: unknown.
        licence: in a sentence, as stated where it is offered.
        otherwise: what to do where the addresses do not help.
    """

    name: str
    what: str
    place_of: Callable[[str], str | None]
    check: Check
    partners: Callable[[str], tuple[str, ...]]
    addresses: tuple[RemoteFile, ...]
    count: str
    bytes: int
    licence: str
    otherwise: str


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


_NAVER = "https://download.europe.naverlabs.com/3DVision"
_CIIRC = "https://data.ciirc.cvut.cz/public/projects/2020VisualLocalization/Aachen-Day-Night/images"
_REVISITOP = "https://ptak.felk.cvut.cz/revisitop/revisitop1m/jpg"
_GB = 10**9
_AND = "+"

_SOURCES = (
    Source(
        "web",
        "W: random web images, the first 5 of the 100 archives of revisitop1m",
        web_place,
        check_any,
        no_partners,
        tuple(RemoteFile(f"{_REVISITOP}/revisitop1m.{number}.tar.gz") for number in range(1, 6)),
        "the paper names 3,125 images",
        27 * _GB // 10,
        "photographs from Flickr under their authors' terms; no licence is stated where they are offered",
        "See https://github.com/filipradenovic/revisitop for the present addresses.",
    ),
    Source(
        "aachen",
        "A: Aachen Day-Night, the database images (day)",
        aachen_place,
        check_any,
        no_partners,
        (RemoteFile(f"{_CIIRC}/database_and_query_images.zip"),),
        "4,479 images",
        25 * _GB // 10,
        "for research; the terms are at https://www.visuallocalization.net/datasets",
        "Its page https://www.visuallocalization.net/datasets links database_and_query_images.zip, "
        "which may ask for consent to its terms.",
    ),
    Source(
        "style",
        "S: Aachen day images in the style of night photographs",
        style_place,
        check_style,
        no_partners,
        (RemoteFile(f"{_NAVER}/aachen_style_transfer.zip"),),
        "3,636 pairs with images of `aachen`",
        3 * _GB // 10,
        "offered with R2D2 (CC BY-NC-SA 3.0, non-commercial); made from Aachen's images, see `aachen`",
        "See 'Training the model' at https://github.com/naver/r2d2 for the present address.",
    ),
    Source(
        "flow",
        "F: optical flow between Aachen day images, with masks",
        flow_place,
        check_flow,
        flow_partners,
        (RemoteFile(f"{_NAVER}/aachen_optical_flow.zip"),),
        "4,770 pairs of images of `aachen`",
        29 * _GB // 10,
        "offered with R2D2 (CC BY-NC-SA 3.0, non-commercial); made from Aachen's images, see `aachen`",
        "See 'Training the model' at https://github.com/naver/r2d2 for the present address.",
    ),
    Source(
        "photos",
        "photographs of one's own",
        photo_place,
        check_any,
        no_partners,
        (),
        "whatever there is",
        0,
        "your own",
        "Name a folder or an archive with --from.",
    ),
    Source(
        "hpatches",
        "HPatches sequences, the benchmark",
        hpatches_place,
        check_hpatches,
        no_partners,
        (
            RemoteFile(
                "https://huggingface.co/datasets/vbalnt/hpatches/resolve/main/hpatches-sequences-release.zip"
            ),
        ),
        "116 sequences of 6 images, 8 of which the protocols leave out",
        13 * _GB // 10,
        "none is stated for the images, which come from several earlier benchmarks; for research",
        "See https://github.com/hpatches/hpatches-dataset; the address in older scripts "
        "(icvl.ee.ic.ac.uk) is dead.",
    ),
)

SOURCES = {source.name: source for source in _SOURCES}


def find_source(name: str) -> Source:
    """A source by its name, or several that share a place: `aachen+style+flow`.

    Raises:
        ValueError: if one is unknown.
    """
    names = tuple(dict.fromkeys(name.split(_AND)))
    strangers = [part for part in names if part not in SOURCES]
    if strangers:
        raise ValueError(unknown("source", strangers[0], sorted(SOURCES)))
    return SOURCES[name] if len(names) == 1 else _joined([SOURCES[part] for part in sorted(names)])


def _joined(sources: list[Source]) -> Source:
    shared = [source.name for source in sources if source.name not in ("aachen", "style", "flow")]
    if shared:
        raise ValueError(f"'{shared[0]}' has a place of its own; aachen, style and flow may share one")

    def place_of(path: str) -> str | None:
        return next((place for source in sources if (place := source.place_of(path)) is not None), None)

    return Source(
        _AND.join(source.name for source in sources),
        "; ".join(source.what for source in sources),
        place_of,
        lambda names: [problem for source in sources for problem in source.check(names)],
        flow_partners,
        tuple(address for source in sources for address in source.addresses),
        "; ".join(source.count for source in sources),
        sum(source.bytes for source in sources),
        "; ".join(dict.fromkeys(source.licence for source in sources)),
        " ".join(dict.fromkeys(source.otherwise for source in sources)),
    )
