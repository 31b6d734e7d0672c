"""Pretends that `meta` is a GPU: its tensors hold numbers, and what a GPU would be asked for is listed.

The storage of each `meta` tensor has one on the CPU beside it, in which every operation is done as well. So
results are those of the CPU, computed on the ways that the project takes on a GPU.
"""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode  # PyTorch's documented way to see each operation.

GPU, CPU = torch.device("meta"), torch.device("cpu")
ROOT = Path(__file__).parents[2]
OURS = tuple(f"{ROOT / folder}/" for folder in ("r2d2", "evaluation", "runner", "tests"))

# What a GPU may be waited for, and why.
ALLOWED = {
    (
        "waits",
        "r2d2/training/step.py",
        "_read",
    ): "the numbers of a step, once, before its weights are touched",
    ("waits", "r2d2/extraction/keypoints.py", "_maxima"): "how many maxima a level has decides what follows",
    (
        "waits",
        "r2d2/extraction/keypoints.py",
        "_array",
    ): "an image's keypoints leave the GPU, as three arrays",
    ("waits", "evaluation/metrics/matching.py", "mutual_nearest_neighbours"): "the matches leave the GPU",
    (
        "waits",
        "evaluation/collapse.py",
        "collapse_signs",
    ): "the signs of collapse leave the GPU, once a score",
}

# How many numbers their results have depends on numbers of their arguments.
ASKING = {"nonzero", "masked_select", "_local_scalar_dense", "is_nonzero", "equal", "_unique2", "bincount"}
# No work for a GPU, though no views either.
IDLE = {"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided", "_unsafe_view"}


@dataclass(frozen=True, order=True)
class Place:
    """A Place is a line of this project."""

    file: str
    function: str
    line: int

    def __str__(self):
        return f"{self.file}:{self.line} ({self.function})"


def place():
    """The innermost line of this project on the way here."""
    frame = inspect.currentframe()
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(OURS) and code.co_filename != __file__:
            return Place(str(Path(code.co_filename).relative_to(ROOT)), code.co_name, frame.f_lineno)
        frame = frame.f_back
    return Place("elsewhere", "", 0)


def replaced(value, change):
    """Nested lists, tuples and dictionaries with each leaf changed."""
    if isinstance(value, list | tuple):
        return type(value)(replaced(item, change) for item in value)
    if isinstance(value, dict):
        return {key: replaced(item, change) for key, item in value.items()}
    return change(value)


def tensors(value):
    """The tensors in nested lists, tuples and dictionaries."""
    found = []
    replaced(value, lambda leaf: found.append(leaf) if isinstance(leaf, torch.Tensor) else None)
    return found


def numbers(tensor):
    """What a tensor of the pretended GPU holds: a CPU tensor over the memory that stands for its storage."""
    storage = tensor.untyped_storage()
    if not hasattr(storage, "numbers"):
        storage.numbers = torch.UntypedStorage(storage.nbytes())
    view = torch.empty(0, dtype=tensor.dtype)
    return view.set_(storage.numbers, tensor.storage_offset(), tensor.size(), tensor.stride())


