"""Defines TrainConfig: everything that defines one training, as one frozen value.

The same dictionary is the Tune configuration, the MLflow parameters and the header of a checkpoint. Defaults
stand with each group of settings: here, and in the three files imported below (`losses/config.py`,
`network_config.py`, `schedule.py`).
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from r2d2.losses.config import LossConfig
from r2d2.network_config import NetworkConfig
from r2d2.schedule import SCHEDULES, OptimiserConfig
from r2d2.settings import Choice, Choices, allowed_values, build, check, flatten, override, setting
from r2d2.unknown import did_you_mean

# Holds a TrainConfig: of a trial, or with more in the header of a checkpoint.
CONFIG_FILE = "config.json"
SCRATCH = "scratch"


def _networks() -> tuple[str, ...]:
    from r2d2.network import NETWORKS

    return tuple(sorted(NETWORKS))


def _reliability_losses() -> tuple[str, ...]:
    from r2d2.losses.reliability import RELIABILITY_LOSSES

    return tuple(sorted(RELIABILITY_LOSSES))


def _similarities() -> tuple[str, ...]:
    from r2d2.losses.similarity import SIMILARITIES

    return tuple(sorted(SIMILARITIES))


def _registered(name: str) -> tuple[str, ...]:
    """The functions that a file of losses registers. It is read, because importing it imports torch."""
    file = Path(__file__).parent / "losses" / f"{name}.py"
    functions = [f for f in ast.parse(file.read_bytes()).body if isinstance(f, ast.FunctionDef)]
    marked = [f for f in functions if any(ast.unparse(mark) == "register" for mark in f.decorator_list)]
    return tuple(sorted(f.name for f in marked))


PIXELS = ("loader", "device")
PRECISIONS = ("bfloat16", "float32", "tf32")
# What may be chosen by name. The registries take torch to import, so they are asked only for other names.
CHOICES: Choices = {
    "network.name": Choice(("fast", "quad"), _networks),
    "loss.reliability": Choice(_registered("reliability"), _reliability_losses),
    "loss.similarity": Choice(_registered("similarity"), _similarities),
    "optimiser.schedule": Choice(tuple(sorted(SCHEDULES))),
    "data.pixels": Choice(PIXELS),
    "compute.precision": Choice(PRECISIONS),
}


@dataclass(frozen=True)
class DataConfig:
    """A DataConfig says what is trained on: photographs turned into pairs by random homographies."""

    photos: str = setting(
        "samples", "folder or s3://bucket/prefix of photographs, or 'samples': those that packages ship"
    )
    held_out: int = setting(6, "photographs kept for the validation benchmark, never trained on", low=0)
    split_seed: int = setting(0, "which photographs are held out", low=0)
    pairs_per_epoch: int = setting(0, "pairs in an epoch; 0: one per training photograph or item", low=0)
    crop_size: int = setting(192, "side of the square training windows, pixels", low=32)
    min_shorter_side: int = setting(256, "smallest shorter side a photograph is rescaled to, pixels", low=32)
    max_shorter_side: int = setting(1024, "largest shorter side a photograph is rescaled to, pixels", low=32)
    tilt: float = setting(
        0.5, "largest tilt: share of the longer side that one side grows by at both ends", low=0, high=2
    )
    noise: float = setting(25.0, "width of the uniform noise added to image 2, grey levels", low=0, high=255)
    brightness: float = setting(0.2, "largest relative change of brightness", low=0, high=1)
    contrast: float = setting(0.2, "largest relative change of contrast", low=0, high=1)
    saturation: float = setting(0.2, "largest relative change of saturation", low=0, high=1)
    hue: float = setting(0.1, "largest shift of hue, turns", low=0, high=0.5)
    loader_processes: int = setting(
        0, "processes that prepare pairs, per worker; 0: the worker itself", low=0
    )
    pixels: str = setting(
        "loader",
        "where photographs are warped and their colours changed: in the loader, pair by pair, or on the "
        "training's device, a batch at a time (with other draws of the same noise)",
    )
    sources: str = setting(
        "",
        "sources of pairs instead of data.photos, NAME=PLACE, e.g. 'web=s3://bucket/web, style=/data*2'; "
        "behind *: how often each item comes in an epoch; wasf=PLACE: the classic mix; empty: photos",
    )


@dataclass(frozen=True)
class ComputeConfig:
    """A ComputeConfig sets the network's arithmetic; losses, weights and scoring are always in float32.

    `float32` has 23 bits of mantissa in every operation (IEEE 754). `tf32` lets a GPU round the inputs of
    convolutions, those of the heads too, to 10 bits, forwards and backwards; a CPU computes in float32.
    `bfloat16` (7 bits) is autocast of the layers, with heads in float32. What was stored as `float32` before
    there was a `tf32` was trained in TF32 if it was trained on a GPU.
    """

    precision: str = setting(
        "float32",
        "arithmetic of the network in training; tf32 rounds a GPU's convolutions to 10 bits, as PyTorch does "
        "by default, and is several times faster there",
    )
    compile: bool = setting(False, "torch.compile of the network; needs a C++ compiler, on a GPU triton too")
    deterministic: bool = setting(
        False, "the same numbers from each run on the same kind of machine, also on a GPU, where it is slower"
    )


@dataclass(frozen=True)
class TrainConfig:
    """A TrainConfig is everything that defines one training.

    `pairs_per_worker` is part of the loss, not only of the speed: distractors and batch statistics come from
    the pairs of one worker, so 2 workers x 4 pairs is a different training than 1 worker x 8 pairs.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    init: str = setting(
        SCRATCH, "'scratch', or the model to fine-tune: a checkpoint folder or an upstream .pt"
    )
    epochs: int = setting(25, "passes over the training pairs", low=0)
    pairs_per_worker: int = setting(8, "pairs in one step of one worker; distractors come from these", low=1)
    num_workers: int = setting(1, "data-parallel workers", low=1)
    seed: int = setting(0, "seed of the initial weights, the pairs and the queries", low=0, high=2**31 - 1)
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def __post_init__(self) -> None:
        """Refuses values of the wrong type or range.

        Raises:
            ValueError: names the key, the value and what is allowed.
        """
        check(self, CHOICES)
        if self.loss.patch_size % 2:
            raise ValueError(f"loss.patch_size is {self.loss.patch_size}; it must be even")
        if self.loss.patch_size > self.data.crop_size:
            raise ValueError(
                f"loss.patch_size ({self.loss.patch_size}) is larger than data.crop_size "
                f"({self.data.crop_size})"
            )
        if self.data.min_shorter_side > self.data.max_shorter_side:
            raise ValueError(
                f"data.min_shorter_side ({self.data.min_shorter_side}) is larger than "
                f"data.max_shorter_side ({self.data.max_shorter_side})"
            )
        if self.data.crop_size <= 2 * self.loss.border:
            raise ValueError(
                f"data.crop_size ({self.data.crop_size}) leaves no pixel inside loss.border "
                f"({self.loss.border})"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Builds a configuration from a nested dictionary; what it does not name has its default.

        Raises:
            ValueError: for an unknown key (with the known ones), a wrong type or a value out of range.
        """
        return build(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Returns the complete nested dictionary; `from_dict` is its inverse."""
        return dataclasses.asdict(self)

    def changed(self) -> dict[str, Any]:
        """Returns the settings that differ from their defaults, with dotted keys; `{}` for `TrainConfig()`.

        A setting that a later version adds is not among them until someone sets it.
        """
        defaults = _defaults()
        return {name: value for name, value in self.flat().items() if value != defaults[name]}

    def flat(self) -> dict[str, Any]:
        """Returns the complete configuration with dotted keys, e.g. `loss.similarity`."""
        return dict(flatten(self.to_dict()))


def with_override(values: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """Sets one `key.path=value` of a nested dictionary; the value is parsed by the field's type.

    Raises:
        ValueError: if it is no assignment, the key is unknown, or the text does not fit the type.
    """
    return override(TrainConfig, values, assignment)


@functools.cache
def _defaults() -> Mapping[str, Any]:
    return TrainConfig().flat()


@dataclass(frozen=True)
class Entry:
    """An Entry is one setting of a training.

    Attributes:
        key: with dots, e.g. `loss.similarity`.
        doc: what it means.
        default: its value unless another one is set.
        annotation: its type.
        metadata: as `r2d2.settings.setting` made it.
    """

    key: str
    doc: str
    default: object
    annotation: Any
    metadata: Mapping[str, Any]

    @property
    def allowed(self) -> str:
        """Says which values it takes, e.g. `a number, at least 0`, or the names to choose from."""
        if self.key in CHOICES:
            return ", ".join(CHOICES[self.key].shipped)
        return allowed_values(self.annotation, self.metadata)


def entries(cls: type[Any] = TrainConfig, prefix: str = "") -> list[Entry]:
    """Lists every setting of a group and of the groups in it, in their order."""
    hints, found = typing.get_type_hints(cls), []
    for one in fields(cls):
        key, annotation = f"{prefix}{one.name}", hints[one.name]
        if is_dataclass(annotation):
            found += entries(typing.cast(type[Any], annotation), f"{key}.")
        else:
            found.append(Entry(key, one.metadata["doc"], one.default, annotation, one.metadata))
    return found


def find_entries(part: str) -> list[Entry]:
    """Finds the settings whose key holds a text, or if none does, those whose meaning does.

    Raises:
        ValueError: if there is none.
    """
    known, wanted = entries(), part.strip().lower()
    found = [e for e in known if wanted in e.key] or [e for e in known if wanted in e.doc.lower()]
    if not found:
        meant = did_you_mean(wanted, {e.key.rpartition(".")[2]: e.key for e in known})
        raise ValueError(f"no setting is called like '{part}'; r2d2 settings lists all of them{meant}")
    return found
