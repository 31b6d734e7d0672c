"""FolderStore: a store in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from r2d2.storage.atomic import atomic_file, create_file
from r2d2.storage.errors import require_size
from r2d2.storage.store import LARGEST, ObjectInfo


class FolderStore:
    """Files in a folder; see `Store`."""

    is_remote = False
    timeout = 0.0

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser()

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder)

    def below(self, name: str) -> FolderStore:
        """The store of a folder in this one."""
        return FolderStore(self.folder / name)

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is none."""
        path = self.folder / name
        try:
            require_size(str(path), path.stat().st_size, LARGEST)
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def read_all(self, files: Iterable[ObjectInfo]) -> list[bytes | None]:
        """The contents of files, in their order."""
        return [self.read(file.name) for file in files]

    def find_all(self, names: Iterable[str]) -> list[ObjectInfo | None]:
        """What a look finds under each name."""
        paths = (self.folder / name for name in names)
        return [self._info(path) if path.is_file() else None for path in paths]

    def write(self, name: str, content: bytes) -> None:
        """Keeps a content under a name."""
        with atomic_file(self.folder / name) as file:
            file.write(content)

    def create(self, name: str, content: bytes) -> bool:
        """Keeps a content under a name that nothing has yet."""
        return create_file(self.folder / name, content)

    def put_file(self, name: str, path: Path) -> None:
        """Keeps a copy of a file under a name."""
        with path.open("rb") as source, atomic_file(self.folder / name) as target:
            shutil.copyfileobj(source, target)

    def delete(self, name: str) -> None:
        """Removes a file, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def delete_below(self, name: str) -> None:
        """Removes a folder, if it is there; what others have linked to stays."""
        folder = self.folder / name
        if folder.is_symlink() or not folder.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"{folder} is a link, or lies behind one; nothing of it is deleted")
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)

    def files(self, name: str = "") -> list[ObjectInfo]:
        """The files in a folder."""
        return [self._info(path) for path in _visible(self.folder / name) if path.is_file()]

    def folders(self, name: str = "") -> list[str]:
        """The folders in a folder."""
        return [path.name for path in _visible(self.folder / name) if path.is_dir()]

    def walk(self, name: str = "") -> Iterator[ObjectInfo]:
        """All files below a folder; links to folders are not followed, which might lead anywhere."""
        for path in _visible(self.folder / name):
            if path.is_symlink() and path.is_dir():
                continue
            if path.is_dir():
                yield from self.walk(path.relative_to(self.folder).as_posix())
            elif path.is_file():
                yield self._info(path)

    def _info(self, path: Path) -> ObjectInfo:
        status = path.stat()
        mark = f"{status.st_ino}-{status.st_mtime_ns}-{status.st_size}"
        return ObjectInfo(path.relative_to(self.folder).as_posix(), status.st_size, status.st_mtime, mark)


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
