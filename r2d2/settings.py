"""Defines settings: dataclass fields that say what they mean and which values they take."""

from __future__ import annotations

import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from r2d2.unknown import did_you_mean, unknown

T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """A Choice is the set of names that a setting takes.

    Attributes:
        shipped: those that this version has. They are known without importing what they name, which takes
            seconds where that is torch.
        find: finds all names, those that somebody has added too.
    """

    shipped: tuple[str, ...]
    find: Callable[[], tuple[str, ...]] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Returns all names."""
        return self.shipped if self.find is None else self.find()

    def allows(self, name: str) -> bool:
        """Says whether a name may be chosen."""
        return name in self.shipped or name in self.names


# By dotted key.
Choices = Mapping[str, Choice]


def setting(
    default: T,
    doc: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> T:
    """Makes a configuration field: its default, its meaning, and its allowed values (bounds inclusive)."""
    metadata = {"doc": doc, "low": low, "high": high}
    value: T = field(default=default, metadata=metadata)
    return value


def override(cls: type[Any], values: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """Sets one `key.path=value` of a nested dictionary of settings, parsed by the type of the field.

    Raises:
        ValueError: if it is no assignment, the key is unknown, or the text does not fit the type.
    """
    path, separator, text = assignment.partition("=")
    if not separator:
        raise ValueError(
            f"'{assignment}' is not an assignment; write key.path=value, e.g. loss.similarity=dice"
        )
    names = path.strip().split(".")
    annotation = _type_at(cls, cls, names, path)
    copy = _deep_copy(values)
    section = copy
    for name in names[:-1]:
        section = section.setdefault(name, {})
    section[names[-1]] = _parse(text.strip(), annotation, path)
    return copy


# The types of a class's fields; finding them takes longer than all checks, so it is done once.
_hints: Callable[[Any], dict[str, Any]] = functools.cache(typing.get_type_hints)


def _type_at(root: type[Any], cls: type[Any], names: list[str], path: str) -> type[Any]:
    hints = _hints(cls)
    if names[0] not in hints:
        raise ValueError(_unknown_key(root, cls, names[0], path))
    annotation = hints[names[0]]
    if len(names) == 1:
        if is_dataclass(annotation):
            keys = ", ".join(f.name for f in fields(annotation))
            raise ValueError(f"'{path}' is a group of settings; set one of its keys: {keys}")
        return typing.cast(type[Any], annotation)
    if not is_dataclass(annotation):
        raise ValueError(f"unknown key '{path}': '{names[0]}' has no parts")
    return _type_at(root, typing.cast(type[Any], annotation), names[1:], path)


def _unknown_key(root: type[Any], cls: type[Any], name: str, path: str) -> str:
    known = ", ".join(sorted(f.name for f in fields(cls)))
    where = f" in '{path}'" if path != name else ""
    # Keys are also looked for in other groups: `learning_rate` is `optimiser.learning_rate`.
    meant = did_you_mean(name, {key.rpartition(".")[2]: key for key in _keys(root, "")})
    return f"unknown key '{name}'{where}; known: {known}{meant}"


def _keys(cls: type[Any], prefix: str) -> list[str]:
    """The keys of a group and of all groups in it, groups themselves included."""
    found = []
    for name, annotation in _hints(cls).items():
        found.append(f"{prefix}{name}")
        if is_dataclass(annotation):
            found += _keys(typing.cast(type[Any], annotation), f"{prefix}{name}.")
    return found


def _parse(text: str, annotation: type[Any], path: str) -> Any:
    if annotation is bool:
        words = {"true": True, "false": False}
        if text.lower() not in words:
            raise ValueError(f"{path} is '{text}'; it must be true or false")
        return words[text.lower()]
    try:
        return annotation(text)
    except ValueError:
        raise ValueError(f"{path} is '{text}'; it must be {_type_name(annotation)}") from None


def build(cls: type[T], values: Mapping[str, Any]) -> T:
    """Builds a configuration from a nested dictionary; what it does not name has its default.

    Raises:
        ValueError: for an unknown key (with the known ones).
    """
    return _build(cls, cls, values, "")


def _build(root: type[Any], cls: type[T], values: Mapping[str, Any], path: str) -> T:
    if not isinstance(values, Mapping):
        raise ValueError(f"{path or 'the configuration'} is {values!r}; it must be a dictionary")
    hints = _hints(cls)
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            raise ValueError(_unknown_key(root, cls, str(name), f"{path}.{name}" if path else str(name)))
        inner = f"{path}.{name}" if path else name
        arguments[name] = _build(root, hints[name], value, inner) if is_dataclass(hints[name]) else value
    return cls(**{name: _widen(hints[name], value) for name, value in arguments.items()})


def _widen(annotation: Any, value: Any) -> Any:
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def check(config: Any, choices: Choices, path: str = "") -> None:
    """Refuses values of the wrong type or range.

    Args:
        config: a dataclass of settings, and of groups of them.
        choices: what may be chosen, by dotted key.
        path: of the group, with a dot behind it; empty: the whole.

    Raises:
        ValueError: names the key, the value and what is allowed.
    """
    hints = _hints(type(config))
    for entry in fields(config):
        value, name = getattr(config, entry.name), f"{path}{entry.name}"
        if is_dataclass(hints[entry.name]):
            check(value, choices, f"{name}.")
            continue
        _check_value(name, value, hints[entry.name], entry.metadata)
        if name in choices and not choices[name].allows(value):
            raise ValueError(_refused_choice(name, value, choices[name]))


def _check_value(name: str, value: Any, annotation: Any, metadata: types.MappingProxyType[Any, Any]) -> None:
    accepted = (int, float) if annotation is float else annotation
    if not isinstance(value, accepted) or (isinstance(value, bool) and annotation is not bool):
        raise ValueError(f"{name} is {value!r}; it must be {_type_name(annotation)}")
    if annotation in (int, float):
        low, high = metadata["low"], metadata["high"]
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"{name} is {value!r}; it must be {_range(low, high)}")


def _refused_choice(name: str, value: str, choice: Choice) -> str:
    # `network.name` is a network, `loss.similarity` a similarity.
    noun = next(part for part in reversed(name.split(".")) if part != "name")
    return unknown(noun, value, choice.names, where=f" ({name})")


def allowed_values(annotation: Any, metadata: Mapping[str, Any]) -> str:
    """Says which values a setting takes: its type and range."""
    kind, low, high = _type_name(annotation), metadata["low"], metadata["high"]
    return kind if math.isinf(low) else f"{kind}, {_range(low, high)}"


def _range(low: float, high: float) -> str:
    return f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"


def _type_name(annotation: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[annotation]


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Lists the entries of a nested dictionary under dotted keys, in their order."""
    items: list[tuple[str, Any]] = []
    for name, value in values.items():
        items += (
            flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
        )
    return items


def _deep_copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _deep_copy(v) if isinstance(v, Mapping) else v for k, v in values.items()}
