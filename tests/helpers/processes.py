"""The processes of this machine, as /proc shows them."""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")


def all_processes() -> list[int]:
    return [int(entry.name) for entry in PROC.glob("[0-9]*")]


def title_of(pid: int) -> str:
    """A process's command; empty if it is gone."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def parent_of(pid: int) -> int:
    """A process's parent; 0 if it is gone."""
    try:
        return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def variables_of(pid: int) -> list[str]:
    """The variables that a process was started with, each `NAME=VALUE`; none if it is gone."""
    try:
        return (PROC / str(pid) / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def naming(text: str) -> list[int]:
    """The processes whose command contains a text."""
    return [pid for pid in all_processes() if text in title_of(pid)]
