"""Plans a sweep: everything that can be known, and refused, before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from evaluation.metrics.pair_metrics import PAIR_METRICS
from evaluation.protocols import PROTOCOLS
from evaluation.statistics.rounds import FIRST_LOOK, Question
from r2d2.checkpoint import load_model
from r2d2.config import SCRATCH
from r2d2.start import starting_network
from r2d2.storage.location import absolute_place
from r2d2.storage.s3 import FIRST_TIMEOUT
from r2d2.storage.store import Store
from runner.benchmarks import SweepData, prepare_data
from runner.compare.rows import find_baselines, label_trials, metric_and_split
from runner.record.command import RunOptions, StartedSweep, extend_trials
from runner.record.definition import SweepDefinition
from runner.record.sweep import StoredSweep
from runner.settings import Settings
from runner.sweep.checks import absolute_overrides, common_data, refuse_samples, refuse_test, require_scored
from runner.terminal.words import silent
from search_spaces.sweep import RELEASED, Sweep, Trial, load_sweep, overridden


@dataclass(frozen=True)
class SweepOptions:
    """A SweepOptions holds what the command line says about a sweep.

    Attributes:
        name: of the sweep's folder and MLflow experiment; empty: that of its file.
        run: what every run is given.
        verbose: show what Ray's processes print.
        extension: assignments that make further trials of those there are, see `extend_trials`.
        num_samples: how many trials a searcher suggests in all; None: as before.
        only: keys of the trials that are run; empty: all.
        from_start: whether these trials forget their checkpoints and scores first.
        asked: the question that ends the sweep once it is answered; None: every trial is run.
        choose_on_test: whether a test benchmark may decide the sweep.
    """

    name: str = ""
    run: RunOptions = field(default_factory=RunOptions)
    verbose: bool = False
    extension: tuple[str, ...] = ()
    num_samples: int | None = None
    only: frozenset[str] = frozenset()
    from_start: bool = False
    asked: Question | None = None
    choose_on_test: bool = False


@dataclass(frozen=True)
class SweepPlan:
    """A SweepPlan is a sweep whose every input has been checked.

    Attributes:
        trials: what will be trained; examples of it if a searcher chooses.
        inits: path of every model that `init` names.
        started: the command, as it is written down beside the sweep.
        store: where the sweep lies.
    """

    sweep: Sweep
    question: str
    trials: tuple[Trial, ...]
    starts: tuple[Trial, ...]
    data: SweepData
    inits: Mapping[str, str]
    definition: SweepDefinition
    store: Store
    options: SweepOptions
    started: StartedSweep

    @property
    def stored(self) -> StoredSweep:
        """Opens what is stored of the sweep."""
        return StoredSweep(self.store)

    @property
    def roles(self) -> tuple[str, ...]:
        """Returns the benchmarks that every checkpoint is scored on, in order."""
        return tuple(spec.role for spec in self.data.benchmarks)

    @property
    def listed(self) -> tuple[Trial, ...]:
        """Returns the trials that are known before the start: the starting networks and every grid point."""
        return self.starts if self.sweep.search_alg is not None else (*self.starts, *self.trials)

    def has_ended(self, trial: Trial) -> bool:
        """Says whether a trial was trained and scored to its end, or stopped by the scheduler."""
        return self.stored.has_ended(trial, self.roles)

    @property
    def space(self) -> dict[str, Any]:
        """Returns the space of a searcher: the sweep's space with the overrides of the command line."""
        return overridden(self.sweep.spaces[0], self.options.run.overrides)


