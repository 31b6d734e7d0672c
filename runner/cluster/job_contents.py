"""Chooses what a job takes along: a copy of the code, with no data, and variables, with no secrets."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from r2d2.source_code import PACKAGES, SUFFIXES, describe_copy
from r2d2.version import VERSION_FILE, code_version

# Where a sweep's file that is no part of search_spaces/ lies in the copy.
OWN_SWEEPS = "own_sweeps"

# What a job may be given, by the beginnings of names. Anybody who sees the dashboard reads a job's variables:
# one that is not known to be harmless stays at home.
_PASSED = (
    *("R2D2_", "CUDA_", "GLOO_", "MKL_", "NCCL_", "OMP_", "PYTHON", "PYTORCH_", "TORCH_", "TORCHINDUCTOR_"),
    *("RAY_", "MLFLOW_TRACKING_URI", "MLFLOW_S3_ENDPOINT_URL", "MLFLOW_HTTP_REQUEST_", "MLFLOW_EXPERIMENT_"),
    *("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_CA_BUNDLE"),
)
_SECRET = re.compile(r"SECRET|PASS|TOKEN|KEY|PRIVATE|CREDENTIAL|COOKIE|NOTIFY|AUTH(?!_MODE$)")


def copy_code(folder: Path, sweep: str) -> str:
    """Copies the running code, as it is now, committed or not, into an empty folder.

    Args:
        folder: exists, and is empty.
        sweep: a sweep's name, or the path of its file, which is copied too; empty: none.

    Returns:
        What the sweep is called in the copy: its name, or the path of its file from `folder`.

    Raises:
        ValueError: if the sweep's file is missing.
    """
    root = Path(__file__).resolve().parents[2]
    for package in PACKAGES:
        shutil.copytree(root / package, folder / package, ignore=_not_code)
    (folder / VERSION_FILE).write_text(code_version() + "\n", encoding="utf-8")
    describe_copy(folder)
    if not sweep.endswith(".py"):
        return sweep
    if not Path(sweep).is_file():
        raise ValueError(f"there is no file '{sweep}'; give the path of a .py file that defines a sweep")
    own = folder / OWN_SWEEPS / Path(sweep).name
    own.parent.mkdir()
    shutil.copyfile(sweep, own)
    return own.relative_to(folder).as_posix()


def _not_code(folder: str, names: list[str]) -> list[str]:
    """Returns the files and folders of a package that stay here: all but code, such as `.env` or keys."""
    kept = {name for name in names if Path(name).suffix in SUFFIXES and not name.startswith(".")}
    folders = {name for name in names if Path(folder, name).is_dir() and not name.startswith((".", "__"))}
    return [name for name in names if name not in kept | folders]


def refuse_secrets(variables: Mapping[str, str]) -> None:
    """Refuses variables that are, or may be, secrets: whoever sees the cluster's dashboard could read them.

    Raises:
        ValueError: if a name is not among those that a job may be given or says that it is a secret, or if a
            value is a URL with a user or a query, which may be a token.
    """
    for name, value in variables.items():
        elsewhere = (
            "a job's variables can be read by anybody who sees the cluster's dashboard; set it on the "
            "cluster's nodes instead"
        )
        if _SECRET.search(name.upper()) or _holds_a_secret(value):
            raise ValueError(f"{name} holds a secret, and {elsewhere}")
        if not name.upper().startswith(_PASSED):
            known = ", ".join(sorted(f"{one}*" if one.endswith("_") else one for one in _PASSED))
            raise ValueError(f"{name} may be a secret, and {elsewhere}. A job may be given {known}")


def _holds_a_secret(value: str) -> bool:
    """Says whether a URL within the value has a user or a query."""
    return any(
        "@" in url.partition("/")[0] or "?" in url for url in re.findall(r"[\w.+-]+://([^\s,;]*)", value)
    )
