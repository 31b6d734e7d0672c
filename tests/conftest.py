"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"

# Whether this is one of several processes that run tests.
IN_PARALLEL = "PYTEST_XDIST_WORKER" in os.environ

pytest_plugins = ["s3_server", "mlflow_server"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts first what starts Ray: it waits for processes, while another process of pytest runs the rest.

    Tests marked `gpu` are skipped where PyTorch can use none.
    """
    items.sort(key=lambda item: item.get_closest_marker("cluster") is None)
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu") is not None:
                item.add_marker(pytest.mark.skip(reason="needs a GPU, and there is none"))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("numprocesses", None) and not IN_PARALLEL:
        config.pluginmanager.register(FileNames(config.pluginmanager.getplugin("terminalreporter")))


class FileNames:
    """Names each file whose tests begin: of tests in several processes pytest itself prints dots alone."""

    def __init__(self, reporter: pytest.TerminalReporter) -> None:
        self._reporter, self._begun = reporter, set[str]()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        file = nodeid.partition("::")[0]
        if file not in self._begun:
            self._begun.add(file)
            self._reporter.write(f"\n{file} ")


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
def few_threads() -> None:
    """Keeps the timing of tests alike on machines with many cores: two threads, or one of each process."""
    torch.set_num_threads(1 if IN_PARALLEL else min(2, torch.get_num_threads()))


@pytest.fixture(autouse=True, scope="session")
def own_configuration(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps what a user's configuration remembers, such as trusted sweep files, out of the user's own."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("configuration"))
