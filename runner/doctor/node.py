"""What one node of a cluster sees of what a sweep needs; runs on that node, as an actor without a CPU.

Each look returns what was seen or raises the one sentence that says what to do. Only the look at
MLflow imports it.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import shutil
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from r2d2.storage.open import open_store

PACKAGES = ("torch", "ray", "mlflow", "numpy", "pillow", "boto3", "safetensors")
CODE = ("runner", "r2d2", "evaluation", "search_spaces")
LEAST_FREE_GIB = 2.0
# Bytes that are reduced over all nodes, several times: what the gradients of a network of 4 M weights take.
REDUCED_MIB, REPETITIONS = 16, 5
TIMEOUT_S = 20.0
_MARK = b"written by r2d2 doctor"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `finding` says what was seen, or what to do."""

    name: str
    ok: bool
    finding: str


@dataclass(frozen=True)
class Question:
    """What a node is asked, by the driver.

    Attributes:
        versions: of the driver's packages.
        code: digest of the driver's code.
        home: of the sweeps, a folder or `s3://...`.
        seen: name of a file in `home` that the driver has written.
        places: further places on S3 that are read, name to place.
        cache: folder of what is fetched.
        tracking_uri: of MLflow.
        gpus: that Ray counts on the node.
    """

    versions: dict[str, str]
    code: str
    home: str
    seen: str
    places: dict[str, str]
    cache: str
    tracking_uri: str
    gpus: float


class NodeCheck:
    """The looks at one node."""

    def __init__(self, question: Question) -> None:
        self._question = question

    def now(self) -> float:
        """Seconds since 1970 by the node's clock."""
        return time.time()

    def look(self) -> list[tuple[str, bool, str]]:
        """All looks: name, whether it is well, and what was seen or is to be done."""
        looks: tuple[tuple[str, Callable[[], str]], ...] = (
            ("versions", self._versions),
            ("code", self._code),
            ("home", self._home),
            *((name, partial(_place, place)) for name, place in self._question.places.items()),
            ("mlflow", self._mlflow),
            ("gpus", self._gpus),
            ("disk", self._disk),
        )
        return [(name, *_tried(look)) for name, look in looks]

    def address(self) -> str:
        """HOST:PORT at which the workers of a reduction meet; the port was free a moment ago."""
        import ray.util

        host = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        with socket.socket() as probe:
            probe.bind((host, 0))
            return f"{host}:{probe.getsockname()[1]}"

    def reduce(self, address: str, rank: int, nodes: int, backend: str) -> float:
        """Adds a tensor up over all nodes; returns the seconds of one such sum.

        Args:
            address: where they meet.
            rank: of this node.
            nodes: that take part.
            backend: `gloo` or `nccl`.
        """
        import torch
        import torch.distributed as dist

        device = torch.device("cuda" if backend == "nccl" else "cpu")
        dist.init_process_group(
            backend, f"tcp://{address}", timedelta(seconds=TIMEOUT_S), rank=rank, world_size=nodes
        )
        try:
            values = torch.ones(REDUCED_MIB * 2**18, device=device)
            dist.all_reduce(values)
            if values[0].item() != nodes:
                raise ValueError(f"the sum over {nodes} nodes was {values[0].item():g}")
            start = time.perf_counter()
            for _ in range(REPETITIONS):
                dist.all_reduce(values)
            float(values[0])
            return (time.perf_counter() - start) / REPETITIONS
        finally:
            dist.destroy_process_group()

    def _versions(self) -> str:
        ours = installed_versions()
        others = [
            f"{name} is {ours.get(name, 'missing')}, the driver's is {version}"
            for name, version in self._question.versions.items()
            if ours.get(name) != version
        ]
        if others:
            raise ValueError(f"{'; '.join(others)}; install what constraints.txt names")
        return "as the driver's"

    def _code(self) -> str:
        if (digest := code_digest()) != self._question.code:
            raise ValueError(
                f"the node has other code ({digest[:12]}, the driver {self._question.code[:12]}); update "
                "it, or let it travel with the job: r2d2 submit"
            )
        return f"the driver's, {digest[:12]}"

    def _home(self) -> str:
        store = open_store(self._question.home, TIMEOUT_S)
        if store.read(self._question.seen) is None:
            raise ValueError(
                f"{self._question.home} is not what the driver sees there; R2D2_HOME must be on S3 or a file "
                "system that every node shares"
            )
        name = f"{self._question.seen}-{uuid.uuid4().hex}"
        store.write(name, _MARK)
        store.delete(name)
        return f"{self._question.home} can be read and written"

    def _mlflow(self) -> str:
        uri = self._question.tracking_uri
        if uri.startswith("sqlite:"):
            return "a SQLite file, which the driver alone opens"
        from runner.tracking.store import open_client

        open_client(uri)
        return f"{uri} answers"

    def _gpus(self) -> str:
        import torch

        count = self._question.gpus
        if not count:
            return "none"
        if not torch.cuda.is_available():
            raise ValueError(
                f"Ray counts {count:g} GPUs, but PyTorch {torch.__version__} sees none; look at the driver "
                "(nvidia-smi) and at the build of PyTorch"
            )
        return f"{count:g}, {torch.cuda.get_device_name(0)}"

    def _disk(self) -> str:
        folders = {self._question.cache: "what is fetched", tempfile.gettempdir(): "temporary files"}
        frees = {}
        for folder, what in folders.items():
            Path(folder).mkdir(parents=True, exist_ok=True)
            frees[what] = shutil.disk_usage(folder).free / 2**30
            if frees[what] < LEAST_FREE_GIB:
                raise ValueError(f"only {frees[what]:.1f} GiB are free for {what} in {folder}")
        return ", ".join(f"{free:.0f} GiB free for {what}" for what, free in frees.items())


def installed_versions() -> dict[str, str]:
    """Of Python and the packages that must agree; what is not installed is left out."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def code_digest() -> str:
    """SHA-256 of all Python files of this project that this process would import."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for path in sorted(file for package in CODE for file in (root / package).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


@contextlib.contextmanager
def mark_in(home: str) -> Iterator[str]:
    """The name of a file that lies in `home` as long as the block lasts."""
    store, name = open_store(home, TIMEOUT_S), f"doctor-{uuid.uuid4().hex}"
    store.write(name, _MARK)
    try:
        yield name
    finally:
        store.delete(name)


def _place(place: str) -> str:
    store = open_store(place, TIMEOUT_S)
    folder, _, name = place.rpartition("/")
    if not store.files() and not store.folders():
        above = open_store(folder, TIMEOUT_S)
        if name not in [file.name for file in above.files()]:
            raise ValueError(f"nothing is in {place}")
    return f"{place} can be read"


def _tried(look: Callable[[], str]) -> tuple[bool, str]:
    """What a look has seen; what it failed of is one sentence, whatever it was."""
    try:
        return True, look()
    except Exception as error:
        return False, " ".join(f"{error}".split()) or type(error).__name__
