"""Lists the sources that are known by name: where they are, which files they consist of, and how they lie.

The places have the layouts of the originals, so Aachen's images, style transfers and flows may share one.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from r2d2.data.images import is_image
from r2d2.prepare.http_file import RemoteFile
from r2d2.storage.manifest import first_names
from r2d2.unknown import unknown

BY_HAND = "Not every network reaches these addresses: a file downloaded by hand is given with --from FILE."

AACHEN_IMAGES = "images_upright/db"
STYLE = "style_transfer"
FLOW, MASK = "optical_flow/flow", "optical_flow/mask"

_SEQUENCE = re.compile(r"(?:^|/)([iv]_[^/]+)/((?:[1-6]\.(?:ppm|pgm|png|jpe?g))|H_1_[2-6])$")
_FIRST = 5
_AND = "+"

# Where a path of an archive lies at the place; None: it is not wanted.
PlaceOf = Callable[[str], str | None]


def no_partners(path: str) -> tuple[str, ...]:  # noqa: ARG001 (others look at it)
    """Says that each file is of use without the others."""
    return ()


def check_any(names: frozenset[str]) -> list[str]:
    """Asks for nothing more than that there are files."""
    return [] if names else ["there is no image"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """A Source is data that is known by name.

    Attributes:
        name: on the command line.
        what: it is.
        place_of: where a path of an archive lies at the place; None: it is not wanted.
        check: says what is wrong with the layout of a place that holds these paths, in sentences.
        partners: the files that are of no use without a file.
        addresses: of the archives.
        count: what the original holds, in words.
        bytes: to download, about; 0: unknown.
        licence: in a sentence, as stated where it is offered.
        otherwise: what to do where the addresses do not help.
    """

    name: str
    what: str
    place_of: PlaceOf
    check: Callable[[frozenset[str]], list[str]] = check_any
    partners: Callable[[str], tuple[str, ...]] = no_partners
    addresses: tuple[RemoteFile, ...] = ()
    count: str
    bytes: int = 0
    licence: str
    otherwise: str


def _placed(pattern: str | re.Pattern[str], place: str) -> PlaceOf:
    """Makes the function that puts paths which match into a place, written with the groups of the match."""
    compiled = re.compile(pattern, re.IGNORECASE) if isinstance(pattern, str) else pattern

    def place_of(path: str) -> str | None:
        found = None if _is_hidden(path) else compiled.search(path)
        return found.expand(place) if found else None

    return place_of


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.split("/"))


def photo_place(path: str) -> str | None:
    """Leaves any image where it is."""
    return path if is_image(path) and not _is_hidden(path) else None


def flow_partners(path: str) -> tuple[str, ...]:
    """Names the mask of a flow and the flow of a mask, each of no use without the other."""
    folder, _, name = path.rpartition("/")
    return (f"{MASK if folder == FLOW else FLOW}/{name}",) if folder in (FLOW, MASK) else ()


def check_style(names: frozenset[str]) -> list[str]:
    """Asks for the photograph of each transfer, if the place holds photographs at all."""
    styled, photos = _below(STYLE, names), _photos(names)
    alone = [f"{STYLE}/{name}" for name in styled if name.split(".jpg.st_")[0] not in photos]
    return _named("style transfers have no photograph", alone) if photos else []


def check_flow(names: frozenset[str]) -> list[str]:
    """Asks for the mask of each flow and the flow of each mask, and for both photographs if there are any."""
    flows, masks, photos = _below(FLOW, names), _below(MASK, names), _photos(names)
    alone = [pair for pair in flows if not _joins_two(pair.removesuffix(".png"), photos)] if photos else []
    return [
        *_named("flows have no mask", flows - masks),
        *_named("masks have no flow", masks - flows),
        *_named("flows lack a photograph", alone),
    ]


def _below(folder: str, names: Iterable[str]) -> set[str]:
    return {name.removeprefix(f"{folder}/") for name in names if name.startswith(f"{folder}/")}


def _photos(names: Iterable[str]) -> set[str]:
    """Names of Aachen's photographs, without folder and suffix."""
    return {PurePosixPath(name).stem for name in _below(AACHEN_IMAGES, names)}


def _joins_two(pair: str, photos: set[str]) -> bool:
    """Whether a name is `A_B` of two photographs, whose names may hold underscores, too."""
    words = pair.split("_")
    return any("_".join(words[:k]) in photos and "_".join(words[k:]) in photos for k in range(1, len(words)))


def check_hpatches(names: frozenset[str]) -> list[str]:
    """Asks for six images and five homographies in each sequence."""
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
    return [f"{len(names)} {what}: {first_names(names, _FIRST)}"] if names else []


_NAVER = "https://download.europe.naverlabs.com/3DVision"
_CIIRC = "https://data.ciirc.cvut.cz/public/projects/2020VisualLocalization/Aachen-Day-Night/images"
_REVISITOP = "https://ptak.felk.cvut.cz/revisitop/revisitop1m/jpg"
_HPATCHES = "https://huggingface.co/datasets/vbalnt/hpatches/resolve/main/hpatches-sequences-release.zip"
_WITH_R2D2 = "offered with R2D2 (CC BY-NC-SA 3.0, non-commercial); made from Aachen's images, see `aachen`"
_SEE_R2D2 = "See 'Training the model' at https://github.com/naver/r2d2 for the present address."
_GB = 10**9

