"""Imports the `.pt` files in which the authors of R2D2 and their successors released networks.

Such a file is a pickle of `{"net": "Fast_Quad_L2Net_ConfCFS(mchan=4)", "state_dict": {...}, ...}`. Nothing in
it is executed: `torch_file` makes tensors and plain containers only, and the text that upstream code hands to
`eval` is parsed.
"""

from __future__ import annotations

import ast
from pathlib import Path

import torch
from torch import Tensor

from r2d2.formats.torch_file import SavedFile, SavedTensor, read_saved
from r2d2.network import R2D2Network, network_from_state
from r2d2.network_config import NetworkConfig
from r2d2.unknown import unknown

UPSTREAM_NETWORKS = {"Quad_L2Net_ConfCFS": "quad", "Fast_Quad_L2Net_ConfCFS": "fast"}
UPSTREAM_ARGUMENTS = {"mchan": "channels", "dim": "dim"}
_EXAMPLE = "'Fast_Quad_L2Net_ConfCFS(mchan=4, dim=128)'"
_LONGEST_NAME = 200


def load_upstream(path: Path) -> R2D2Network:
    """Loads the network of an upstream `.pt` file, in eval mode on the CPU.

    Raises:
        ValueError: names the file and says what is wrong: no such file, no plain weights, code in the pickle,
            another network, shapes that do not fit.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    saved = read_saved(path)
    content = saved.content
    if not isinstance(content, dict) or not {"net", "state_dict"} <= set(content):
        raise ValueError(f"{path} is no R2D2 network: it must be a dictionary with 'net' and 'state_dict'")
    try:
        config = parse_network(content["net"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return network_from_state(config, _clean_state(saved, path), str(path))


def parse_network(text: object) -> NetworkConfig:
    """Reads the architecture from an upstream constructor call, e.g. `Quad_L2Net_ConfCFS(mchan=6)`.

    Raises:
        ValueError: if it is anything but a known name called with whole numbers for `mchan` and `dim`.
    """
    # The bound keeps deeply nested text from the parser.
    if not isinstance(text, str) or len(text) > _LONGEST_NAME:
        given = f"{text[:40]!r} ..." if isinstance(text, str) else f"a {type(text).__name__}"
        raise ValueError(f"the network is given as {given}; it must be a call like {_EXAMPLE}")
    refusal = f"the network is given as {text!r}; it must be a call like {_EXAMPLE}"
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise ValueError(refusal) from None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise ValueError(refusal)
    if call.func.id not in UPSTREAM_NETWORKS:
        raise ValueError(unknown("network", call.func.id, sorted(UPSTREAM_NETWORKS)))
    arguments = dict(_argument(keyword) for keyword in call.keywords)
    return NetworkConfig(name=UPSTREAM_NETWORKS[call.func.id], **arguments)


def _argument(keyword: ast.keyword) -> tuple[str, int]:
    if keyword.arg not in UPSTREAM_ARGUMENTS:
        raise ValueError(unknown("argument", str(keyword.arg), sorted(UPSTREAM_ARGUMENTS)))
    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
    if type(value) is not int or value < 1:
        raise ValueError(f"the argument '{keyword.arg}' must be a whole number of at least 1")
    return UPSTREAM_ARGUMENTS[keyword.arg], value


def _clean_state(saved: SavedFile, path: Path) -> dict[str, Tensor]:
    state = saved.content["state_dict"]
    if not isinstance(state, dict):
        raise ValueError(f"{path} is no R2D2 network: its 'state_dict' must be a dictionary of tensors")
    clean: dict[str, Tensor] = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, SavedTensor):
            raise ValueError(f"{path} is no R2D2 network: '{name}' in its 'state_dict' is no tensor")
        try:
            clean[name.removeprefix("module.")] = saved.tensor(value)
        except ValueError as error:
            raise ValueError(f"{path} is damaged: '{name}' in its 'state_dict': {error}") from error
    for name in [n for n in clean if n.endswith(".running_mean")]:
        # Written since PyTorch 0.4.1; only counts batches and changes no output.
        counter = f"{name.removesuffix('running_mean')}num_batches_tracked"
        clean.setdefault(counter, torch.tensor(0))
    return clean
