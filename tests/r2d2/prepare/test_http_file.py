"""Downloads from a server that cuts, hangs, refuses, ignores and lies."""

import hashlib
import json
import time

import pytest

from r2d2.prepare.address import check_address, redirected
from r2d2.prepare.catalogue import SOURCES
from r2d2.prepare.http_file import Limits, RemoteFile, download
from r2d2.storage.errors import FileError, PlaceError

QUICK = Limits(connect=1.0, read=0.4, timeout=3.0, slowest=1024)
CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def served(web):
    web.files["a.zip"] = CONTENT
    return web


def get(web, target, **known):
    came = []
    download(RemoteFile(web.url("a.zip"), **known), target, advance=came.append, limits=QUICK)
    return sum(came)


def left_behind(target):
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def test_a_file_comes_whole_and_leaves_nothing_behind(served, tmp_path):
    target = tmp_path / "deep" / "a.zip"
    assert get(served, target, sha256=hashlib.sha256(CONTENT).hexdigest()) == len(CONTENT)
    assert target.read_bytes() == CONTENT
    assert left_behind(target) == []
    assert get(served, target) == len(CONTENT)
    assert served.asked == [None], "what is there is not asked for again"


def test_a_cut_connection_is_taken_up_where_it_was_cut(served, tmp_path):
    served.script = ["cut", "cut", "cut"]
    target = tmp_path / "a.zip"
    assert get(served, target) == len(CONTENT), "no byte comes twice"
    assert target.read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert served.asked[:3] == [None, f"bytes={half}-", f"bytes={half + (len(CONTENT) - half) // 2}-"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(served, tmp_path, status):
    served.script = [status, status]
    get(served, tmp_path / "a.zip")
    assert len(served.asked) == 3
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_sends_it_all_again(served, tmp_path):
    served.script = ["cut", "whole"]
    assert get(served, tmp_path / "a.zip") == len(CONTENT), "what came in vain is taken back"
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_that_always_cuts_and_ignores_ranges_is_given_up(served, tmp_path):
    # Every answer brings bytes, yet none that is new: timeout must not begin anew each time.
    served.always = "cut"
    served.validators = False
    served.files["a.zip"] = CONTENT
    answer = served.answer
    served.answer = lambda request: (request.headers.__delitem__("Range"), answer(request))
    begun = time.monotonic()
    with pytest.raises(PlaceError, match=r"ended after|was cut"):
        get(served, tmp_path / "a.zip")
    assert time.monotonic() - begun < 30
    assert len(served.asked) > 2


def test_a_file_that_was_replaced_in_the_middle_comes_from_one_version(served, tmp_path):
    served.script = ["cut"]
    other = bytes(reversed(CONTENT))
    answer = served.answer

    def replace_after_the_first(request):
        answer(request)
        served.files["a.zip"], served.versions["a.zip"] = other, "2"

    served.answer = replace_after_the_first
    get(served, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == other


def test_an_interrupted_download_goes_on_in_another_process(served, tmp_path):
    part = tmp_path / "a.zip.part"
    part.write_bytes(CONTENT[:1000])
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"url": served.url("a.zip"), "version": '"1"'}))
    get(served, tmp_path / "a.zip")
    assert served.asked == ["bytes=1000-"]
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "note", ["", "{", "[]", '{"url": "http://elsewhere/", "version": "x"}', '{"version": 3}']
)
def test_a_part_of_unknown_origin_is_not_used(served, tmp_path, note):
    (tmp_path / "a.zip.part").write_bytes(b"x" * 1000)
    if note:
        (tmp_path / "a.zip.part.json").write_text(note)
    get(served, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 7])