_SOURCES = (
    Source(
        name="web",
        what="W: random web images, the first 5 of the 100 archives of revisitop1m",
        # Folders `000` to `fff` of JPEGs.
        place_of=_placed(r"(?:^|/)([0-9a-f]{3}/[^/]+\.jpe?g)$", r"\1"),
        addresses=tuple(RemoteFile(f"{_REVISITOP}/revisitop1m.{number}.tar.gz") for number in range(1, 6)),
        count="the paper names 3,125 images",
        bytes=27 * _GB // 10,
        licence="photographs from Flickr under their authors' terms; no licence is stated where they are "
        "offered",
        otherwise="See https://github.com/filipradenovic/revisitop for the present addresses.",
    ),
    Source(
        name="aachen",
        what="A: Aachen Day-Night, the database images (day)",
        # Queries are not trained on.
        place_of=_placed(r"(?:^|/)images_upright/db/([^/]+\.(?:jpe?g|png))$", rf"{AACHEN_IMAGES}/\1"),
        addresses=(RemoteFile(f"{_CIIRC}/database_and_query_images.zip"),),
        count="4,479 images",
        bytes=25 * _GB // 10,
        licence="for research; the terms are at https://www.visuallocalization.net/datasets",
        otherwise="Its page https://www.visuallocalization.net/datasets links "
        "database_and_query_images.zip, which may ask for consent to its terms.",
    ),
    Source(
        name="style",
        what="S: Aachen day images in the style of night photographs",
        # They come in one folder or another.
        place_of=_placed(r"(?:^|/)([^/]+\.jpg\.st_[^/]+\.(?:jpe?g|png))$", rf"{STYLE}/\1"),
        check=check_style,
        addresses=(RemoteFile(f"{_NAVER}/aachen_style_transfer.zip"),),
        count="3,636 pairs with images of `aachen`",
        bytes=3 * _GB // 10,
        licence=_WITH_R2D2,
        otherwise=_SEE_R2D2,
    ),
    Source(
        name="flow",
        what="F: optical flow between Aachen day images, with masks",
        place_of=_placed(r"(?:^|/)((?:flow|mask)/[^/]+_[^/]+\.png)$", r"optical_flow/\1"),
        check=check_flow,
        partners=flow_partners,
        addresses=(RemoteFile(f"{_NAVER}/aachen_optical_flow.zip"),),
        count="4,770 pairs of images of `aachen`",
        bytes=29 * _GB // 10,
        licence=_WITH_R2D2,
        otherwise=_SEE_R2D2,
    ),
    Source(
        name="photos",
        what="photographs of one's own",
        place_of=photo_place,
        count="whatever there is",
        licence="your own",
        otherwise="Name a folder or an archive with --from.",
    ),
    Source(
        name="hpatches",
        what="HPatches sequences, the benchmark",
        place_of=_placed(_SEQUENCE, r"\1/\2"),
        check=check_hpatches,
        addresses=(RemoteFile(_HPATCHES),),
        count="116 sequences of 6 images, 8 of which the protocols leave out",
        bytes=13 * _GB // 10,
        licence="none is stated for the images, which come from several earlier benchmarks; for research",
        otherwise="See https://github.com/hpatches/hpatches-dataset; the address in older scripts "
        "(icvl.ee.ic.ac.uk) is dead.",
    ),
)

SOURCES = {source.name: source for source in _SOURCES}


def find_source(name: str) -> Source:
    """Finds a source by its name, or joins several that share a place: `aachen+style+flow`.

    Raises:
        ValueError: if one is unknown, or has a place of its own.
    """
    names = tuple(dict.fromkeys(name.split(_AND)))
    strangers = [part for part in names if part not in SOURCES]
    if strangers:
        raise ValueError(unknown("source", strangers[0], sorted(SOURCES)))
    return SOURCES[name] if len(names) == 1 else _joined([SOURCES[part] for part in sorted(names)])


def _joined(sources: list[Source]) -> Source:
    alone = [source.name for source in sources if source.name not in ("aachen", "style", "flow")]
    if alone:
        raise ValueError(f"'{alone[0]}' has a place of its own; aachen, style and flow may share one")

    def place_of(path: str) -> str | None:
        return next((place for source in sources if (place := source.place_of(path)) is not None), None)

    return Source(
        name=_AND.join(source.name for source in sources),
        what="; ".join(source.what for source in sources),
        place_of=place_of,
        check=lambda names: [problem for source in sources for problem in source.check(names)],
        partners=flow_partners,
        addresses=tuple(address for source in sources for address in source.addresses),
        count="; ".join(source.count for source in sources),
        bytes=sum(source.bytes for source in sources),
        licence="; ".join(dict.fromkeys(source.licence for source in sources)),
        otherwise=" ".join(dict.fromkeys(source.otherwise for source in sources)),
    )