def plan_sweep(
    source: str, settings: Settings, options: SweepOptions, say: Callable[[str], None] = silent
) -> SweepPlan:
    """Checks a sweep and all it needs; writes nothing but the validation benchmark into the cache.

    Args:
        source: the sweep's name or the path of its file.
        settings: where things are.
        options: of the command line.
        say: gets a few words on what takes long.

    Raises:
        ValueError: for an unknown sweep, key or value, missing photographs, benchmarks or networks, a name
            that is taken by another definition, or trials that cannot share a table.
    """
    sweep, question = load_sweep(source)
    name = options.name or Path(source).stem
    if not name.replace("-", "").replace("_", "").isalnum():
        raise ValueError(f"the sweep's name is '{name}'; it may hold letters, digits, '-' and '_'")
    _refuse_other_extension(sweep, name, options)
    run = replace(options.run, overrides=absolute_overrides(sweep, options.run.overrides))
    options = replace(options, run=run)
    store = settings.sweep(name)
    # The first request to S3 has a short timeout: a wrong address or key is reported in seconds.
    hasty = replace(settings, s3_timeout=min(settings.s3_timeout, FIRST_TIMEOUT))
    known = SweepDefinition.load(hasty.sweep(name))
    if known is None:
        refuse_samples(sweep, name, options.run.overrides)
        refuse_test(sweep.metric, options.choose_on_test)
    started = _started(source, options, settings, StartedSweep.load(store))
    sweep, trials = _extended(sweep, options, started)
    if options.asked is not None:
        trials = _seeded(sweep, trials, options.asked)
    inits, digest = _starting_networks(trials, settings)
    data = prepare_data(
        common_data(trials),
        settings.made_benchmarks,
        settings.hpatches,
        settings.objects,
        settings.benchmarks,
        say,
    )
    require_scored(sweep.metric, data.digests)
    definition = _define(name, sweep, options, trials, data, digest)
    if known is not None and (options.extension or options.num_samples):
        known.require_grown(definition, store.place)
    elif known is not None:
        known.require_same(definition, store.place)
    # Of a question's later rounds the starting networks answer nothing.
    first = (
        trials if options.asked is None else trials[: FIRST_LOOK * len(trials) // options.asked.most_seeds]
    )
    starts = tuple(sweep.starts_of(first))
    return SweepPlan(sweep, question, trials, starts, data, inits, definition, store, options, started)


def _define(
    name: str,
    sweep: Sweep,
    options: SweepOptions,
    trials: Sequence[Trial],
    data: SweepData,
    init: str,
) -> SweepDefinition:
    """Builds the definition of the sweep, by which a later start recognises it."""
    search: dict[str, str] = {}
    if sweep.search_alg is not None:
        from runner.sweep.search import describe_space

        space = describe_space(overridden(sweep.spaces[0], options.run.overrides))
        search = {"num_samples": str(sweep.num_samples), **space}
    return SweepDefinition(
        name=name,
        metric=sweep.metric,
        mode=sweep.mode,
        trials={} if search else {t.key: t.config.to_dict() for t in trials},
        search=search,
        photos=f"{data.training.digest} {data.held_out.digest}",
        benchmarks={
            s.role: {
                "protocol": s.protocol,
                "protocol_digest": PROTOCOLS[s.protocol].digest,
                "digest": data.digests[s.role],
            }
            for s in data.benchmarks
        },
        init=init,
        baseline=sweep.baseline,
        names=sweep.names,
        asked=asdict(options.asked) if options.asked is not None else {},
    )


def _refuse_other_extension(sweep: Sweep, name: str, options: SweepOptions) -> None:
    """Refuses to add listed trials to a searcher's sweep, or to ask a grid for more samples."""
    if options.asked is not None and (options.extension or options.num_samples):
        raise ValueError(
            f"'{name}' was started with --decide, which adds seeds itself; ask another question under "
            "another --name"
        )
    if options.extension and sweep.search_alg is not None:
        raise ValueError(f"a searcher chooses the trials of '{name}'; ask it for more with --num-samples")
    if options.num_samples and not sweep.is_sampled:
        raise ValueError(
            f"'{name}' has no searcher: every point of its grid is a trial; add some with --set KEY=VALUE"
        )


def _started(
    source: str, options: SweepOptions, settings: Settings, former: StartedSweep | None
) -> StartedSweep:
    """Builds the command as it is written down; what was added to the sweep before stays."""
    added = (options.extension,) if options.extension else ()
    return StartedSweep(
        source=source,
        run=options.run,
        hpatches=settings.hpatches,
        released=settings.released,
        extensions=(*(former.extensions if former is not None else ()), *added),
        num_samples=options.num_samples or (former.num_samples if former is not None else None),
    )


def _extended(sweep: Sweep, options: SweepOptions, started: StartedSweep) -> tuple[Sweep, tuple[Trial, ...]]:
    """Returns the sweep and its trials with all that was added since it was started."""
    if started.num_samples is not None:
        sweep = replace(sweep, num_samples=started.num_samples)
    trials = sweep.trials(options.run.overrides)
    for assignments in started.extensions:
        trials = extend_trials(trials, assignments)
    return sweep, tuple(trials)


def _seeded(sweep: Sweep, trials: Sequence[Trial], question: Question) -> tuple[Trial, ...]:
    """The trials of all rounds of a question: each variant with the seeds of the sweep, and further ones.

    Raises:
        ValueError: if the sweep cannot answer a question.
    """
    if sweep.scheduler is not None or sweep.search_alg is not None:
        what = "a scheduler that stops trials" if sweep.scheduler is not None else "a searcher"
        raise ValueError(
            f"--decide takes a sweep whose every trial is trained to its end; this one has {what}"
        )
    metric = metric_and_split(sweep.metric.rpartition("/")[2])[0]
    if sweep.metric.startswith("train/") or metric not in PAIR_METRICS:
        raise ValueError(f"--decide compares scores of image pairs; this sweep is decided by {sweep.metric}")
    kinds = dict.fromkeys(replace(trial.config, seed=0) for trial in trials)
    labels = label_trials([Trial(config) for config in kinds])
    if not find_baselines([Trial(config) for config in kinds], labels, sweep.baseline) or len(kinds) < 2:
        raise ValueError(
            "--decide compares every row with its baseline, and this sweep has none: name it in the sweep's "
            'file, e.g. baseline="ap+cosine"'
        )
    seeds = sorted({trial.config.seed for trial in trials})
    seeds += range(max(seeds) + 1, max(seeds) + 1 + question.most_seeds)
    return tuple(
        Trial(replace(config, seed=seed)) for seed in seeds[: question.most_seeds] for config in kinds
    )


def _starting_networks(trials: tuple[Trial, ...], settings: Settings) -> tuple[dict[str, str], str]:
    """Returns the path of every starting network by its name in `init`, and a digest of all of them."""
    inits, digests = {SCRATCH: SCRATCH}, []
    for trial in trials:
        init = trial.config.init
        if init in inits:
            continue
        if init == RELEASED and settings.released is None:
            raise ValueError(
                "this sweep fine-tunes the released network: say where it is with --released PATH or "
                "R2D2_RELEASED (faster2d2_WASF_N16.pt of the R2D2 authors, or any checkpoint folder), "
                "or train from scratch with --set init=scratch"
            )
        inits[init] = str(settings.released) if init == RELEASED else absolute_place(init)
        starting_network(trial.config, inits[init], settings.objects)
        digests.append(load_model(inits[init], settings.objects).digest)
    return inits, " ".join(sorted(digests))