def test_a_part_that_is_whole_or_longer_ends_well(served, tmp_path, length):
    (tmp_path / "a.zip.part").write_bytes((CONTENT + b"surplus")[:length])
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"url": served.url("a.zip"), "version": '"1"'}))
    get(served, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("how", ["hang", "trickle"])
def test_no_wait_is_endless(served, tmp_path, how):
    served.always = how
    begun = time.monotonic()
    with pytest.raises(PlaceError) as refused:
        get(served, tmp_path / "a.zip")
    assert 2 < time.monotonic() - begun < 30
    assert "for 3 s" in str(refused.value)
    assert served.url("a.zip") in str(refused.value)


def test_what_came_before_a_trickle_is_kept_and_the_rest_is_asked_for(served, tmp_path):
    served.script = ["burst"]
    get(served, tmp_path / "a.zip")
    assert len(served.asked) == 2
    assert int(served.asked[1].removeprefix("bytes=").rstrip("-")) > served.burst
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_that_hangs_once_is_asked_again(served, tmp_path):
    served.script = ["hang"]
    get(served, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_long_retry_after_does_not_outlast_the_timeout(served, tmp_path):
    answer = served._send
    served._send = lambda request, status, body, headers, how=None: answer(
        request, status, body, {**headers, "Retry-After": "3600"}, how
    )
    served.always = 503
    begun = time.monotonic()
    with pytest.raises(PlaceError, match="503"):
        get(served, tmp_path / "a.zip")
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_said_at_once(served, tmp_path, status):
    served.always = status
    with pytest.raises(PlaceError, match=f"the server answers {status}"):
        get(served, tmp_path / "a.zip")
    assert len(served.asked) == 1


def test_a_web_page_is_no_archive(served, tmp_path):
    served.always = "page"
    with pytest.raises(FileError, match="a web page instead of the file"):
        get(served, tmp_path / "a.zip")
    assert left_behind(tmp_path / "a.zip") == []


def test_a_wrong_file_is_named_and_not_kept(served, tmp_path):
    with pytest.raises(FileError, match="not the file that was expected: its SHA-256"):
        get(served, tmp_path / "a.zip", sha256="0" * 64)
    with pytest.raises(FileError, match=f"the server has {len(CONTENT)} bytes; they should be 5"):
        get(served, tmp_path / "a.zip", size=5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["http://", "ftp://127.0.0.1/x", "http://[x/y"])
def test_an_address_that_is_none_is_refused(tmp_path, url):
    with pytest.raises(PlaceError, match="it is no address"):
        download(RemoteFile(url), tmp_path / "x", limits=QUICK)


def test_a_server_that_is_not_there_is_named(tmp_path, web):
    url = web.url("x")
    web.server.server_close()
    with pytest.raises(PlaceError, match="connection"):
        download(RemoteFile(url), tmp_path / "x", limits=QUICK)


def test_a_redirection_is_followed_and_goes_on_where_it_was_cut(served, tmp_path):
    served.files["b.zip"] = CONTENT
    served.script = ["to /b.zip", "cut", "to b.zip"]
    get(served, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert served.asked[-1] is not None


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "it is no address of the web"),
        ("http://example.com/a.zip", "replace what comes by plain HTTP"),
        ("//user@[x", "it is no address, or redirects to none"),
    ],
)
def test_a_redirection_out_of_the_web_or_to_plain_http_is_refused(served, tmp_path, location, reason):
    served.always = f"to {location}"
    with pytest.raises(PlaceError, match=reason):
        get(served, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_redirections_in_a_circle_end(served, tmp_path):
    served.always = "to /a.zip"
    with pytest.raises(PlaceError, match="redirects more than 5 times"):
        get(served, tmp_path / "a.zip")
    assert len(served.asked) == 6


@pytest.mark.parametrize(
    ("url", "location", "reason"),
    [
        ("https://8.8.8.8/a", "http://8.8.8.8/a", "redirects from https to http"),
        ("https://8.8.8.8/a", "https://169.254.169.254/latest", "redirects to an inner address"),
        ("https://8.8.8.8/a", "https://10.0.0.1/a", "redirects to an inner address"),
        ("https://8.8.8.8/a", "https://localhost/a", "redirects to an inner address"),
        ("https://8.8.8.8/a", "https://[::1]/a", "redirects to an inner address"),
        ("https://8.8.8.8/a", "https://[64:ff9b::7f00:1]/a", "redirects to an inner address"),
        ("https://8.8.8.8/a", "https://[2002:7f00:1::]/a", "redirects to an inner address"),
        ("https://8.8.8.8/a", "ftp://8.8.8.8/a", "it is no address of the web"),
    ],
)
def test_a_server_of_the_internet_cannot_have_inner_addresses_asked(url, location, reason):
    with pytest.raises(PlaceError, match=reason):
        redirected(url, location, content_is_known=True)


def test_redirections_within_the_internet_and_within_an_inner_network_are_followed():
    assert redirected("https://8.8.8.8/a/b", "c", content_is_known=False) == "https://8.8.8.8/a/c"
    assert redirected("https://8.8.8.8/a", "https://1.1.1.1/b", False) == "https://1.1.1.1/b"
    assert redirected("https://10.0.0.1/a", "https://10.0.0.2/b", False) == "https://10.0.0.2/b"


def test_plain_http_is_for_this_machine_and_for_known_content():
    check_address("http://127.0.0.1:80/a", content_is_known=False)
    check_address("http://8.8.8.8/a", content_is_known=True)
    with pytest.raises(PlaceError, match="write https://, or give its --sha256"):
        check_address("http://8.8.8.8/a", content_is_known=False)


def test_every_known_address_is_https():
    urls = [address.url for source in SOURCES.values() for address in source.addresses]
    assert urls
    assert all(url.startswith("https://") for url in urls)
