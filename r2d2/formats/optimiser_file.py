"""Reads and writes the state of an optimiser in the folder of a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from r2d2.config import CONFIG_FILE
from r2d2.formats.tensor_file import read_tensors, write_tensors

OPTIMISER = "optimiser.safetensors"


def write_optimiser(folder: Path, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Writes the tensors of an optimiser; returns the rest of its state, for the header, as JSON has it."""
    state = optimiser.state_dict()
    tensors: dict[str, Tensor] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            assert isinstance(value, Tensor), f"the optimiser keeps a {type(value)} in '{name}'"
            tensors[f"{index}.{name}"] = value
    return {"sha256": write_tensors(folder / OPTIMISER, tensors), "groups": state["param_groups"]}


def read_optimiser(
    folder: Path, saved: dict[str, Any] | None, shapes: Sequence[torch.Size]
) -> dict[str, Any] | None:
    """Reads an optimiser's state as its `load_state_dict` takes it; None of a checkpoint without one.

    Args:
        folder: the checkpoint's.
        saved: what `write_optimiser` returned, as the header holds it.
        shapes: of the network's parameters, in order.

    Raises:
        ValueError: names the file, if it is damaged or of another network.
    """
    if saved is None:
        return None
    state: dict[int, dict[str, Tensor]] = {}
    tensors = read_tensors(folder / OPTIMISER, sha256=saved.get("sha256", ""))
    for key, tensor in sorted(tensors.items()):
        index, _, name = key.partition(".")
        known = index.isdecimal() and int(index) < len(shapes)
        if not known or (tensor.dim() > 0 and tensor.shape != shapes[int(index)]):
            raise ValueError(
                f"{folder / OPTIMISER}: '{key}', {tuple(tensor.shape)}, fits no parameter of the network"
            )
        state.setdefault(int(index), {})[name] = tensor
    return {
        "state": state,
        "param_groups": _parameter_groups(folder, saved.get("groups"), len(shapes)),
    }


def _parameter_groups(folder: Path, groups: object, count: int) -> list[dict[str, Any]]:
    path = folder / CONFIG_FILE
    damaged = f"{path} is damaged: 'optimiser.groups' does not list the network's {count} parameters"
    if not isinstance(groups, list) or not all(isinstance(g, dict) for g in groups):
        raise ValueError(damaged)
    if [index for group in groups for index in group.get("params", ())] != list(range(count)):
        raise ValueError(damaged)
    # JSON knows no tuples, and Adam's betas are one.
    return [
        {k: tuple(v) if isinstance(v, list) and k != "params" else v for k, v in group.items()}
        for group in groups
    ]
