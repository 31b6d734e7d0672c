"""Lists the versions of the registered model, and records who gave an alias to which one, when and why.

Each move is stored as a tag of the registered model, so none is lost. The model's description, which MLflow's
page shows, ends with a table of the moves, the latest first.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from evaluation.report.text import markdown_table
from runner.tracking.experiments import Tracker
from runner.tracking.store import as_tracking_error

CHAMPION, PREVIOUS = "champion", "previous"
# Tag of a version that was promoted although it would have been refused: the reason.
FORCED = "forced"
TAG = "r2d2.move."
HEADING = "## Who held the alias"
# Of a description, in MLflow's databases.
MAX_DESCRIPTION = 5000


@dataclass(frozen=True)
class AliasMove:
    """An AliasMove is one move of an alias to another version.

    Attributes:
        when: in UTC, ISO 8601 to the second.
        who: the user that asked for it.
        alias: the alias that was moved.
        version: the version that holds it since.
        former: the version that held it before; None: none did.
        reason: half a sentence.
    """

    when: str
    who: str
    alias: str
    version: int
    former: int | None
    reason: str

    def __str__(self) -> str:
        former = "" if self.former is None else f", before it version {self.former}"
        return f"{self.when} {self.who}: version {self.version} is {self.alias}{former}: {self.reason}"


def previous_of(alias: str) -> str:
    """Names the alias of the version that held an alias before."""
    return PREVIOUS if alias == CHAMPION else f"{PREVIOUS}-{alias}"


def version_by_alias(tracker: Tracker, name: str, alias: str) -> ModelVersion | None:
    """Finds the version of a registered model that holds an alias; None if none does."""
    try:
        return tracker.client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


@as_tracking_error()
def model_versions(tracker: Tracker, name: str) -> list[ModelVersion]:
    """Returns the versions of a registered model, the latest first.

    Raises:
        ValueError: if there is none.
    """
    found = tracker.client.search_model_versions(f"name = '{name}'")
    if not found:
        raise ValueError(f"no version of '{name}' is registered yet: r2d2 promote SWEEP makes one")
    # A search leaves out who holds which alias.
    versions = (tracker.client.get_model_version(name, version.version) for version in found)
    return sorted(versions, key=lambda version: -int(version.version))


def move_alias(tracker: Tracker, name: str, alias: str, version: int, reason: str) -> AliasMove:
    """Moves the alias to a version, gives `previous_of` it to its former holder, and records the move."""
    held = version_by_alias(tracker, name, alias)
    former = None if held is None else int(held.version)
    move = AliasMove(_now(), _user(), alias, version, former, reason)
    client = tracker.client
    if former is not None:
        client.set_registered_model_alias(name, previous_of(alias), str(former))
    client.set_registered_model_alias(name, alias, str(version))
    moves = [*alias_moves(tracker, name), move]
    client.set_registered_model_tag(name, f"{TAG}{len(moves):06d}", json.dumps(asdict(move)))
    text = client.get_registered_model(name).description or ""
    client.update_registered_model(name, described(text, moves))
    return move


@as_tracking_error()
def alias_moves(tracker: Tracker, name: str) -> list[AliasMove]:
    """Returns the moves of all aliases of a registered model, the earliest first."""
    tags = tracker.client.get_registered_model(name).tags
    return [AliasMove(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(TAG)]


@as_tracking_error()
def roll_back(tracker: Tracker, name: str, alias: str) -> AliasMove:
    """Gives an alias back to the version that held it before; a second call undoes the first.

    Raises:
        ValueError: if no version held it before, or the one that did is deleted.
    """
    held = version_by_alias(tracker, name, alias)
    former = version_by_alias(tracker, name, previous_of(alias))
    if held is None:
        raise ValueError(f"no version of '{name}' is {alias}: there is nothing to roll back")
    if former is None or former.version == held.version:
        raise ValueError(f"no version of '{name}' was {alias} before version {held.version}")
    return move_alias(tracker, name, alias, int(former.version), f"rolled back from version {held.version}")


def described(text: str, moves: Sequence[AliasMove]) -> str:
    """Adds the table of moves to a description, as many of the latest as it has room for."""
    own = text.partition(HEADING)[0].rstrip()
    shown = list(reversed(moves))
    while shown:
        earlier = len(moves) - len(shown)
        note = f"\n\n{earlier} earlier moves: see the tags {TAG}*" if earlier else ""
        rows = [(m.when, m.who, m.alias, str(m.version), str(m.former or "-"), m.reason) for m in shown]
        table = markdown_table(("when (UTC)", "who", "alias", "version", "before", "why"), rows)
        whole = "\n\n".join(filter(None, (own, HEADING, table))) + note
        if len(whole) <= MAX_DESCRIPTION:
            return whole
        shown.pop()
    return own


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        # A container whose user has no name.
        return "unknown"
