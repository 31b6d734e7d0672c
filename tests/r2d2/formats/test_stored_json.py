"""What a home's files hold is compared with the types of the fields, whoever wrote them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial

import pytest

from r2d2.formats.stored_json import parse_json, typed


@dataclass(frozen=True)
class Node:
    host: str


@dataclass(frozen=True)
class Event:
    epoch: int
    metrics: Mapping[str, float]
    place: str | None = None
    tags: tuple[str, ...] = ()
    ended: bool = False
    node: Node | None = None
    others: tuple[Node, ...] = ()


def read(content: bytes) -> Event:
    return parse_json(content, "event.json", partial(typed, Event), "delete it")


def test_a_value_comes_back():
    found = read(b'{"epoch": 1, "metrics": {"a": 1, "b": NaN}, "place": null, "tags": ["x"], "ended": true}')
    assert (found.epoch, found.metrics["a"], found.place, found.ended) == (1, 1, None, True)
    assert found.tags == ("x",)


def test_dataclasses_of_dataclasses_come_back():
    event = Event(1, {}, node=Node("a"), others=(Node("b"), Node("c")))
    assert read(json.dumps(asdict(event)).encode()) == event


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 100_000,
        b"\xff\xfe",
        b"9" * 5000,
        b"null",
        b"[1]",
        b"{}",
        b'{"epoch": 1}',
        b'{"epoch": true, "metrics": {}}',
        b'{"epoch": "1", "metrics": {}}',
        b'{"epoch": 1180591620717411303424, "metrics": {}}',
        b'{"epoch": 1, "metrics": []}',
        b'{"epoch": 1, "metrics": {"a": "x"}}',
        b'{"epoch": 1, "metrics": {}, "place": 3}',
        b'{"epoch": 1, "metrics": {}, "tags": [3]}',
        b'{"epoch": 1, "metrics": {}, "ended": 1}',
        b'{"epoch": 1, "metrics": {}, "node": "a"}',
        b'{"epoch": 1, "metrics": {}, "node": {"host": 3}}',
        b'{"epoch": 1, "metrics": {}, "node": {}}',
        b'{"epoch": 1, "metrics": {}, "others": {"host": "a"}}',
        b'{"epoch": 1, "metrics": {}, "other": 1}',
    ],
)
def test_another_one_is_one_sentence(content):
    with pytest.raises(ValueError, match=r"^event\.json is damaged \(.*\); delete it$"):
        read(content)
