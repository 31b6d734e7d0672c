"""The catalogue: sources that are known by name, where they are, and what to do where they are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from r2d2.prepare import layout
from r2d2.prepare.http_file import RemoteFile
from r2d2.unknown import unknown

BY_HAND = "Not every network reaches these addresses: a file downloaded by hand is given with --from FILE."


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
    check: layout.Check
    partners: Callable[[str], tuple[str, ...]]
    addresses: tuple[RemoteFile, ...]
    count: str
    bytes: int
    licence: str
    otherwise: str


_NAVER = "https://download.europe.naverlabs.com/3DVision"
_CIIRC = "https://data.ciirc.cvut.cz/public/projects/2020VisualLocalization/Aachen-Day-Night/images"
_REVISITOP = "https://ptak.felk.cvut.cz/revisitop/revisitop1m/jpg"
_GB = 10**9
_AND = "+"

_SOURCES = (
    Source(
        "web",
        "W: random web images, the first 5 of the 100 archives of revisitop1m",
        layout.web_place,
        layout.check_any,
        layout.no_partners,
        tuple(RemoteFile(f"{_REVISITOP}/revisitop1m.{number}.tar.gz") for number in range(1, 6)),
        "the paper names 3,125 images",
        27 * _GB // 10,
        "photographs from Flickr under their authors' terms; no licence is stated where they are offered",
        "See https://github.com/filipradenovic/revisitop for the present addresses.",
    ),
    Source(
        "aachen",
        "A: Aachen Day-Night, the database images (day)",
        layout.aachen_place,
        layout.check_any,
        layout.no_partners,
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
        layout.style_place,
        layout.check_style,
        layout.no_partners,
        (RemoteFile(f"{_NAVER}/aachen_style_transfer.zip"),),
        "3,636 pairs with images of `aachen`",
        3 * _GB // 10,
        "offered with R2D2 (CC BY-NC-SA 3.0, non-commercial); made from Aachen's images, see `aachen`",
        "See 'Training the model' at https://github.com/naver/r2d2 for the present address.",
    ),
    Source(
        "flow",
        "F: optical flow between Aachen day images, with masks",
        layout.flow_place,
        layout.check_flow,
        layout.flow_partners,
        (RemoteFile(f"{_NAVER}/aachen_optical_flow.zip"),),
        "4,770 pairs of images of `aachen`",
        29 * _GB // 10,
        "offered with R2D2 (CC BY-NC-SA 3.0, non-commercial); made from Aachen's images, see `aachen`",
        "See 'Training the model' at https://github.com/naver/r2d2 for the present address.",
    ),
    Source(
        "photos",
        "photographs of one's own",
        layout.photo_place,
        layout.check_any,
        layout.no_partners,
        (),
        "whatever there is",
        0,
        "your own",
        "Name a folder or an archive with --from.",
    ),
    Source(
        "hpatches",
        "HPatches sequences, the benchmark",
        layout.hpatches_place,
        layout.check_hpatches,
        layout.no_partners,
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
        layout.flow_partners,
        tuple(address for source in sources for address in source.addresses),
        "; ".join(source.count for source in sources),
        sum(source.bytes for source in sources),
        "; ".join(dict.fromkeys(source.licence for source in sources)),
        " ".join(dict.fromkeys(source.otherwise for source in sources)),
    )
