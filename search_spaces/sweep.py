"""Defines a sweep: a question, in Tune's own vocabulary, and the trials that answer it."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
import random
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

from r2d2.config import SCRATCH, TrainConfig, with_override
from r2d2.unknown import unknown

RELEASED = "released"

# The roles of benchmarks: one chooses networks, the other tests them.
VALIDATION, HPATCHES = "validation", "hpatches"


Space = Mapping[str, Any]


@dataclass(frozen=True)
class Sweep:
    """A Sweep says what is varied, and which metric decides.

    Attributes:
        space: nested dictionary whose keys mirror TrainConfig; values may be Tune's search expressions. A
            list of such dictionaries is their union (rows of a table that are no grid). `init: "released"`
            stands for the network given on the command line with --released.
        metric, mode: the score that sorts the table and stops bad trials.
        num_samples: how often the grid is repeated, or how many trials a searcher suggests.
        search_alg: makes the searcher (e.g. `OptunaSearch`), called with `metric`, `mode`,
            `points_to_evaluate`, `seed`; None: every grid point.
        scheduler: makes the scheduler (e.g. an ASHAScheduler over `epoch`); None: no trial is stopped.
        starting_networks: whether the networks that trials start from are scored too, as rows of the table.
        baseline: the row that others are compared with: a loss, e.g. `ap+cosine` (each row is then compared
            with the row of that loss that has the same start, and otherwise the most equal settings), or a
            row's name, e.g. `ap+cosine (scratch)`; empty: the first row that is trained.
        names: by the name of a row, what others call it; stands beside the row's own name.
        samples: whether the sample pictures are photographs enough: its figures need to mean nothing.
        baselines: the former name of `starting_networks`.
    """

    space: Space | Sequence[Space]
    metric: str = "validation/mma_3px"
    mode: str = "max"
    num_samples: int = 1
    search_alg: Callable[..., Any] | None = None
    scheduler: Callable[[], Any] | None = None
    starting_networks: bool = True
    baseline: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    samples: bool = False
    baselines: InitVar[bool | None] = None

    def __post_init__(self, baselines: bool | None) -> None:
        if baselines is not None:
            object.__setattr__(self, "starting_networks", baselines)
        if self.mode not in ("min", "max"):
            raise ValueError(f"mode is '{self.mode}'; it must be 'min' or 'max'")
        spaces = [self.space] if isinstance(self.space, Mapping) else self.space
        if not isinstance(spaces, list | tuple) or not all(isinstance(space, Mapping) for space in spaces):
            raise ValueError(f"space is {self.space!r}; it must be a dictionary or a list of dictionaries")
        if not spaces or self.num_samples < 1:
            raise ValueError("the sweep has no trials: its space is an empty list, or num_samples is below 1")
        if self.search_alg is not None and not isinstance(self.space, Mapping):
            raise ValueError("a sweep with a searcher takes one space, not a list of spaces")

    @property
    def spaces(self) -> tuple[Space, ...]:
        """Returns the spaces whose union is searched."""
        return (self.space,) if isinstance(self.space, Mapping) else tuple(self.space)

    def trials(self, overrides: Sequence[str] = ()) -> list[Trial]:
        """Lists every trial of a sweep without a searcher, in order, each once.

        With a searcher: `num_samples` random points of the space, which show what it may suggest.

        Args:
            overrides: `key.path=value` assignments applied to every trial.

        Raises:
            ValueError: for a key, type or value that TrainConfig refuses.
        """
        points: Iterable[dict[str, Any]]
        if self.search_alg is None:
            points = chain.from_iterable(self._repeated(space) for space in self.spaces)
        else:
            generator = random.Random(0)
            points = (next(_points(self.spaces[0], generator)) for _ in range(self.num_samples))
        configs = (TrainConfig.from_dict(overridden(point, overrides)) for point in points)
        return _unique(Trial(config) for config in configs)

    def _repeated(self, space: Space) -> Iterator[dict[str, Any]]:
        """The points of one space `num_samples` times; what is to be sampled is drawn anew each time."""
        generator = random.Random(0)
        for _ in range(self.num_samples):
            yield from _points(space, generator)

    @property
    def is_sampled(self) -> bool:
        """Says whether another repetition, or the searcher, gives other trials."""
        from ray.tune.utils import flatten_dict

        values = [value for space in self.spaces for value in flatten_dict(dict(space)).values()]
        return self.search_alg is not None or any(hasattr(value, "sample") for value in values)

    def starts_of(self, trials: Sequence[Trial]) -> list[Trial]:
        """Returns the networks that these trials start from, each once; none if the sweep wants none.

        Of trials that differ in what only training uses, such as their windows, the first one names it.
        """
        starts: dict[tuple[object, ...], Trial] = {}
        for start in (trial.start for trial in trials):
            config = start.config
            starts.setdefault((config.network, config.init, config.seed), start)
        return list(starts.values()) if self.starting_networks else []


@dataclass(frozen=True)
class Trial:
    """A Trial is one training of a sweep; with 0 epochs, the starting network as it is."""

    config: TrainConfig

    @property
    def variant(self) -> str:
        """Names the loss and where it starts from, e.g. `ap+dice (scratch)`; the seed is no part of it."""
        start = {SCRATCH: "scratch", RELEASED: "fine-tuned"}.get(
            self.config.init, f"from {Path(self.config.init).stem}"
        )
        if self.config.epochs == 0:
            return {"scratch": "untrained network", "fine-tuned": "released network"}.get(
                start, f"network {start}"
            )
        return f"{self.config.loss.reliability}+{self.config.loss.similarity} ({start})"

    @functools.cached_property
    def key(self) -> str:
        """Returns a readable name that is the same for the same configuration, always and everywhere.

        It is made from what differs from the defaults, so that new settings rename no trial.
        """
        text = json.dumps(self.config.changed(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        loss = self.config.loss
        start = "scratch" if self.config.init == SCRATCH else "tuned"
        name = f"{loss.reliability}-{loss.similarity}-{start}" if self.config.epochs else f"start-{start}"
        return f"{name}-s{self.config.seed}-{digest}"

    @property
    def start(self) -> Trial:
        """Returns the network that this trial starts from, as a trial of its own."""
        config = self.config
        seed = config.seed if config.init == SCRATCH else 0
        return Trial(
            TrainConfig(network=config.network, data=config.data, init=config.init, epochs=0, seed=seed)
        )


def sweep_names() -> tuple[str, ...]:
    """Returns the names of the sweeps of this folder."""
    own = {"__init__", "presets", "sweep"}
    return tuple(sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in own))


def describe_sweep(name: str) -> tuple[str, str]:
    """Reads from the docstring of a sweep of this folder what it asks and how many trials it says it has.

    The file is not executed, because that imports Ray Tune, which takes seconds.

    Args:
        name: one of `sweep_names()`.

    Returns:
        The first line, and the number before the word `trials`, e.g. `15` or `up to 40`; empty: it says none.
    """
    text = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{name}.py").read_bytes())) or ""
    said = re.search(r"(up to )?\d+(?=\s+trials?\b)", text)
    return text.partition("\n")[0], said[0] if said else ""


def load_sweep(name: str) -> tuple[Sweep, str]:
    """Loads the sweep called `name`, or in the file `name`, with its docstring or else the file's name.

    Raises:
        ValueError: if there is no such sweep (with the known ones), the file defines none, or the user has no
            home folder.
    """
    path = Path(name) if name.endswith(".py") else Path(__file__).parent / f"{name}.py"
    if not name.endswith(".py") and name not in sweep_names():
        raise ValueError(unknown("sweep", name, sweep_names(), besides=", or the path of a .py file"))
    if not path.is_file():
        raise ValueError(
            f"there is no file '{name}'; give the path of a .py file that defines `sweep = Sweep(...)`"
        )
    module = _import_file(path)
    sweep = getattr(module, "sweep", None)
    if not isinstance(sweep, Sweep):
        raise ValueError(f"{path} defines no sweep; it must hold `sweep = Sweep(space=...)`")
    return sweep, (module.__doc__ or "").strip() or path.name


def home_folder() -> Path:
    """Returns the user's home folder, without which Ray cannot even be imported.

    Raises:
        ValueError: if there is none.
    """
    try:
        return Path.home()
    except RuntimeError as error:
        raise ValueError(
            "this user has no home folder, and Ray needs one: set HOME to a folder that you can write"
        ) from error


def overridden(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Sets `key.path=value` assignments in a nested dictionary, a configuration or a space; a later one wins.

    Raises:
        ValueError: for a key or value that TrainConfig refuses.
    """
    result = dict(values)
    for assignment in overrides:
        result = with_override(result, assignment)
    return result


def _unique(trials: Iterable[Trial]) -> list[Trial]:
    return list({trial.key: trial for trial in trials}.values())


def _import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"search_spaces.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    home_folder()
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"{path} cannot be read: {_what_and_where(error, path)}") from error
    return module


def _what_and_where(error: Exception, path: Path) -> str:
    """The error, and the line of the file that it came from."""
    if isinstance(error, SyntaxError):
        # Its text names the line.
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == path.absolute()]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}"


def _points(space: Space, generator: random.Random) -> Iterator[dict[str, Any]]:
    """All grid points of a space; where an expression is to be sampled, one draw for each."""
    from ray.tune.search.variant_generator import generate_variants

    state = _random_state(generator)
    for _, point in generate_variants(dict(space), random_state=state):
        yield point


def _random_state(generator: random.Random) -> Any:
    import numpy as np

    return np.random.RandomState(generator.randrange(2**31))
