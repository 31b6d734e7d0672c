"""Opens `aachen` (A): the day photographs of Aachen Day-Night's database, `images_upright/db/*.jpg`."""

from __future__ import annotations

from dataclasses import dataclass

from r2d2.data.images import is_image
from r2d2.data.photos import photo_set
from r2d2.data.places import OpenPlace
from r2d2.data.sources.photos import PhotoSource
from r2d2.data.sources.source import DATABASE
from r2d2.storage.files import FileSet, StoredFile


@dataclass(frozen=True)
class AachenSource(PhotoSource):
    """An AachenSource offers the photographs of the database, each an item; it leaves out the queries."""

    @classmethod
    def open(cls, place: str, places: OpenPlace) -> AachenSource:
        """Opens the photographs below a place; see `PairSource`."""
        files = places(place)
        found = {name: StoredFile(files, name) for name in database(files).values()}
        if not found:
            raise ValueError(f"'{place}' holds no photographs {DATABASE}*.jpg")
        return cls(photo_set(found))


def database(files: FileSet) -> dict[str, str]:
    """Finds the files of the database's photographs, by their names without suffix."""
    return {
        name[len(DATABASE) :].rpartition(".")[0]: name
        for name in files.names
        if name.startswith(DATABASE) and is_image(name)
    }
