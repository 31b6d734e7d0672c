"""Checks what a sweep needs of a machine. The driver's machine and every node run the same list.

To add a check: write a function `_check(machine) -> str` that returns what it found, or raises a ValueError
with one sentence that says what to do. List it in `_EVERYWHERE`, or in `_ON_THE_DRIVER`.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from r2d2.storage.location import open_store
from runner.cluster.processors import usable_cpus
from runner.doctor.gpus import describe_gpus
from runner.record.provenance import PACKAGES, installed_versions
from runner.settings import Settings
from search_spaces.sweep import home_folder

CODE = ("runner", "r2d2", "evaluation", "search_spaces")
LEAST_FREE_GIB = 2.0
TIMEOUT_S = 20.0
_MARK = b"written by r2d2 doctor"


@dataclass(frozen=True)
class Check:
    """A Check is one check with its result; `finding` says what was found, or what to do."""

    name: str
    ok: bool
    finding: str


@dataclass(frozen=True)
class Expected:
    """An Expected says what a node should share with the driver.

    Attributes:
        versions: of the driver's packages.
        code: digest of the driver's code.
        mark: name of a file that the driver has written into the home.
        gpus: the number that Ray counts on the node.
    """

    versions: Mapping[str, str]
    code: str
    mark: str
    gpus: float


@dataclass(frozen=True)
class Machine:
    """A Machine is the machine that is checked.

    Attributes:
        settings: the driver's.
        expected: None on the driver's machine.
    """

    settings: Settings
    expected: Expected | None = None


def run_checks(machine: Machine) -> Iterator[Check]:
    """Runs all checks, the quick ones first; an exception becomes the check's finding."""
    checks = _EVERYWHERE if machine.expected else (*_EVERYWHERE, *_ON_THE_DRIVER)
    for name, check in checks:
        try:
            yield Check(name, True, check(machine))
        except (ValueError, OSError) as error:
            yield Check(name, False, " ".join(str(error).split()))
        except Exception as error:  # What nobody has thought of is a finding too.
            yield Check(name, False, f"{type(error).__name__}: {' '.join(str(error).split())}")


