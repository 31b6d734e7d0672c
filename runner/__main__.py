"""Runs the command line: `python -m runner VERB`, installed as `r2d2`."""

from __future__ import annotations

import importlib
import sys
import traceback
from typing import Any

import click

from r2d2.formats.names import require_text
from r2d2.storage.errors import says_full
from r2d2.unknown import unknown
from runner.terminal.console import clean_output
from runner.terminal.words import say

# Verb -> the module of runner.cli that holds it, and what it does: a verb imports what it needs, and `--help`
# nothing more.
VERBS = {
    "ask": ("answers", 'Train until a claim, e.g. "dice beats cosine by 0.01", is decided.'),
    "compare": ("compare", "Show which differences are real, with 95 % intervals."),
    "data": ("data", "Prepare, check and list training data and benchmarks."),
    "demo": ("demo", "Train four loss variants on sample photographs, compare them, promote the best."),
    "doctor": ("machine", "Check this machine, or every node of a cluster."),
    "extend": ("manage", "Add trials to a sweep, and run them."),
    "evaluate": ("evaluate", "Score a model on a benchmark."),
    "extract": ("evaluate", "Write the keypoints of every image beside it."),
    "power": ("compare", "Show which gains a sweep can show, with how many seeds."),
    "promote": ("models", "Make the best checkpoint of a sweep or a run the champion."),
    "prune": ("manage", "List what is no longer needed, and delete it."),
    "reproduce": ("answers", "Train a run again, and say whether and why its numbers differ."),
    "resume": ("manage", "Continue a sweep as it was started."),
    "retry": ("manage", "Run failed trials of a sweep again."),
    "settings": ("settings", "List what --set can set: meaning, default, allowed values."),
    "show": ("show", "Draw what a model sees and matches, or training pairs."),
    "stop": ("manage", "Stop a running sweep; its trials can be continued."),
    "submit": ("submit", "Run a sweep on a Ray cluster."),
    "sweep": ("sweep", "Run a sweep, or resume it."),
    "sweeps": ("sweep", "List the sweeps of search_spaces/ with their questions."),
    "sync": ("manage", "Log to MLflow what it missed of a sweep."),
    "ui": ("machine", "Start MLflow's web interface for the local store."),
}
# What a verb says at once: to import what it needs takes seconds.
WORDS = {
    "ask": "reading the claim",
    "compare": "reading scores",
    "data": "looking at data",
    "demo": "checking the sample photographs",
    "doctor": "looking at this machine",
    "extend": "reading the sweep",
    "evaluate": "reading the model",
    "extract": "looking for images",
    "power": "reading scores",
    "promote": "asking MLflow for the sweep's runs",
    "prune": "looking through the sweeps",
    "reproduce": "looking for the run",
    "resume": "reading the sweep",
    "retry": "reading the sweep",
    "settings": "reading the settings",
    "show": "reading what is to be shown",
    "stop": "looking for the sweep",
    "submit": "checking the sweep",
    "sweep": "checking the sweep",
    "sweeps": "reading the sweeps",
    "sync": "reading the sweep",
    "ui": "starting MLflow",
}


class UserError(click.ClickException):
    """Reports an error that the user can mend: one sentence, exit status 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Prints the sentence to the standard error."""
        click.echo(f"error: {self.format_message()}", file=file, err=file is None)


class Verbs(click.Group):
    """Loads a verb when it is asked for."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the command line; everything that it prints is cleaned. A mistake of ours ends it with 2."""
        clean_output()
        try:
            return super().main(*args, **kwargs)
        except Exception:
            traceback.print_exc()
            sys.exit(UserError.exit_code)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Returns all verbs, in alphabetical order."""
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Imports and returns the verb's command; None if the verb is unknown."""
        if cmd_name not in VERBS:
            return None
        command = getattr(importlib.import_module(f"runner.cli.{VERBS[cmd_name][0]}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Lists the verbs; click would import each one for its help."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in sorted(VERBS.items())])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Finds the verb; an unknown one is refused with the list of the known ones."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise UserError(unknown("verb", args[0], sorted(VERBS)))
        for argument in args:
            require_text(argument)
        if args and args[0] in WORDS and not {"-h", "--help"} & set(args):
            say(WORDS[args[0]])
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the verb; an error that the user can mend ends it with one sentence instead of a traceback."""
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, RuntimeError) as error:
            sentence = _sentence(error)
            if sentence is None or ctx.params["traceback"]:
                raise
            raise UserError(" ".join(sentence.split())) from error
        except KeyboardInterrupt:
            from runner.cli.running import INTERRUPTED

            raise click.exceptions.Exit(INTERRUPTED) from None


def _sentence(error: Exception) -> str | None:
    """Returns the sentence for the user; None if the user cannot mend the error."""
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and says_full(error):
        return str(error.strerror)
    # Where the module is not loaded, nothing was logged in MLflow.
    tracking = sys.modules.get("runner.tracking.store")
    return str(error) if tracking is not None and isinstance(error, tracking.TrackingError) else None


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 yes, done; 1 the answer is no, e.g. a check or trial failed; 2 it cannot be done; "
    "130 it was interrupted.",
)
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
@click.version_option(package_name="r2d2-runner")
def main(**_: bool) -> None:
    """Train, score and compare variants of R2D2 local features.

    Sweeps and checkpoints lie in the folder .r2d2, or where R2D2_HOME says. MLFLOW_TRACKING_URI and
    RAY_ADDRESS name servers to use instead of the local ones.
    """


if __name__ == "__main__":
    main(prog_name="r2d2")
