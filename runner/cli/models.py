"""Defines the verb promote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from runner.record.definition import SweepDefinition
from runner.settings import Settings
from runner.terminal.answer import json_option, people_console, print_answer
from runner.terminal.console import show_line

if TYPE_CHECKING:
    from runner.registry.aliases import AliasMove
    from runner.registry.promote import Promotion
    from runner.tracking.experiments import Tracker
    from runner.tracking.run import LoggedRun


@click.command()
@click.argument("sweep", required=False)
@click.option("--run", "run_id", help="Id of the MLflow run to promote instead of a sweep's best.")
@click.option(
    "--metric", help="Metric that chose the checkpoint [default: the sweep's own, or validation/mma_3px]."
)
@click.option("--name", default="r2d2", show_default=True, help="Name of the registered model.")
@click.option("--alias", default="champion", show_default=True, help="Alias that the best version carries.")
@click.option(
    "--force", is_flag=True, help="Promote also what would be refused; the version is tagged as forced."
)
@click.option("--rollback", is_flag=True, help="Give the alias back to the version that held it before.")
@click.option("--list", "listing", is_flag=True, help="List the versions, and who held the alias when.")
@json_option
def promote(
    sweep: str | None,
    run_id: str | None,
    metric: str | None,
    name: str,
    alias: str,
    force: bool,
    rollback: bool,
    listing: bool,
    as_json: bool,
) -> None:
    """Make the best checkpoint of SWEEP (or of a run) the champion, if it is shown to be better.

    A network is refused if it has collapsed, if it is not above its own starting network, or if it is not
    shown to be better than the present champion: both are scored on fresh pairs of the sweep's held-out
    photographs. Load the champion with mlflow.pyfunc.load_model("models:/r2d2@champion"). The exit
    status is 1 if nothing was promoted.
    """
    console, settings = people_console(as_json), Settings.from_environment()
    if rollback or listing:
        if sweep or run_id or metric or force or (rollback and listing):
            raise ValueError("--rollback and --list each stand alone, with --name and --alias at most")
        (_roll_back if rollback else _list)(console, settings, name, alias, as_json)
        return
    if (sweep is None) == (run_id is None):
        raise ValueError("name a sweep or a run: r2d2 promote SWEEP, or r2d2 promote --run RUN_ID")
    show_line(console, "looking for the best checkpoint" if sweep else "looking for the run")
    tracker = _tracker(settings)
    run = tracker.get_run(run_id) if run_id else None
    if run is not None and "sweep" not in run.tags:
        raise ValueError(f"run '{run.name}' ({run.run_id}) is of no sweep: it has no checkpoint to promote")
    decides, mode = _decides(settings, run.tags["sweep"] if run else str(sweep), metric)
    from runner.registry.promote import best_run

    chosen = run or best_run(tracker, str(sweep), decides, mode)
    promotion = decided_promotion(
        console, settings, tracker, chosen, decides, name=name, alias=alias, force=force
    )
    if as_json:
        fields = {key: getattr(promotion, key) for key in ("promoted", "reason", "score")}
        about = {"name": name, "alias": alias, "run": promotion.run.run_id}
        print_answer("promotion", **about, **fields, number=promotion.version)
    if not promotion.promoted:
        raise click.exceptions.Exit(1)


def decided_promotion(
    console: Console, settings: Settings, tracker: Tracker, run: LoggedRun, metric: str, **how: Any
) -> Promotion:
    """Promotes a run's best checkpoint if it passes, and prints the outcome.

    Args:
        console: the terminal.
        settings: where things are.
        tracker: the MLflow store.
        run: the candidate's.
        metric: the metric that chose the checkpoint.
        how: `name`, `alias` and `force` of `runner.registry.promote.promote`.
    """
    from runner.cli.compare import scoring_progress
    from runner.registry.promote import promote as register
    from runner.registry.rule import PromotionRule

    with scoring_progress(console) as (on_source, on_image):
        rule = PromotionRule(tracker, settings, partial(show_line, console), on_source, on_image)
        promotion = register(tracker, run, rule, metric, **how)
    show_line(console, announcement(promotion))
    return promotion


def announcement(promotion: Promotion) -> str:
    """Says in one line how a promotion ended, and what to do if it was refused."""
    verb = "promoted" if promotion.promoted else "not promoted"
    version = f" (version {promotion.version})" if promotion.version else ""
    line = f"{promotion.run.name}, {promotion.score:.3f} in its sweep: {verb}{version}: {promotion.reason}"
    if promotion.promoted or promotion.is_champion:
        return line
    few = "More held-out photographs (data.held_out) narrow the interval; " if promotion.is_unsure else ""
    return f"{line}\n{few}r2d2 promote --force promotes it all the same, and tags the version as forced."


def _roll_back(console: Console, settings: Settings, name: str, alias: str, as_json: bool) -> None:
    show_line(console, f"rolling {alias} back")
    from runner.registry.aliases import roll_back

    move = roll_back(_tracker(settings), name, alias)
    show_line(console, str(move))
    if as_json:
        print_answer("move", name=name, **_move(move))


def _list(console: Console, settings: Settings, name: str, alias: str, as_json: bool) -> None:
    """Prints the versions, the latest first, and the moves of the alias."""
    show_line(console, f"the versions of {name}")
    from runner.registry.aliases import FORCED, alias_moves, model_versions

    tracker = _tracker(settings)
    versions = model_versions(tracker, name)
    for version in versions:
        words = [
            f"version {version.version}",
            ", ".join(version.aliases) or "-",
            _score_in_its_sweep(version.tags),
            *([f"{version.tags['fresh_score']} on fresh pairs"] if "fresh_score" in version.tags else []),
            *(["FORCED"] if FORCED in version.tags else []),
            version.description or "",
        ]
        show_line(console, " | ".join(words))
    moves = [move for move in alias_moves(tracker, name) if move.alias == alias]
    show_line(console, f"who held {alias}" if moves else f"nobody has moved {alias} yet")
    for move in reversed(moves):
        show_line(console, str(move))
    if as_json:
        shown = [
            {
                "number": int(version.version),
                "aliases": list(version.aliases),
                "description": version.description or "",
                "tags": dict(version.tags),
            }
            for version in versions
        ]
        print_answer(
            "versions", name=name, alias=alias, versions=shown, moves=[_move(move) for move in moves]
        )


def _move(move: AliasMove) -> dict[str, Any]:
    values = asdict(move)
    return {"number": values.pop("version"), **values}


def _score_in_its_sweep(tags: Mapping[str, str]) -> str:
    """Returns the score of a version in its sweep; a version registered by hand has none."""
    if not {"metric", "score"} <= tags.keys():
        return "registered by hand, no score"
    return f"{tags['metric']} {float(tags['score']):.3f} in its sweep"


def _tracker(settings: Settings) -> Tracker:
    from runner.tracking.experiments import Tracker

    return Tracker.of(settings)


def _decides(settings: Settings, sweep: str, metric: str | None) -> tuple[str, str]:
    """Returns the metric that decides, that of the sweep if its folder is here, and its mode."""
    from runner.compare.rows import mode_of

    definition = SweepDefinition.load(settings.sweep(sweep))
    decides = metric or (definition.metric if definition else "validation/mma_3px")
    return decides, mode_of(decides, definition)
