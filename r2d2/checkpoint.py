"""Saves and loads checkpoints: weights, configuration, epoch, optimiser. Reading one executes nothing.

    weights.safetensors     every parameter and buffer of the network
    config.json             format, code_version, epoch, step, metrics, digest, the complete TrainConfig, and
                            the numbers of the optimiser's parameter groups (learning rate, betas, ...)
    optimiser.safetensors   the optimiser's tensors, `<index of the parameter>.<name>`; absent without one

Training continues from one as if it had not stopped. No random state is stored, because none is carried from
epoch to epoch: every generator of this project is made from (seed, epoch, rank or index), and both are here.
On a CPU with one thread the numbers that follow are the same, bit for bit. A GPU, and several threads of a
CPU, add some gradients in another order each time, unless `compute.deterministic` is set.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from r2d2.config import CONFIG_FILE, TrainConfig
from r2d2.formats.optimiser_file import read_optimiser, write_optimiser
from r2d2.formats.tensor_file import read_bytes, read_tensors, refuse_pickle, write_tensors
from r2d2.formats.upstream import load_upstream
from r2d2.network import R2D2Network, network_from_state
from r2d2.storage.atomic import atomic_folder
from r2d2.storage.cache import CacheSettings
from r2d2.storage.location import local_path
from r2d2.version import code_version

WEIGHTS = "weights.safetensors"
FORMAT = 1

_HEADER_TYPES: dict[str, tuple[type, ...]] = {
    "format": (int,),
    "code_version": (str,),
    "epoch": (int,),
    "step": (int,),
    "digest": (str,),
    "metrics": (dict,),
    "config": (dict,),
    "optimiser": (dict, type(None)),
}


@dataclass(frozen=True)
class Checkpoint:
    """A Checkpoint is a network in the middle or at the end of a training, with all that continues it.

    Attributes:
        network: in eval mode, on the CPU.
        config: the training it belongs to.
        epoch: epochs trained so far; 0 is the start.
        step: steps trained of the next epoch; 0 at the end of one.
        code_version: which code wrote it, see `version.code_version`.
        metrics: what was known of it, e.g. `train/loss_total`; a value that was not finite comes back as NaN.
        optimiser_state: for `restore_optimiser`; None if it was saved without an optimiser.
        digest: see `network_digest`.
    """

    network: R2D2Network
    config: TrainConfig
    epoch: int
    code_version: str
    metrics: dict[str, float]
    optimiser_state: dict[str, Any] | None
    digest: str
    step: int = 0


@dataclass(frozen=True)
class Model:
    """A Model is a network to be used, wherever it comes from.

    Attributes:
        network: in eval mode, on the CPU.
        name: of the folder, or of the file without its suffix.
        digest: see `network_digest`.
        config, epoch: of the training; None for an upstream file, which does not hold them.
    """

    network: R2D2Network
    name: str
    digest: str
    config: TrainConfig | None
    epoch: int | None


def save_checkpoint(
    folder: Path,
    network: R2D2Network,
    config: TrainConfig,
    epoch: int,
    optimiser: torch.optim.Optimizer | None = None,
    metrics: Mapping[str, float] | None = None,
    step: int = 0,
) -> None:
    """Writes a checkpoint as a whole or not at all; replaces an earlier one or an empty folder of that name.

    Args:
        folder: the checkpoint's name; folders above it are made.
        network: its weights are written; its mode does not matter.
        config: the training it belongs to; `config.network` must be the network's own.
        epoch: epochs trained so far.
        optimiser: of that network's parameters; needed to continue the training.
        metrics: what is known of it.
        step: steps trained of the next epoch.

    Raises:
        ValueError: if `folder` is a file, or a folder that holds something else.
    """
    assert network.config == config.network, "the network is not the one of the configuration"
    assert epoch >= 0, f"epoch {epoch}"
    assert step >= 0, f"step {step}"
    _check_replaceable(folder)
    header = {
        "format": FORMAT,
        "code_version": code_version(),
        "epoch": epoch,
        "step": step,
        "digest": network_digest(network),
        # JSON has no NaN and no infinity.
        "metrics": {k: v if math.isfinite(v) else None for k, v in (metrics or {}).items()},
        "config": config.to_dict(),
        "optimiser": None,
    }
    with atomic_folder(folder) as temporary:
        write_tensors(temporary / WEIGHTS, network.state_dict())
        if optimiser is not None:
            header["optimiser"] = write_optimiser(temporary, optimiser)
        text = json.dumps(header, indent=2, allow_nan=False)
        (temporary / CONFIG_FILE).write_text(f"{text}\n", encoding="utf-8")


def load_checkpoint(folder: Path) -> Checkpoint:
    """Reads a checkpoint; nothing in it is executed.

    Raises:
        ValueError: names the file and what is wrong: missing, damaged, a pickle, of another network.
    """
    if not folder.exists():
        raise ValueError(f"there is no checkpoint {folder}")
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; a checkpoint is a folder with {CONFIG_FILE} and {WEIGHTS}")
    header = _read_header(folder / CONFIG_FILE)
    try:
        config = TrainConfig.from_dict(header["config"])
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG_FILE}: {error}") from None
    network = network_from_state(config.network, read_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
    digest = network_digest(network)
    if digest != header["digest"]:
        raise ValueError(
            f"{folder / WEIGHTS} is damaged: its weights are not those that {CONFIG_FILE} was written for"
        )
    return Checkpoint(
        network=network,
        config=config,
        epoch=header["epoch"],
        code_version=header["code_version"],
        metrics={k: math.nan if v is None else float(v) for k, v in header["metrics"].items()},
        optimiser_state=read_optimiser(folder, header["optimiser"], [p.shape for p in network.parameters()]),
        digest=digest,
        step=header["step"],
    )


def load_model(source: str | Path, cache: CacheSettings | None = None) -> Model:
    """Loads the network of a checkpoint folder or of an upstream `.pt` file; nothing in it is executed.

    Args:
        source: a path, or `s3://bucket/prefix` of either.
        cache: where what is on S3 is kept on this node; None: a temporary one.

    Raises:
        ValueError: if it is neither, or cannot be read; names the file.
        StorageError: if it is on S3 and cannot be had.
    """
    path = local_path(str(source), cache)
    accepted = "a model is a checkpoint folder or an upstream .pt file"
    if not path.exists():
        raise ValueError(f"there is no model {path}; {accepted}")
    if path.is_dir():
        if not (path / CONFIG_FILE).exists() and not (path / WEIGHTS).exists():
            raise ValueError(f"{path} holds neither {CONFIG_FILE} nor {WEIGHTS}; {accepted}")
        saved = load_checkpoint(path)
        return Model(saved.network, path.resolve().name, saved.digest, saved.config, saved.epoch)
    if path.suffix != ".pt":
        raise ValueError(f"{path} is neither a folder nor a .pt file; {accepted}")
    network = load_upstream(path)
    return Model(network, path.stem, network_digest(network), None, None)


def network_digest(network: R2D2Network) -> str:
    """Returns the SHA-256 (hexadecimal) of architecture and weights: all that decides a network's answers.

    It does not depend on the device, on the order of the parameters, or on the optimiser.
    """
    digest = hashlib.sha256(json.dumps(dataclasses.asdict(network.config), sort_keys=True).encode())
    for name, tensor in sorted(network.state_dict().items()):
        values = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def restore_optimiser(optimiser: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Puts an optimiser of `checkpoint.network`'s parameters into the state that was saved.

    Its parameter groups get the saved numbers too, the learning rate among them.

    Raises:
        ValueError: if the checkpoint has no optimiser state, or one of other parameters.
    """
    state = checkpoint.optimiser_state
    if state is None:
        raise ValueError("the checkpoint was saved without an optimiser; training cannot continue from it")
    counts = [len(group["params"]) for group in optimiser.param_groups]
    saved = [len(group["params"]) for group in state["param_groups"]]
    if counts != saved:
        raise ValueError(f"the optimiser has {counts} parameters per group, the checkpoint {saved}")
    optimiser.load_state_dict(state)


def _check_replaceable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a checkpoint is a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CONFIG_FILE).exists():
        raise ValueError(f"{folder} holds something else than a checkpoint; it is not overwritten")


def _read_header(path: Path) -> dict[str, Any]:
    content = read_bytes(path)
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        refuse_pickle(path, content)
        raise ValueError(f"{path} is damaged: it is no JSON ({error})") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"{path} is not the header of a checkpoint of format {FORMAT}")
    # Checkpoints from before there were any in mid-epoch do not say.
    header.setdefault("step", 0)
    for name, types in _HEADER_TYPES.items():
        if type(header.get(name)) not in types:
            raise ValueError(f"{path} is damaged: '{name}' is missing or of the wrong type")
    for name in ("epoch", "step"):
        if header[name] < 0:
            raise ValueError(f"{path} is damaged: '{name}' is {header[name]}")
    # Of the whole numbers that JSON allows some are too large for a float.
    if not all(v is None or type(v) is float or _is_small(v) for v in header["metrics"].values()):
        raise ValueError(f"{path} is damaged: 'metrics' holds something else than numbers")
    return header


def _is_small(value: object) -> bool:
    return type(value) is int and abs(value) < 2**63
