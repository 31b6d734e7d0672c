"""Notes: what was repaired or is doubtful in the input, said once per kind and not once per file."""

from __future__ import annotations

from pathlib import Path


class Notes:
    """Sentences about files, counted."""

    def __init__(self) -> None:
        self._kinds: dict[str, tuple[int, Path | None]] = {}

    def add(self, kind: str, path: Path | None = None) -> None:
        """Notes that a sentence holds of a file, or of the whole evaluation.

        Args:
            kind: the sentence, without the file's name.
            path: the file.
        """
        count, first = self._kinds.get(kind, (0, path))
        self._kinds[kind] = (count + 1, first)

    def sentences(self) -> tuple[str, ...]:
        """One sentence per kind, in the order of their first files: `... (30 files, first X)`."""
        return tuple(
            kind if first is None else f"{kind} ({count} file{'s' if count > 1 else ''}, first {first})"
            for kind, (count, first) in self._kinds.items()
        )
