"""A webhook hears of a sweep, and its absence harms nothing."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from runner.__main__ import main
from runner.sweep.notify import Notifier


class Listener(BaseHTTPRequestHandler):
    heard, status = [], 200

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append((self.path, json.loads(body)))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def webhook(monkeypatch):
    monkeypatch.setattr(Listener, "heard", [])
    server = HTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/services/secret"
    server.shutdown()
    server.server_close()


def test_an_event_is_one_request_with_the_finding(webhook):
    Notifier(webhook).send("finished", "which", ["dice is highest."], failed={})
    ((path, body),) = Listener.heard
    assert path == "/services/secret"
    assert body == {
        "schema": "r2d2.sweep-event/1",
        "event": "finished",
        "sweep": "which",
        "text": "which: finished\ndice is highest.",
        "failed": {},
    }


def test_nobody_is_told_without_an_address():
    Notifier().send("finished", "which", [])


def test_a_webhook_that_refuses_is_a_warning_without_its_secret(webhook, monkeypatch, caplog):
    monkeypatch.setattr(Listener, "status", 403)
    Notifier(webhook).send("failed", "which", [])
    assert "127.0.0.1 did not take 'failed' (403)" in caplog.text
    assert "secret" not in caplog.text


def test_a_webhook_that_is_away_is_a_warning_without_its_secret(caplog):
    Notifier("http://127.0.0.1:9/secret").send("finished", "which", [])
    assert "did not take 'finished' (ConnectionError)" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("url", ["example.com/hook", "ftp://example.com", "http://"])
def test_what_is_no_address_is_refused_before_anything_runs(url):
    with pytest.raises(ValueError, match="takes the address of a webhook"):
        Notifier(url)


@pytest.mark.parametrize(
    "option", [("--notify", "http://example.com/secret"), ("--notify=http://example.com/secret",)]
)
def test_a_jobs_command_does_not_show_the_address(option, monkeypatch, tmp_path):
    monkeypatch.setenv("R2D2_HOME", str(tmp_path))
    command = ["submit", "smoke", "--address", "http://127.0.0.1:9", *option]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert "set R2D2_NOTIFY on the cluster's nodes" in f"{result.output}{result.exception}"
    assert "example.com" not in f"{result.output}{result.exception}"
