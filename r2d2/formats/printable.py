"""Cleans text that is shown or kept of what a terminal would obey, and of passwords in addresses."""

from __future__ import annotations

import re
import unicodedata

# Of the control characters only these are text; a carriage return writes over the line, an escape commands.
_KEPT = frozenset("\n\t")
_COLOUR = re.compile("\x1b\\[[0-9;]*m")
# Up to the last `@` before the path: a password may hold one.
_USER_OF_URL = re.compile(r"(?<=://)[^/\s?#]*@")


def printable(text: str) -> str:
    """Replaces what is no text in a text of unknown origin; colours, which libraries add, are left out.

    Control characters (Unicode's Cc, but for line feed and tab), those that turn the direction of text (bidi
    embeddings, overrides and isolates), other invisible format characters and lone surrogates become `?`; the
    user and the password of a URL become `***`.
    """
    shown = "".join("?" if _commands(letter) else letter for letter in _COLOUR.sub("", text))
    return _USER_OF_URL.sub("***@", shown)


def _commands(letter: str) -> bool:
    return letter not in _KEPT and unicodedata.category(letter) in ("Cc", "Cf", "Cs")


def csv_cell(text: str) -> str:
    """Marks a text that begins like a formula with an apostrophe, so that a spreadsheet takes it for text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
