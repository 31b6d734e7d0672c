"""ShardIndex: which file lies where in which shard.

`shards.json` beside the shards: {"format": 1, "source": "web", "shards": [{"path", "size", "sha256"}, ...],
"files": [{"path", "shard", "offset", "size", "sha256", "width", "height"}, ...]}, files sorted by path.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from r2d2.storage.manifest import Manifest, ManifestFile, manifest_entries

INDEX = "shards.json"
FORMAT = 1


@dataclass(frozen=True)
class ShardIndex:
    """What is in the shards of a place.

    Attributes:
        shards: the shard files themselves.
        content: the files in them, as if they lay at the place themselves.
        shard_of: for each file of `content`, the number of its shard.
        offset_of: for each file of `content`, where it begins in its shard, bytes.
    """

    shards: tuple[ManifestFile, ...]
    content: Manifest
    shard_of: tuple[int, ...]
    offset_of: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """As it is written: one line a file."""
        head = {"format": FORMAT, "source": self.content.source, "left_out": list(self.content.left_out)}
        start = json.dumps({**head, "shards": [shard.to_dict() for shard in self.shards]}, ensure_ascii=False)
        where = zip(self.content.files, self.shard_of, self.offset_of, strict=True)
        lines = ",\n".join(
            json.dumps({**file.to_dict(), "shard": shard, "offset": offset}, ensure_ascii=False)
            for file, shard, offset in where
        )
        return f'{start[:-1]}, "files": [\n{lines}\n]}}\n'.encode()

    @classmethod
    def parse(cls, content: bytes, where: str) -> ShardIndex:
        """Reads what `to_bytes` made.

        Args:
            content: of the file.
            where: it lies, for the sentence.

        Raises:
            ValueError: if it is damaged or of another format.
        """
        files = Manifest.parse(content, where)
        whole = json.loads(content)
        shards = _shards(whole.get("shards"), where)
        by_path = {file["path"]: file for file in whole["files"]}
        placed = [_place(by_path[file.path], file.size, shards, where) for file in files.files]
        return cls(shards, files, tuple(shard for shard, _ in placed), tuple(offset for _, offset in placed))


def _shards(entries: Any, where: str) -> tuple[ManifestFile, ...]:
    listed = json.dumps({"format": FORMAT, "files": entries}).encode()
    return tuple(ManifestFile(*entry) for entry in manifest_entries(listed, f"{where} (its 'shards')"))


def _place(entry: dict[str, Any], size: int, shards: tuple[ManifestFile, ...], where: str) -> tuple[int, int]:
    shard, offset = entry.get("shard"), entry.get("offset")
    if (
        type(shard) is not int
        or type(offset) is not int
        or not 0 <= shard < len(shards)
        or not 0 <= offset <= shards[shard].size - size
    ):
        raise ValueError(f"{where} is damaged: '{entry['path']}' lies in no shard of it")
    return shard, offset
