"""Runs a sweep: Tune asks for trials, the evaluator scores them, MLflow logs them, a table comes out.

Nothing is unpickled to resume. Every trial has a folder named by its configuration, which holds its history
and its checkpoints. The same command goes through the same trials again; each one reports its past events and
continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import torch
from rich.console import Console

from evaluation.actor import start_pool
from evaluation.report.report import Report
from r2d2.processor.kind import this_processor
from runner.cluster.connect import Capacity, on_this_node, ray_cluster
from runner.cluster.metrics import SweepMetrics
from runner.cluster.resources import WorkerResources
from runner.compare.report import final_report, report_files, save_pictures
from runner.compare.rounds import Rounds, rounds_of
from runner.compare.rows import label_trials
from runner.record.command import remember_own
from runner.record.layout import QUESTION, TRIALS
from runner.record.lease import Lease, hold
from runner.record.looks import Ledger, is_test
from runner.record.provenance import Provenance, save_files
from runner.record.sweep import forget, stored_ending
from runner.settings import Settings
from runner.sweep.callback import SweepCallback
from runner.sweep.notify import NOBODY, Event, Notifier
from runner.sweep.plan import SweepPlan
from runner.sweep.progress import SweepProgress, TrialProgress
from runner.sweep.sync import log_summary
from runner.sweep.tuner import Trainable, Tuning
from runner.terminal.console import show_line
from runner.tracking.experiments import Tracker
from runner.tracking.note import DatasetUse, SweepIdentity, TrackingNote, has_answered
from runner.tracking.reporter import Reporter
from runner.tracking.store import without_password
from runner.trial.driver import run_trial
from runner.trial.scoring import TrialContext
from search_spaces.sweep import Trial


@dataclass(frozen=True)
class SweepResult:
    """A SweepResult says how a sweep ended.

    Attributes:
        report: its comparison, starting networks included; None if no trial was started.
        failed: key and reason of the trials that failed.
        interrupted: whether it was stopped before all trials had ended.
        behind: why MLflow does not have trials completely, by their keys.
        summary_run: id of the MLflow run that holds the table.
        page: where the comparison lies, to be opened in a browser; None without scores.
    """

    report: Report | None
    failed: dict[str, str]
    interrupted: bool
    behind: dict[str, str]
    summary_run: str | None
    page: str | None = None


def run_sweep(
    plan: SweepPlan,
    settings: Settings,
    console: Console,
    trainable: Trainable = run_trial,
    notifier: Notifier = NOBODY,
) -> SweepResult:
    """Runs a sweep to its end, or continues it.

    Args:
        plan: the sweep.
        settings: where things are.
        console: the terminal.
        trainable: what Tune runs for each trial.
        notifier: hears of decided variants and of the end.

    Raises:
        ValueError: if the cluster is too small, MLflow does not answer at an address where it never did,
            the sweep runs already, or another driver has taken it over.
    """
    with hold(plan.store, settings.lease_seconds, console.print) as lease:
        if plan.options.from_start:
            forget(plan.stored, plan.options.only)
        tracker, note = _open_tracker(settings), _note(plan)
        identity = SweepIdentity.of(plan.definition, plan.question, note)
        reporter = Reporter(tracker, identity, plan.store.place, partial(show_line, console), lease.attempt)
        failed: dict[str, str] = {}
        interrupted = False
        try:
            if _has_ended(plan):
                reporter.open()
            else:
                show_line(console, "starting Ray ...")
                ray = ray_cluster(settings.ray_address, plan.options.verbose)
                with ray as capacity:
                    there = capacity.grown(settings.cluster_cpus, settings.cluster_gpus)
                    worker, concurrent = shares(plan, there)
                    # Nothing is written before the cluster is known to hold the sweep: a refused one leaves
                    # no definition behind that a corrected one would differ from.
                    store = without_password(settings.tracking_uri)
                    _write_down(plan, note.answered(store) if reporter.open() else note)
                    _write_provenance(plan, lease.attempt.number)
                    callback = _run(plan, worker, concurrent, reporter, console, trainable, lease, notifier)
                failed, interrupted = callback.reasons, callback.interrupted
            lease.attempt.require_current()
            behind = _settle(plan, reporter)
            report = final_report(plan.stored, plan.question)
            page = summary = None
            if report is not None and not interrupted:
                files = report_files(report)
                page = save_pictures(plan.store, files)
                summary = log_summary(reporter, identity, report, files)
        finally:
            reporter.close()
        _tell_end(notifier, plan.definition.name, report, failed, interrupted)
        return SweepResult(report, failed, interrupted, behind, summary, page)


def _tell_end(
    notifier: Notifier, name: str, report: Report | None, failed: dict[str, str], interrupted: bool
) -> None:
    event: Event = "interrupted" if interrupted else "failed" if failed else "finished"
    sentences = [*report.answer, report.finding] if report is not None else []
    notifier.send(event, name, [*sentences, *map(": ".join, failed.items())], failed=failed)


def _write_down(plan: SweepPlan, note: TrackingNote) -> None:
    """Writes down what the sweep is and how it was started, so that it can be continued and logged."""
    plan.definition.save(plan.store)
    plan.started.save(plan.store)
    plan.store.write(QUESTION, plan.question.encode())
    note.save(plan.store)
    role = plan.sweep.metric.partition("/")[0]
    if is_test(role):
        Ledger.of_sweep(plan.store).choose(plan.data.digests[role], plan.definition.name)


def _write_provenance(plan: SweepPlan, attempt: int) -> None:
    """Writes down what this attempt computes with, so that its figures can be reproduced."""
    evaluators, data = plan.options.run.evaluators, plan.data
    device = torch.device("cuda" if evaluators.num_gpus and torch.cuda.is_available() else "cpu")
    provenance = Provenance.of_now(this_processor(device, evaluators.threads))
    provenance.save(plan.store, attempt)
    remember_own(provenance.code.content)
    save_files(plan.store, data.training.contents | data.held_out.contents)


def _open_tracker(settings: Settings) -> Tracker:
    """Opens the store; accepts a server that is away if it answered a sweep of this home before.

    Raises:
        ValueError: if it does not answer where it never did: the address may be wrong.
    """
    known = has_answered(settings.sweeps, without_password(settings.tracking_uri))
    return Tracker.of(settings, may_be_away=known)


def _note(plan: SweepPlan) -> TrackingNote:
    data = plan.trials[0].config.data
    source = data.sources or data.photos
    uses = (
        DatasetUse(source, plan.data.training.digest, source, "training"),
        *(DatasetUse(s.role, plan.data.digests[s.role], s.folder, s.role) for s in plan.data.benchmarks),
    )
    former = TrackingNote.load(plan.store)
    return TrackingNote(uses, former.stores if former is not None else ())


def _has_ended(plan: SweepPlan) -> bool:
    """Says whether every trial has ended, so that there is nothing to run."""
    ended = [trial for trial in plan.stored.trials() if plan.has_ended(trial)]
    if plan.options.asked is not None and ended:
        starts = {trial.key for trial in plan.starts} <= {trial.key for trial in ended}
        return starts and not _due(plan, _rounds(plan, ()))
    if plan.sweep.search_alg is not None:
        return sum(trial.config.epochs > 0 for trial in ended) >= plan.sweep.num_samples
    return {trial.key for trial in plan.listed} <= {trial.key for trial in ended}


def _settle(plan: SweepPlan, reporter: Reporter) -> dict[str, str]:
    """Logs what MLflow does not have of the ended trials; returns those it did not take, and why."""
    for trial in [t for t in plan.stored.trials() if plan.has_ended(t)]:
        history = plan.stored.history(trial)
        reporter.finish(trial, history, stored_ending(trial, history, plan.roles))
    return reporter.settle()


def worker_of(plan: SweepPlan, capacity: Capacity) -> WorkerResources:
    """Returns what each worker asks for: a GPU if the cluster has any, unless the options say otherwise."""
    asked = plan.options.run.gpus_per_worker
    gpus = asked if asked is not None else float(capacity.gpus > 0)
    return WorkerResources(gpus, plan.options.run.cpus_per_worker)


def shares(plan: SweepPlan, capacity: Capacity) -> tuple[WorkerResources, int]:
    """Returns what each worker asks for, and how many trials run at a time.

    Raises:
        ValueError: if a trial asks for more than the cluster has.
    """
    worker = worker_of(plan, capacity)
    fewest = plan.options.run.resilience.fewest_workers
    fits = capacity.concurrent_trials(plan.trials, plan.options.run.evaluators, worker, fewest)
    return worker, min(fits, plan.options.run.concurrent or fits)


def _run(
    plan: SweepPlan,
    worker: WorkerResources,
    concurrent: int,
    reporter: Reporter,
    console: Console,
    trainable: Trainable,
    lease: Lease,
    notifier: Notifier,
) -> SweepCallback:
    evaluator = start_pool(plan.data.benchmarks, plan.options.run.evaluators, on_this_node())
    context = TrialContext(
        trials_folder=plan.store.below(TRIALS).place,
        evaluator=evaluator,
        roles=plan.roles,
        inits=dict(plan.inits),
        worker=worker,
        labels=plan.options.run.evaluators.labels,
        metric=plan.sweep.metric,
        mode=plan.sweep.mode,
        objects=plan.data.objects,
        attempt=lease.attempt,
        resilience=plan.options.run.resilience,
    )
    asked = plan.options.asked is not None
    due = plan.starts if asked else _to_run(plan)
    listed = plan.starts if asked else plan.listed
    waiting = {trial.key for trial in (listed if plan.options.only else due)}
    rows = label_trials((*plan.starts, *plan.trials), plan.sweep.names)
    known = {t.key: TrialProgress.of(plan.stored, t, t.key not in waiting, rows[t.key]) for t in listed}
    with SweepProgress(console, plan.definition.name, plan.sweep.metric, known, reporter) as progress:
        stops = plan.sweep.scheduler is not None
        metrics = SweepMetrics(plan.definition.name)
        callback = SweepCallback(plan.stored, reporter, progress, plan.roles, stops, lease, metrics)
        tuning = Tuning(plan, trainable, context, callback, lease, concurrent)
        if asked:
            _run_rounds(plan, tuning, callback, progress, notifier)
        else:
            tuning.run_listed(due)
        if plan.sweep.search_alg is not None and not plan.options.only and not callback.interrupted:
            tuning.run_suggested()
        if not callback.interrupted:
            callback.score_what_was_left(context)
    return callback


def _run_rounds(
    plan: SweepPlan, tuning: Tuning, callback: SweepCallback, progress: SweepProgress, notifier: Notifier
) -> None:
    """Runs further seeds of what is not decided, round by round, until all is or no round is left."""
    starts = [trial for trial in plan.starts if not plan.has_ended(trial)]
    rounds = _rounds(plan, callback.reasons)
    while (due := [*starts, *_due(plan, rounds)]) and not callback.interrupted:
        further = [t for t in due if t.key not in progress.trials]
        rows = label_trials(plan.trials, plan.sweep.names)
        progress.trials |= {t.key: TrialProgress.of(plan.stored, t, row=rows[t.key]) for t in further}
        tuning.run_listed(due)
        starts, former, rounds = [], rounds.settled, _rounds(plan, callback.reasons)
        progress.say(rounds.words)
        new = {row: answer for row, answer in rounds.settled.items() if row not in former}
        if new:
            sentences = [f"{row} is {answer}." for row, answer in new.items()]
            notifier.send("decided", plan.definition.name, sentences, answers=new)


def _rounds(plan: SweepPlan, failed: Collection[str]) -> Rounds:
    rounds = rounds_of(plan.stored, failed)
    assert rounds is not None
    return rounds


def _due(plan: SweepPlan, rounds: Rounds) -> list[Trial]:
    """Returns the trials that the next round needs, of those that were asked for."""
    only = plan.options.only
    return [trial for trial in rounds.due if not only or trial.key in only]


def _to_run(plan: SweepPlan) -> list[Trial]:
    """Returns the known trials that Tune runs: all that have not ended, or those that were asked for.

    If the sweep has a scheduler, trials that have ended are among them: it must know their scores.
    """
    only = plan.options.only
    known = plan.stored.trials() if only else plan.listed
    past = plan.sweep.scheduler is not None and plan.sweep.search_alg is None
    return [t for t in known if (past if plan.has_ended(t) else not only or t.key in only)]
