"""Reads values of a JSON file, whoever wrote it: each field has its type, or one sentence says not."""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

_hints: Callable[[Any], dict[str, Any]] = functools.cache(typing.get_type_hints)
# Larger whole numbers are those of no field, and numpy has no room for them.
_LARGEST = 2**63


def parse_json(content: bytes, where: str, build: Callable[[Any], T], advice: str = "") -> T:
    """Parses what a file holds.

    Args:
        content: of the file.
        where: it lies.
        build: makes the value; a KeyError, TypeError or AttributeError says that the file is not what it
            should be.
        advice: what a user can do about a damaged one.

    Raises:
        ValueError: if it is damaged; names the file.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise _damaged(where, error, advice) from error
    try:
        return build(values)
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(where, error, advice) from error


def _damaged(where: str, error: Exception, advice: str) -> ValueError:
    return ValueError(f"{where} is damaged ({error}){f'; {advice}' if advice else ''}")


def typed(cls: type[T], values: Any) -> T:
    """Makes a dataclass of the values of its fields, which are compared with the fields' types.

    JSON has a list where a field is a tuple, and a mapping where it is a dataclass.

    Raises:
        TypeError: if a field is missing, unknown or of another type.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"{_short(values)} is no {cls.__name__}")
    hints = _hints(cls)
    for name, value in values.items():
        if name in hints and not _fits(value, hints[name]):
            raise TypeError(f"'{name}' is {_short(value)}")
    return cls(**{name: _made(value, hints.get(name)) for name, value in values.items()})


def _made(value: Any, hint: Any) -> Any:
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return _made(value, next(one for one in inner if _fits(value, one)))
    if kind is tuple:
        return tuple(_made(one, inner[0]) for one in value)
    return typed(hint, value) if _is_nested(value, hint) else value


def _is_nested(value: Any, hint: Any) -> bool:
    """Says whether a value is the mapping of a dataclass."""
    return dataclasses.is_dataclass(hint) and isinstance(value, Mapping)


def _fits(value: Any, hint: Any) -> bool:
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if kind is typing.Literal:
        return value in inner
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return isinstance(value, Mapping) and all(
            _fits(key, inner[0]) and _fits(one, inner[1]) for key, one in value.items()
        )
    if kind is tuple:
        return isinstance(value, list | tuple) and all(_fits(one, inner[0]) for one in value)
    if hint in (int, float):
        whole = type(value) is int and abs(value) < _LARGEST
        return whole or (hint is float and type(value) is float)
    return hint is Any or _is_nested(value, hint) or isinstance(value, hint)


def _short(value: object) -> str:
    return repr(value)[:80]
