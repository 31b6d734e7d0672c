"""What can be wrong with a machine before anything is started, one finding each."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator

from runner.doctor.node import Check
from runner.settings import Settings
from search_spaces.sweep import home_folder

PACKAGES = ("torch", "ray", "mlflow", "numpy", "pillow", "boto3", "optuna", "safetensors")
LEAST_FREE_GIB = 2.0


def checks(settings: Settings) -> Iterator[Check]:
    """Looks at everything a sweep needs, the quick things first."""
    looks: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("python", _python),
        ("packages", _packages),
        ("processors", _processors),
        ("home", _home),
        ("photographs", _photographs),
        ("hpatches", _hpatches),
        ("released network", _released),
        ("mlflow", _mlflow),
        ("token", _token),
        ("ray", _ray),
    )
    for name, look in looks:
        try:
            yield Check(name, True, look(settings))
        except (ValueError, OSError) as error:
            yield Check(name, False, " ".join(str(error).split()))
        except Exception as error:  # What nobody has thought of is a finding too, and the other lines follow.
            yield Check(name, False, f"{type(error).__name__}: {' '.join(str(error).split())}")


def all_checks(settings: Settings) -> Iterator[Check]:
    """Those of this machine, then those of every node of the cluster that the settings name."""
    well = True
    for check in checks(settings):
        well = check.ok if check.name == "ray" else well
        yield check
    if settings.ray_address is not None and well:
        from runner.cluster.connect import ray_cluster
        from runner.doctor.nodes import node_checks

        try:
            with ray_cluster(settings.ray_address, verbose=False):
                yield from node_checks(settings)
        except ValueError as error:
            yield Check("nodes", False, str(error))


def _python(_: Settings) -> str:
    return sys.version.split()[0]


def _packages(_: Settings) -> str:
    try:
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    except importlib.metadata.PackageNotFoundError as error:
        raise ValueError(f"{error.name} is not installed; install the project: pip install -e .") from error


def _processors(_: Settings) -> str:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return f"{os.cpu_count()} CPUs, {', '.join(gpus) or 'no GPU'}"


def _home(settings: Settings) -> str:
    if settings.is_remote:
        return _remote_home(settings)
    settings.local.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=settings.local):
        pass
    free = shutil.disk_usage(settings.local).free / 2**30
    if free < LEAST_FREE_GIB:
        raise ValueError(
            f"only {free:.1f} GiB are free in {settings.home}; checkpoints need {LEAST_FREE_GIB:g}"
        )
    return f"{settings.home} can be written, {free:.0f} GiB are free"


def _remote_home(settings: Settings) -> str:
    store, name, mark = settings.sweeps, f"doctor-{uuid.uuid4().hex}", b"written by r2d2 doctor"
    store.write(name, mark)
    try:
        if store.read(name) != mark:
            raise ValueError(f"{settings.home}: what was written is not what is read")
        if store.create(name, mark):
            raise ValueError(
                f"{settings.home}: the server ignores If-None-Match: two drivers could run one sweep; use a "
                "server with conditional writes"
            )
    finally:
        store.delete(name)
    return f"{settings.home} can be read and written; what is local lies in {settings.local}"


def _photographs(_: Settings) -> str:
    from r2d2.data.photos import open_photos

    return f"{len(open_photos('samples').paths)} sample photographs"


def _hpatches(settings: Settings) -> str:
    if settings.hpatches is None:
        return "not configured; --hpatches or R2D2_HPATCHES scores every checkpoint on it"
    from evaluation.benchmarks.hpatches import open_benchmark

    benchmark = open_benchmark(settings.hpatches, settings.objects)
    return f"{len(benchmark.sequences)} sequences in {settings.hpatches}"


def _released(settings: Settings) -> str:
    if settings.released is None:
        return "not configured; --released or R2D2_RELEASED names the network to fine-tune"
    from r2d2.checkpoint import load_model

    model = load_model(settings.released, settings.objects)
    return f"{settings.released}: {model.network.config}"


def _mlflow(settings: Settings) -> str:
    from runner.tracking.experiments import Tracker

    Tracker.of(settings)
    return f"{settings.tracking_uri} answers"


def _token(_: Settings) -> str:
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


def _ray(settings: Settings) -> str:
    from runner.cluster.connect import ray_cluster

    with ray_cluster(settings.ray_address, verbose=False) as capacity:
        where = settings.ray_address or "on this machine"
        return f"a cluster {where} has {capacity.cpus:g} CPUs and {capacity.gpus:g} GPUs"