class PretendedGpu(TorchDispatchMode):
    """Computes on `meta`, and lists by file and line what the project asks of a GPU.

    Attributes:
        found: {(kind, place): how often}. Kinds: "waits" (a number, or the size of a result, is asked for),
            "blocks" (a copy that the processor waits for) and "mixes" (an operation on tensors of both).
        launches: {place: operations that a GPU is told to do}.
    """

    def __init__(self, with_numbers=True):
        super().__init__()
        self.with_numbers, self.found, self.launches = with_numbers, Counter(), Counter()
        self._functions = _Functions()

    def __enter__(self):
        _forget_constants()
        self._functions.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._functions.__exit__(*error)
        _forget_constants()

    def forget(self):
        """Empties both lists: what was asked before, to set things up, does not count."""
        self.found.clear()
        self.launches.clear()

    def of(self, kind):
        """How often something of this kind was found."""
        return sum(count for (found, _), count in self.found.items() if found == kind)

    def unexpected(self):
        """What was found that ALLOWED does not name: one line each."""
        return [
            f"{where} {kind} {count} times"
            for (kind, where), count in sorted(self.found.items())
            if (kind, where.file, where.function) not in ALLOWED
        ]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, func.name().removeprefix("aten::").split(".")[0]
        given = tensors((args, kwargs))
        if GPU not in {tensor.device for tensor in given} | {kwargs.get("device")}:
            return func(*args, **kwargs)
        self._note(name, given, args, kwargs)
        result = self._result(func, name, given, args, kwargs)
        if not func.is_view and name not in IDLE:
            self.launches[place()] += 1
        return result

    def _note(self, name, given, args, kwargs):
        copies = name in ("_to_copy", "copy_")
        devices = {tensor.device for tensor in given if tensor.dim() or copies}
        to = args[0].device if name == "copy_" else kwargs.get("device", args[0].device if copies else None)
        if copies and to == CPU:
            self.found["waits", place()] += 1
        elif copies and CPU in devices:
            source = (
                args[-1] if name == "copy_" and isinstance(args[-1], torch.Tensor) else args[name == "copy_"]
            )
            waits_not = (kwargs.get("non_blocking") or args[-1] is True) and getattr(source, "pinned", False)
            if not waits_not:
                self.found["blocks", place()] += 1
        elif len(devices) > 1:
            self.found["mixes", place()] += 1
        if name in ASKING or (name in ("index", "index_put_", "index_put") and _masked(args[1])):
            self.found["waits", place()] += 1

    def _result(self, func, name, given, args, kwargs):
        if name == "_to_copy" and kwargs.get("device") == CPU:
            return self._read(func, args, kwargs)
        if name == "_local_scalar_dense":
            return func(numbers(args[0])) if self.with_numbers else 1.0
        if name == "copy_" and args[0].device == CPU:
            return args[0].copy_(numbers(args[1])) if self.with_numbers else args[0]
        on_cpu = None
        if self.with_numbers:
            on_cpu = func(*replaced(args, _on_cpu), **replaced(kwargs, _on_cpu))
        if name in ASKING or (name == "index" and _masked(args[1])):
            return replaced(
                on_cpu,
                lambda t: _holding(t, torch.empty_strided(t.size(), t.stride(), dtype=t.dtype, device=GPU)),
            )
        result = func(*args, **kwargs)
        if self.with_numbers:
            for ours, theirs in zip(tensors(result), tensors(on_cpu), strict=True):
                _holding(theirs, ours)
        return result

    def _read(self, func, args, kwargs):
        if self.with_numbers:
            return func(numbers(args[0]), **kwargs)
        return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)


class _Functions(TorchFunctionMode):
    """Some functions cannot be seen as operations: they make tensors of Python's numbers, or need a GPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.Tensor.pin_memory:
            pinned = args[0].clone()
            pinned.pinned = True
            return pinned
        if func is torch.tensor and torch.device(kwargs.get("device") or CPU) == GPU:
            return torch.tensor(*args, **kwargs | {"device": CPU}).to(GPU)
        if func is torch.Tensor.new_tensor and args[0].device == GPU:
            return torch.tensor(args[1], dtype=kwargs.get("dtype", args[0].dtype)).to(GPU)
        return func(*args, **kwargs)


def _forget_constants():
    """Empties the project's caches: a constant that another GPU made may have no numbers."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("r2d2", "evaluation"):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def _masked(indices):
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def _on_cpu(leaf):
    if isinstance(leaf, torch.Tensor) and leaf.device == GPU:
        return numbers(leaf)
    return CPU if leaf == GPU and isinstance(leaf, torch.device) else leaf


def _holding(values, tensor):
    """The tensor; a new one takes the values, one over known memory has them already."""
    if tensor.device == GPU and not hasattr(tensor.untyped_storage(), "numbers"):
        held = numbers(tensor)
        # Of what nobody reads, such as statistics of a BatchNorm in eval mode, a CPU returns nothing.
        if held.shape == values.shape:
            held.copy_(values)
    return tensor
