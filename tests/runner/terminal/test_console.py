"""Text on its way to the terminal or into a trial's history commands nothing and shows no password."""

from __future__ import annotations

import subprocess
import sys

import miniatures
import pytest
from click.testing import CliRunner

from r2d2.storage.location import store_at
from r2d2.storage.manifest import Manifest, ManifestFile
from runner.__main__ import main
from runner.record.history import History
from runner.record.incidents import incidents, record_incident

NASTY = "\x1b]52;c;ZXZpbA==\x07\x9b2J\u202egpj https://me:word@host/x"
SHOWN = "?]52;c;ZXZpbA==??2J?gpj https://***@host/x"
# A verb of its own, in place of `settings`: what the body prints is all that follows the verb's words.
VERB = """
import logging, sys, warnings
import click
from runner.__main__ import main
from runner.terminal.console import make_console
import runner.cli.settings as module
NASTY = {nasty!r}
@click.command()
def settings():
    {body}
module.settings = settings
main(["settings"])
"""
WAYS = {
    "what goes on": """
    click.echo(NASTY)
    click.echo(NASTY, err=True)
    print("a", NASTY, file=sys.stderr)
    sys.stdout.writelines([NASTY, NASTY])
    warnings.warn(NASTY)
    logging.getLogger("r2d2.x").warning("%s", NASTY)
    logging.basicConfig()
    logging.getLogger("r2d2.x").warning(NASTY)
    try:
        raise ValueError(NASTY)
    except ValueError:
        logging.exception("x")
    make_console().print("[red]x[/]", NASTY.replace("\\x07", "\\x08"))
""",
    "the user's error": "raise ValueError(NASTY)",
    "an error of the program": "raise AssertionError(NASTY)",
    "click's own error": "raise click.UsageError(NASTY)",
}
# How often the text is seen; a traceback shows the program's own line too.
TIMES = {"what goes on": 9}


def run(code, **variables):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, **variables)
    return (done.stdout + done.stderr).decode()


def is_clean(text):
    return "word" not in text and not set(text) & set("\x1b\x07\x9b\u202e")


@pytest.mark.parametrize("way", WAYS)
def test_what_leaves_a_verb_is_clean(way):
    shown = run(VERB.format(nasty=NASTY, body=WAYS[way]))
    assert shown.count(SHOWN) == TIMES.get(way, 1), shown
    assert is_clean(shown)


def test_so_it_is_where_the_output_has_another_encoding(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert is_clean(shown := run(VERB.format(nasty=NASTY, body="click.echo(NASTY); click.echo('†')")))
    assert SHOWN in shown


def test_the_warning_of_a_source_with_such_a_name(tmp_path):
    miniatures.write_style(miniatures.write_aachen(tmp_path))
    (tmp_path / "style_transfer" / "x\x1b[2Jy\u202e.jpg.st_1.jpg").write_bytes(b"")
    command = ["show", "--pairs", f"style={tmp_path}", "--count", "1"]
    shown = run(f"from runner.__main__ import main; main({command!r})", cwd=tmp_path)
    assert "style transfers without a photograph are left out: 1: style_transfer/x?[2Jy?" in shown
    assert is_clean(shown)


@pytest.mark.parametrize("where", ["source", "path"])
def test_the_differences_from_a_manifest_with_such_names(where, tmp_path):
    source, path = (NASTY, "a.jpg") if where == "source" else ("photos", NASTY)
    manifest = Manifest(source, (ManifestFile(path, 3, "0" * 64, 4, 4),))
    (tmp_path / "manifest.json").write_bytes(manifest.to_bytes())
    (tmp_path / "b\x1b[2J\u202e.jpg").write_bytes(b"")
    result = CliRunner().invoke(main, ["data", "check", str(tmp_path)])
    assert result.exit_code == (1 if where == "source" else 2)
    shown = result.output
    assert len(shown.splitlines()) > 1
    assert is_clean(shown)


def test_what_is_written_down_of_an_error_is_clean(tmp_path):
    history = History(store_at(str(tmp_path)))
    history.mark_failed(NASTY)
    record_incident(history, "worker_lost", NASTY)
    assert history.failure == SHOWN
    assert [incident.text for incident in incidents(history)] == [SHOWN]
    assert all("word" not in path.read_text() for path in tmp_path.rglob("*") if path.is_file())
