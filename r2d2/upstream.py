"""Import of the `.pt` files in which the authors of R2D2 and their successors released networks.

Such a file is a pickle of `{"net": "Fast_Quad_L2Net_ConfCFS(mchan=4)", "state_dict": {...}, ...}`. Nothing in
it is executed: PyTorch's restricted unpickler makes tensors and plain containers only, and the text that
upstream code hands to `eval` is parsed.
"""

from __future__ import annotations

import ast
import io
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from r2d2.config import NetworkConfig
from r2d2.network import R2D2Network, network_from_state
from r2d2.tensor_file import MAX_BYTES, read_bytes
from r2d2.unknown import unknown
from r2d2.zip_directory import check_directory

UPSTREAM_NETWORKS = {"Quad_L2Net_ConfCFS": "quad", "Fast_Quad_L2Net_ConfCFS": "fast"}
UPSTREAM_ARGUMENTS = {"mchan": "channels", "dim": "dim"}
_EXAMPLE = "'Fast_Quad_L2Net_ConfCFS(mchan=4, dim=128)'"
_LONGEST_NAME = 200
# Of the list of a file's records, bytes: ten thousand of them.
_MAX_DIRECTORY = 2**20

_allow_list = threading.Lock()


def load_upstream(path: Path) -> R2D2Network:
    """The network of an upstream `.pt` file, in eval mode on the CPU.

    Raises:
        ValueError: names the file and says what is wrong: no such file, no plain weights, code in the pickle,
            another network, shapes that do not fit.
    """
    content = _load_plain(path)
    if not isinstance(content, Mapping) or not {"net", "state_dict"} <= set(content):
        raise ValueError(f"{path} is no R2D2 network: it must be a dictionary with 'net' and 'state_dict'")
    try:
        config = parse_network(content["net"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return network_from_state(config, _clean_state(content["state_dict"], path), str(path))


def parse_network(text: object) -> NetworkConfig:
    """The architecture that an upstream constructor call names, e.g. `Quad_L2Net_ConfCFS(mchan=6)`.

    Raises:
        ValueError: if it is anything but a known name called with whole numbers for `mchan` and `dim`.
    """
    refusal = f"the network is given as {text!r:.220}; it must be a call like {_EXAMPLE}"
    # The bound keeps deeply nested text from the parser.
    if not isinstance(text, str) or len(text) > _LONGEST_NAME:
        raise ValueError(refusal)
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


def _plain_dictionary(*_default_factory: object) -> dict[Any, Any]:
    """Stands for `collections.defaultdict`, which holds the optimiser's state in some released files."""
    return {}


def _load_plain(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    content = read_bytes(path)
    _check_records(path, io.BytesIO(content))
    stand_ins = [
        (_plain_dictionary, "collections.defaultdict"),
        (list, "builtins.list"),
        (dict, "builtins.dict"),
    ]
    try:
        # The list of allowed names belongs to the process; leaving the context shortens it for all threads.
        with _allow_list, torch.serialization.safe_globals(cast(list[Any], stand_ins)):
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile pickle fails in as many ways as there are opcodes
        raise ValueError(
            f"{path} is refused: it is damaged or holds more than plain weights ({_first_sentence(error)})"
        ) from error


def _check_records(path: Path, content: io.BytesIO) -> None:
    """Compares what the records of a zip archive become with the limit; `torch.save` compresses none.

    Raises:
        ValueError: if it is more, or one is compressed.
    """
    if not zipfile.is_zipfile(content):
        return
    try:
        check_directory(content, _MAX_DIRECTORY)
        with zipfile.ZipFile(content) as archive:
            records = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise ValueError(f"{path} is refused: it is damaged ({error})") from error
    total = sum(record.file_size for record in records)
    if total > MAX_BYTES or any(record.compress_type != zipfile.ZIP_STORED for record in records):
        raise ValueError(
            f"{path} is refused: its {len(records)} records become {total} bytes; they may have at most "
            f"{MAX_BYTES}, stored without compression"
        )


def _first_sentence(error: Exception) -> str:
    # PyTorch explains at length how to load the file all the same; the fact stands behind this marker.
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    line = text.splitlines()[0] if text else type(error).__name__
    return line.split(". Please")[0][:200].rstrip(".")


def _clean_state(state: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} is no R2D2 network: its 'state_dict' must be a dictionary of tensors")
    clean: dict[str, Tensor] = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path} is no R2D2 network: '{name}' in its 'state_dict' is no tensor")
        clean[name.removeprefix("module.")] = value
    for name in [n for n in clean if n.endswith(".running_mean")]:
        # Written since PyTorch 0.4.1; only counts batches and changes no output.
        counter = f"{name.removesuffix('running_mean')}num_batches_tracked"
        clean.setdefault(counter, torch.tensor(0))
    return clean