def code_digest() -> str:
    """Computes the SHA-256 of all Python files of this project that this process would import."""
    root = Path(__file__).resolve().parents[2]
    digest = hashlib.sha256()
    for path in sorted(file for package in CODE for file in (root / package).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


@contextmanager
def mark_in(home: str) -> Iterator[str]:
    """Writes a file into `home` that is removed when the block ends; yields its name."""
    store, name = open_store(home, TIMEOUT_S), f"doctor-{uuid.uuid4().hex}"
    store.write(name, _MARK)
    try:
        yield name
    finally:
        store.delete(name)


def _versions(machine: Machine) -> str:
    ours, expected = installed_versions(), machine.expected
    if expected is None:
        if missing := [name for name in PACKAGES if name not in ours]:
            raise ValueError(f"{', '.join(missing)} is not installed; install the project: pip install -e .")
        return ", ".join(f"{name} {version}" for name, version in ours.items())
    others = [
        f"{name} is {ours.get(name, 'missing')}, the driver's is {version}"
        for name, version in expected.versions.items()
        if ours.get(name) != version
    ]
    if others:
        raise ValueError(f"{'; '.join(others)}; install what constraints.txt names")
    return "as the driver's"


def _code(machine: Machine) -> str:
    digest, expected = code_digest(), machine.expected
    if expected is not None and digest != expected.code:
        raise ValueError(
            f"the node has other code ({digest[:12]}, the driver {expected.code[:12]}); update it, or let it "
            "travel with the job: r2d2 submit"
        )
    return digest[:12]


def _home(machine: Machine) -> str:
    settings, expected = machine.settings, machine.expected
    store = open_store(str(settings.home), TIMEOUT_S)
    if expected is not None and store.read(expected.mark) is None:
        raise ValueError(
            f"{settings.home} is not what the driver sees there; R2D2_HOME must be on S3 or a file system "
            "that every node shares"
        )
    with mark_in(str(settings.home)) as name:
        if store.read(name) != _MARK:
            raise ValueError(f"{settings.home}: a file that was written there reads differently")
        if store.create(name, _MARK):
            raise ValueError(
                f"{settings.home}: the server ignores If-None-Match: two drivers could run one sweep; use a "
                "server with conditional writes"
            )
    where = f"; what is local lies in {settings.local}" if settings.is_remote else ""
    return f"{settings.home} can be read and written{where}"


def _disk(machine: Machine) -> str:
    settings = machine.settings
    folders = {Path(tempfile.gettempdir()): "temporary files", settings.cache: "what is fetched"}
    if not settings.is_remote:
        folders[settings.local] = "checkpoints"
    frees = {}
    for folder, what in folders.items():
        folder.mkdir(parents=True, exist_ok=True)
        frees[what] = shutil.disk_usage(folder).free / 2**30
        if frees[what] < LEAST_FREE_GIB:
            raise ValueError(
                f"only {frees[what]:.1f} GiB are free for {what} in {folder}; it needs {LEAST_FREE_GIB:g}"
            )
    return ", ".join(f"{free:.0f} GiB free for {what}" for what, free in frees.items())


def _processors(machine: Machine) -> str:
    expected = machine.expected
    return f"{usable_cpus()} CPUs, {describe_gpus(0.0 if expected is None else expected.gpus)}"


def _hpatches(machine: Machine) -> str:
    place = machine.settings.hpatches
    if place is None:
        return "not configured; --hpatches or R2D2_HPATCHES scores every checkpoint on it"
    from evaluation.benchmarks.hpatches import open_benchmark

    return f"{len(open_benchmark(place, machine.settings.objects).sequences)} sequences in {place}"


def _released(machine: Machine) -> str:
    place = machine.settings.released
    if place is None:
        return "not configured; --released or R2D2_RELEASED names the network to fine-tune"
    from r2d2.checkpoint import load_model

    return f"{place}: {load_model(place, machine.settings.objects).network.config}"


def _mlflow(machine: Machine) -> str:
    settings = machine.settings
    if machine.expected is not None and settings.artifact_root is not None:
        return "a SQLite file, which the driver alone opens"
    from runner.tracking.store import open_client, without_password

    open_client(settings.tracking_uri, settings.artifact_root)
    return f"{without_password(settings.tracking_uri)} answers"


def _photographs(_: Machine) -> str:
    from r2d2.data.photos import SAMPLES, open_photos

    try:
        return f"{len(open_photos(SAMPLES).paths)} sample photographs"
    except ValueError as error:
        # Only the demo and the smallest sweeps train on them.
        return str(error)


def _token(_: Machine) -> str:
    folder = home_folder() / ".ray"
    token = folder / "auth_token"
    if not token.exists():
        return f"no token of Ray in {token}"
    if folder.stat().st_mode & 0o077 and token.stat().st_mode & 0o077:
        raise ValueError(
            f"other users of this machine can read {token}, and with it run code on the cluster: chmod 700 "
            f"{folder}"
        )
    return f"{token} is for this user alone"


def _ray(machine: Machine) -> str:
    from runner.cluster.connect import ray_cluster

    address = machine.settings.ray_address
    with ray_cluster(address, verbose=False) as capacity:
        where = address or "on this machine"
        return f"a cluster {where} has {capacity.cpus:g} CPUs and {capacity.gpus:g} GPUs"


_Checks = tuple[tuple[str, Callable[[Machine], str]], ...]
_EVERYWHERE: _Checks = (
    ("versions", _versions),
    ("code", _code),
    ("home", _home),
    ("disk", _disk),
    ("processors", _processors),
    ("hpatches", _hpatches),
    ("released network", _released),
    ("mlflow", _mlflow),
)
_ON_THE_DRIVER: _Checks = (("photographs", _photographs), ("token", _token), ("ray", _ray))
