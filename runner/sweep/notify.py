"""Tells a webhook how a sweep goes: when variants are decided, and when the sweep ends."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import requests

log = logging.getLogger(__name__)

SCHEMA = "r2d2.sweep-event/1"
Event = Literal["decided", "finished", "failed", "interrupted"]

# A sweep does not wait longer for somebody to listen.
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Notifier:
    """A Notifier sends events of a sweep as JSON to one address, or to nobody.

    The address may hold a secret, as those of chat services do: it is neither stored nor printed.

    Attributes:
        url: of the webhook; empty: nobody is told.
    """

    url: str = ""

    def __post_init__(self) -> None:
        if self.url and (urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc):
            raise ValueError("--notify takes the address of a webhook, http://HOST/PATH or https://HOST/PATH")

    def send(self, event: Event, sweep: str, sentences: Sequence[str], **fields: Any) -> None:
        """Posts an event once. Nobody's being there is a warning and never the end of a sweep.

        Args:
            event: what happened.
            sweep: its name.
            sentences: that say it; chat services show them as `text`.
            fields: further values of the JSON.
        """
        if not self.url:
            return
        text = "\n".join((f"{sweep}: {event}", *sentences))
        body: Mapping[str, Any] = {"schema": SCHEMA, "event": event, "sweep": sweep, "text": text, **fields}
        try:
            requests.post(self.url, json=body, timeout=_TIMEOUT_S).raise_for_status()
        except requests.RequestException as error:
            # The error's own text names the address.
            status = error.response.status_code if error.response is not None else type(error).__name__
            log.warning("the webhook of --notify at %s did not take '%s' (%s)", self.host, event, status)

    @property
    def host(self) -> str:
        """Returns the host of the address, without its path and password."""
        return urlsplit(self.url).hostname or ""


NOBODY = Notifier()
