"""A local MLflow store that all tests share, scores to put into it, and validation benchmarks made once."""

from __future__ import annotations

import importlib
import shutil
import warnings

import numpy as np
import pytest
import sqlalchemy.orm

# MLflow warns of itself when it is first imported and its tables are first mapped. That is done here, so that
# every other warning can be an error.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
    warnings.filterwarnings("ignore", "The ``noload`` loader strategy is deprecated", DeprecationWarning)
    importlib.import_module("mlflow.pyfunc")
    importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
    sqlalchemy.orm.configure_mappers()


@pytest.fixture(autouse=True, scope="session")
def validation_benchmarks(tmp_path_factory):
    """Gives a sweep a copy of the benchmark that a former test's sweep made of the same photographs.

    Making one takes seconds; `tests/evaluation` tests how it is made.
    """
    import runner.benchmarks

    build, built = runner.benchmarks.build_validation_benchmark, {}

    def build_or_copy(photos, folder, seed=0):
        key, new = (photos.digest, seed), not folder.exists()
        if new and key in built:
            shutil.copytree(built[key], folder)
        build(photos, folder, seed)
        if new and key not in built:
            built[key] = shutil.copytree(folder, tmp_path_factory.mktemp("validation") / "benchmark")
        return folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.benchmarks, "build_validation_benchmark", build_or_copy)
        yield


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """The folder of the shared store."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="session")
def tracking_uri(store):
    return f"sqlite:///{store / 'mlflow.db'}"


@pytest.fixture(scope="session")
def tracker(store, tracking_uri):
    from runner.tracking.experiments import Tracker

    return Tracker(tracking_uri, str(store / "artifacts"))


@pytest.fixture
def experiment(tracker, request):
    """The id of an experiment of this test alone; its name is the test's."""
    return tracker.open_experiment(request.node.name)


@pytest.fixture
def make_evaluation():
    """Makes scores of two pairs: the share of matches within t pixels is `t / 20 + bonus`."""
    from evaluation.evaluation import Evaluation, PairScore, Timings
    from evaluation.pictures.examples import MatchExample
    from evaluation.protocols import PROTOCOLS
    from r2d2.collapse import CollapseSigns

    shares = np.arange(1, 16) / 20
    image = np.full((48, 64, 3), 128, np.uint8)
    points = np.array([[10, 10], [40, 20]], np.float32)
    example = MatchExample(
        "i_one", 2, image, image, points, points, np.array([[0, 0], [1, 1]]), np.array([0.5, 9.0])
    )

    def make(bonus: float = 0.0, digest: str = "d" * 64, protocol: str = "validation") -> Evaluation:
        pairs = (
            PairScore("i_one", "illumination", 2, 100, 90, 50, tuple(shares + bonus)),
            PairScore("v_two", "viewpoint", 3, 100, 80, 40, tuple(shares + bonus)),
        )
        return Evaluation(
            model="network",
            model_digest="m" * 64,
            protocol=PROTOCOLS[protocol],
            benchmark="held-out",
            benchmark_digest=digest,
            pairs=pairs,
            timings=Timings(1.0, 0.5),
            collapse=CollapseSigns(0.1, 0.5),
            examples=(example, example),
        )

    return make
