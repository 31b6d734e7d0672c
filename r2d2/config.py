"""TrainConfig: everything that defines one training, as one frozen value.

The same dictionary is the Tune configuration, the MLflow parameters and the header of a checkpoint.
Defaults live here and nowhere else.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeVar

from r2d2.unknown import did_you_mean, unknown

SCRATCH = "scratch"

T = TypeVar("T")


def setting(
    default: T,
    doc: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    choices: Callable[[], tuple[str, ...]] | None = None,
) -> T:
    """A configuration field: its default, what it means, and which values are allowed (bounds inclusive)."""
    metadata = {"doc": doc, "low": low, "high": high, "choices": choices}
    value: T = field(default=default, metadata=metadata)
    return value


def _networks() -> tuple[str, ...]:
    from r2d2.network import NETWORKS

    return tuple(sorted(NETWORKS))


def _reliability_losses() -> tuple[str, ...]:
    from r2d2.losses.reliability import RELIABILITY_LOSSES

    return tuple(sorted(RELIABILITY_LOSSES))


def _similarities() -> tuple[str, ...]:
    from r2d2.losses.similarity import SIMILARITIES

    return tuple(sorted(SIMILARITIES))


def _schedules() -> tuple[str, ...]:
    from r2d2.schedule import SCHEDULES

    return tuple(sorted(SCHEDULES))


@dataclass(frozen=True)
class NetworkConfig:
    """Which network is trained."""

    name: str = setting("fast", "architecture", choices=_networks)
    channels: int = setting(4, "width c; the layers have 8c, 16c and 32c channels", low=1)
    dim: int = setting(128, "length D of a descriptor", low=1)


@dataclass(frozen=True)
class LossConfig:
    """Which loss trains it: reliability term + similarity term + peakiness term."""

    reliability: str = setting("ap", "reliability loss", choices=_reliability_losses)
    similarity: str = setting("cosine", "similarity of the repeatability maps", choices=_similarities)
    weight_reliability: float = setting(1.0, "weight of the reliability term", low=0)
    weight_similarity: float = setting(1.0, "weight of the similarity term", low=0)
    weight_peakiness: float = setting(1.0, "weight of the peakiness term", low=0)
    patch_size: int = setting(16, "side N of the patches of similarity and peakiness, pixels, even", low=2)
    ap_floor: float = setting(0.5, "AP credited to an unreliable pixel", low=0, high=1)
    kappa: float = setting(
        0.5, "HardNet: cost of an unreliable pixel, so that reliability cannot collapse", low=0
    )
    anchor_swap: bool = setting(False, "HardNet: hardest negative of row or column instead of row")
    query_stride: int = setting(8, "one query and one distractor per stride x stride pixels", low=1)
    query_grid: bool = setting(False, "queries and distractors on a regular grid instead of at random")
    border: int = setting(16, "queries and distractors keep this far from the border, pixels", low=0)


PIXELS = ("loader", "device")


@dataclass(frozen=True)
class DataConfig:
    """What it is trained on: photographs turned into pairs by random homographies."""

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
        choices=lambda: PIXELS,
    )
    sources: str = setting(
        "",
        "sources of pairs instead of data.photos, NAME=PLACE, e.g. 'web=s3://bucket/web, style=/data*2'; "
        "behind *: how often each item has its turn in an epoch; wasf=PLACE: the classic mix; empty: photos",
    )


@dataclass(frozen=True)
class OptimiserConfig:
    """How it is trained: Adam, and the course of its learning rate (`r2d2.schedule`)."""

    learning_rate: float = setting(1e-4, "step size, the largest of the schedule", low=0)
    weight_decay: float = setting(5e-4, "weight of the L2 penalty", low=0)
    schedule: str = setting("constant", "course of the learning rate after the warm-up", choices=_schedules)
    warmup_steps: int = setting(0, "first steps, over which the learning rate climbs from 0", low=0)
    final_share: float = setting(
        0.05, "last learning rate of a linear or cosine schedule, as a share of the largest", low=0, high=1
    )


PRECISIONS = ("bfloat16", "float32")


@dataclass(frozen=True)
class ComputeConfig:
    """In which arithmetic it is trained. Losses, weights, optimiser and judging are always in float32."""

    precision: str = setting("float32", "arithmetic of the network in training", choices=lambda: PRECISIONS)
    compile: bool = setting(False, "torch.compile of the network; needs a C++ compiler, on a GPU triton too")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that defines one training.

    `pairs_per_worker` is part of the loss, not only of the speed: distractors and batch statistics come
    from the pairs of one worker, so 2 workers x 4 pairs is a different training than 1 worker x 8 pairs.
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
        _check(self, "")
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
        return _build(cls, values, "")

    def to_dict(self) -> dict[str, Any]:
        """The complete nested dictionary; `from_dict` is its inverse."""
        return dataclasses.asdict(self)

    def changed(self) -> dict[str, Any]:
        """The settings that differ from their defaults, with dotted keys; `{}` for `TrainConfig()`.

        A setting that a later version adds is not among them until someone sets it.
        """
        defaults = _defaults()
        return {name: value for name, value in self.flat().items() if value != defaults[name]}

    def flat(self) -> dict[str, Any]:
        """The complete configuration with dotted keys, e.g. `loss.similarity`."""
        return dict(_flatten(self.to_dict(), ""))


def with_override(values: Mapping[str, Any], assignment: str) -> dict[str, Any]:
    """A nested dictionary with one `key.path=value` set; the value is parsed by the field's type.

    Raises:
        ValueError: if it is no assignment, the key is unknown, or the text does not fit the type.
    """
    path, separator, text = assignment.partition("=")
    if not separator:
        raise ValueError(
            f"'{assignment}' is not an assignment; write key.path=value, e.g. loss.similarity=dice"
        )
    names = path.strip().split(".")
    annotation = _type_at(TrainConfig, names, path)
    copy = _deep_copy(values)
    section = copy
    for name in names[:-1]:
        section = section.setdefault(name, {})
    section[names[-1]] = _parse(text.strip(), annotation, path)
    return copy


# The types of a class's fields; finding them takes longer than all checks, so it is done once.
_hints: Callable[[Any], dict[str, Any]] = functools.cache(typing.get_type_hints)


@functools.cache
def _defaults() -> Mapping[str, Any]:
    return TrainConfig().flat()


def _type_at(cls: type[Any], names: list[str], path: str) -> type[Any]:
    hints = _hints(cls)
    if names[0] not in hints:
        raise ValueError(_unknown_key(cls, names[0], path))
    annotation = hints[names[0]]
    if len(names) == 1:
        if is_dataclass(annotation):
            keys = ", ".join(f.name for f in fields(annotation))
            raise ValueError(f"'{path}' is a group of settings; set one of its keys: {keys}")
        return typing.cast(type[Any], annotation)
    if not is_dataclass(annotation):
        raise ValueError(f"unknown key '{path}': '{names[0]}' has no parts")
    return _type_at(typing.cast(type[Any], annotation), names[1:], path)


def _unknown_key(cls: type[Any], name: str, path: str) -> str:
    known = ", ".join(sorted(f.name for f in fields(cls)))
    where = f" in '{path}'" if path != name else ""
    # Keys are also looked for in other groups: `learning_rate` is `optimiser.learning_rate`.
    meant = did_you_mean(name, {key.rpartition(".")[2]: key for key in _keys(TrainConfig, "")})
    return f"unknown key '{name}'{where}; known: {known}{meant}"


def _keys(cls: type[Any], prefix: str) -> list[str]:
    """The keys of a group and of all groups in it, groups themselves included."""
    found = []
    for name, annotation in _hints(cls).items():
        found.append(f"{prefix}{name}")
        if is_dataclass(annotation):
            found += _keys(typing.cast(type[Any], annotation), f"{prefix}{name}.")
    return found


def _parse(text: str, annotation: type[Any], path: str) -> Any:
    if annotation is bool:
        words = {"true": True, "false": False}
        if text.lower() not in words:
            raise ValueError(f"{path} is '{text}'; it must be true or false")
        return words[text.lower()]
    try:
        return annotation(text)
    except ValueError:
        raise ValueError(f"{path} is '{text}'; it must be {_type_name(annotation)}") from None


def _build(cls: type[T], values: Mapping[str, Any], path: str) -> T:
    if not isinstance(values, Mapping):
        raise ValueError(f"{path or 'the configuration'} is {values!r}; it must be a dictionary")
    hints = _hints(cls)
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            raise ValueError(_unknown_key(cls, str(name), f"{path}.{name}" if path else str(name)))
        inner = f"{path}.{name}" if path else name
        arguments[name] = _build(hints[name], value, inner) if is_dataclass(hints[name]) else value
    return cls(**{name: _widen(hints[name], value) for name, value in arguments.items()})


def _widen(annotation: Any, value: Any) -> Any:
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _check(config: Any, path: str) -> None:
    hints = _hints(type(config))
    for entry in fields(config):
        value, name = getattr(config, entry.name), f"{path}{entry.name}"
        if is_dataclass(hints[entry.name]):
            _check(value, f"{name}.")
            continue
        _check_value(name, value, hints[entry.name], entry.metadata)


def _check_value(name: str, value: Any, annotation: Any, metadata: types.MappingProxyType[Any, Any]) -> None:
    accepted = (int, float) if annotation is float else annotation
    if not isinstance(value, accepted) or (isinstance(value, bool) and annotation is not bool):
        raise ValueError(f"{name} is {value!r}; it must be {_type_name(annotation)}")
    if annotation in (int, float):
        low, high = metadata["low"], metadata["high"]
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"{name} is {value!r}; it must be {_range(low, high)}")
    if metadata["choices"] is not None:
        known = metadata["choices"]()
        if value not in known:
            # `network.name` is a network, `loss.similarity` a similarity.
            noun = next(part for part in reversed(name.split(".")) if part != "name")
            raise ValueError(unknown(noun, str(value), known, where=f" ({name})"))


def allowed_values(annotation: Any, metadata: Mapping[str, Any]) -> str:
    """Which values a setting takes, in words: its choices, or its type and range."""
    if metadata["choices"] is not None:
        return ", ".join(metadata["choices"]())
    kind, low, high = _type_name(annotation), metadata["low"], metadata["high"]
    return kind if math.isinf(low) else f"{kind}, {_range(low, high)}"


def _range(low: float, high: float) -> str:
    return f"at least {low:g}" if math.isinf(high) else f"between {low:g} and {high:g}"


def _type_name(annotation: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[annotation]


def _flatten(values: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for name, value in values.items():
        items += (
            _flatten(value, f"{prefix}{name}.")
            if isinstance(value, Mapping)
            else [(f"{prefix}{name}", value)]
        )
    return items


def _deep_copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _deep_copy(v) if isinstance(v, Mapping) else v for k, v in values.items()}
