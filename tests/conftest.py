"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"

pytest_plugins = ["s3_server", "mlflow_server"]


@pytest.fixture(scope="session")
def golden():
    """Loads `tests/golden/NAME.npz` as a dictionary of arrays."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(ROOT / "tests" / "golden" / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real benchmarks and released networks; the test is skipped without it."""
    if not SHARED.is_dir():
        pytest.skip(
            "needs ../shared (real benchmark sequences, photos and released networks), which is not here"
        )
    return SHARED


@pytest.fixture(autouse=True, scope="session")
def two_threads() -> None:
    """Keeps the timing of tests alike on machines with many cores."""
    torch.set_num_threads(min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True, scope="session")
def own_configuration(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps what a user's configuration remembers, such as trusted sweep files, out of the user's own."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("configuration"))
