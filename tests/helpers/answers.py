"""Compares what a verb prints with --json with docs/json.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "json.md"


def documented() -> dict[str, set[str]]:
    """The fields that the page names, by schema."""
    sections = re.split(r"^## `r2d2\.(\w+)`", PAGE.read_text(), flags=re.MULTILINE)[1:]
    rows = {
        schema: re.findall(r"^\|(.*?)\|", text, re.MULTILINE)
        for schema, text in zip(sections[::2], sections[1::2], strict=True)
    }
    return {schema: set(re.findall(r"`([^`]+)`", " ".join(found))) for schema, found in rows.items()}


def checked(text: str) -> dict[str, Any]:
    """The one object that a verb printed; its fields are those of the page, no more and no less."""
    answer = json.loads(text)
    assert answer["version"] == 1
    known = documented()[answer["schema"].removeprefix("r2d2.")]
    found = set(_paths({k: v for k, v in answer.items() if k not in ("schema", "version")}))
    for path in found:
        assert any(_means(one, path) for one in known), f"docs/json.md lacks {path} of {answer['schema']}"
    missing = {one for one in known if re.split(r"[.\[]", one)[0] not in answer}
    assert not missing, f"{answer['schema']} lacks {missing} of docs/json.md"
    return answer


def _paths(value: Any, above: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, one in value.items():
            yield from _paths(one, f"{above}.{key}" if above else key)
    elif isinstance(value, list) and value:
        for one in value:
            yield from _paths(one, f"{above}[]")
    else:
        yield above


def _means(field: str, path: str) -> bool:
    """Whether a field of the page is a path, or lies above it; or below it, if the path's value is empty."""
    field = re.sub(r"\.[A-Z]+.*", "", field)
    return path == field or path.startswith((f"{field}.", f"{field}[")) or field.startswith(f"{path}[")
