"""Text of strangers commands no terminal, no spreadsheet, and shows no password."""

from __future__ import annotations

import io

import pytest

from r2d2.formats.printable import csv_cell, printable
from runner.terminal.console import make_console


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Muñoz 日本 †±\n\tx", "Muñoz 日本 †±\n\tx"),
        ("\x1b[2J\x1b]0;title\x07", "?[2J?]0;title?"),
        ("a\rb\x9bc\x7f", "a?b?c?"),
        ("photo\u202egpj.exe", "photo?gpj.exe"),
        ("\u2066a\u2069\u200b\ufeff", "?a???"),
        ("\udcff", "?"),
        ("https://me:word@server/x?y#z", "https://***@server/x?y#z"),
        ("https://me:w@rd@server/x", "https://***@server/x"),
        ("s3://key@bucket and http://a@b", "s3://***@bucket and http://***@b"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
    ],
)
def test_what_is_no_text_is_replaced(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@SUM(A1)", "\tx"])
def test_a_formula_is_text(text):
    assert csv_cell(text) == f"'{text}"
    assert csv_cell(f"ap{text}") == f"ap{text}"


def test_a_console_cleans_tables_markup_and_text(monkeypatch):
    from rich.table import Table
    from rich.text import Text

    output = io.StringIO()
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout", output)
    console = make_console()
    table = Table("name")
    table.add_row("\x1b]52;c;ZXZpbA==\x07")
    for shown in (table, Text("\x9b2J"), "[bold]x\x1b[2J[/bold]"):
        console.print(shown)
    assert not set(output.getvalue()) & {"\x1b", "\x07", "\x9b"}
    assert "?]52;c;ZXZpbA" in output.getvalue()


def test_what_is_shown_live_is_cleaned_too(monkeypatch):
    from rich.live import Live
    from rich.progress import Progress

    output = io.StringIO()
    monkeypatch.setattr("sys.stdout", output)
    console = make_console()
    with Progress(console=console) as bars:
        bars.add_task("\x9b2J.jpg", total=1)
    with Live("\x1b]52;c;ZXZpbA==\x07", console=console):
        pass
    assert "?2J" in output.getvalue()
    assert "?]52" in output.getvalue()
    assert not set(output.getvalue()) & {"\x07", "\x9b"}
    assert "\x1b]" not in output.getvalue()
