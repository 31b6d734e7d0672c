"""What a hostile server says of its objects becomes a listing or one sentence."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from r2d2.storage import s3
from r2d2.storage.errors import PlaceError
from r2d2.storage.s3 import S3Server

OBJECT = {"Key": "p/a", "Size": 3, "ETag": '"1"', "LastModified": datetime(2026, 1, 1, tzinfo=UTC)}


@pytest.fixture
def listing(monkeypatch):
    """Lists the objects of a server that gives these pages, the last one over and over."""

    def list_pages(*pages):
        asked = []

        def ask(where, method, request, timeout=None):
            asked.append(request.get("ContinuationToken", ""))
            return pages[min(len(asked), len(pages)) - 1]

        server = S3Server()
        monkeypatch.setattr(server, "ask", ask)
        return [found.name for found in server.list("b", "p/")]

    return list_pages


def more(token, **page):
    return {"IsTruncated": True, "NextContinuationToken": token, **page}


def test_pages_are_put_together(listing):
    assert listing(more("1", Contents=[OBJECT]), {"Contents": [{**OBJECT, "Key": "p/b"}]}) == ["p/a", "p/b"]


@pytest.mark.parametrize("token", ["same", ""])
def test_a_listing_that_comes_back_to_a_page_is_refused(listing, token):
    with pytest.raises(PlaceError, match=r"s3://b/p/: the server's listing has no end"):
        listing(more(token, Contents=[OBJECT]))


def test_a_listing_of_any_length_is_refused(listing, monkeypatch):
    monkeypatch.setattr(s3, "MAX_OBJECTS", 5)
    with pytest.raises(PlaceError, match="or more than 5 objects"):
        listing(*(more(str(n), Contents=[OBJECT]) for n in range(9)))
    with pytest.raises(PlaceError, match="or more than 5 objects"):
        listing(*(more(str(n)) for n in range(9)))


@pytest.mark.parametrize(
    "entry",
    [
        {},
        *({key: value for key, value in OBJECT.items() if key != left} for left in OBJECT),
        {**OBJECT, "Size": -1},
        {**OBJECT, "Size": 2**70},
        {**OBJECT, "Size": "3"},
        {**OBJECT, "ETag": "x" * 2000},
        {**OBJECT, "Key": "p/" + "x" * 2000},
        {**OBJECT, "Key": None},
        {**OBJECT, "LastModified": "yesterday"},
    ],
    ids=str,
)
def test_what_is_no_object_is_refused(listing, entry):
    with pytest.raises(PlaceError, match=r"s3://b/p/: the server's answer is no listing"):
        listing({"Contents": [OBJECT, entry]})


def test_the_token_of_the_next_page_may_not_be_missing(listing):
    with pytest.raises(PlaceError, match="no listing"):
        listing({"IsTruncated": True})
