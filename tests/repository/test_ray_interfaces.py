"""What is used of Ray beyond its stable interface has the names and arguments that the code relies on."""

import ast
import inspect
from pathlib import Path

import pytest
import ray
import ray.train
from ray.train.collective import broadcast_from_rank_zero
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.tune.utils import flatten_dict
from ray.tune.utils.util import unflatten_dict
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from runner.cluster import ray_internals

ROOT = Path(__file__).parents[2]
SOURCES = [
    path for name in ("runner", "r2d2", "evaluation", "search_spaces") for path in (ROOT / name).rglob("*.py")
]


def private_imports(path: Path) -> list[str]:
    """The modules and names with a leading underscore that a file imports."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found += [
            name
            for name in names
            if any(part.startswith("_") and not part.startswith("__") for part in name.split("."))
        ]
    return found


def test_one_file_alone_imports_private_modules():
    found = {str(path.relative_to(ROOT)): private_imports(path) for path in SOURCES}
    assert {path: names for path, names in found.items() if names} == {
        "runner/cluster/ray_internals.py": [
            "ray._private.state.state",
            "ray.train.v2._internal.exceptions.WorkerHealthCheckFailedError",
            "ray.train.v2._internal.exceptions.WorkerHealthCheckTimeoutError",
        ]
    }


def test_the_private_parts_of_ray_are_as_they_were():
    assert list(inspect.signature(ray_internals.state.get_draining_nodes).parameters) == []
    lost = ray.exceptions.RayActorError()
    wrapped = ray_internals.WorkerHealthCheckFailedError("no answer", lost)
    assert ray_internals.unwrapped(wrapped) is lost
    assert ray_internals.unwrapped(lost) is lost
    assert issubclass(ray_internals.NoAnswer, Exception)
    assert "no answer" in str(ray_internals.NoAnswer("no answer"))


# Interfaces that Ray calls alpha, or meant for developers, with the arguments that are used here.
UNSTABLE = [
    (
        DataParallelTrainer,
        ("train_loop_per_worker", "train_loop_config", "scaling_config", "run_config", "validation_config"),
    ),
    (ray.train.ValidationConfig, ("fn", "ray_remote_kwargs")),
    (ray.train.ValidationTaskConfig, ("fn_kwargs",)),
    (
        ray.train.report,
        ("metrics", "checkpoint", "checkpoint_dir_name", "checkpoint_upload_fn", "validation"),
    ),
    (
        ray.train.ScalingConfig,
        ("num_workers", "use_gpu", "resources_per_worker", "placement_strategy", "label_selector"),
    ),
    (ray.train.WorkerGroupError, ("error_message", "worker_failures")),
    (ray.train.ControllerError, ("controller_failure",)),
    (ray.train.get_preemption_info, ()),
    (broadcast_from_rank_zero, ("data",)),
    (PlacementGroup, ("id",)),
    (remove_placement_group, ("placement_group",)),
    # Tune passes arguments of its own factory on to it.
    (placement_group, ("bundles", "bundle_label_selector")),
    (ray.PlacementGroupID, ()),
    (flatten_dict, ("dt",)),
    (unflatten_dict, ("dt",)),
]


@pytest.mark.parametrize(("called", "arguments"), UNSTABLE, ids=lambda value: getattr(value, "__name__", ""))
def test_interfaces_that_may_change_take_what_they_are_given(called, arguments):
    assert callable(called)
    if arguments:
        assert set(arguments) <= set(inspect.signature(called).parameters)


def test_what_ray_train_raises_holds_what_befell_workers():
    fault = ValueError("damaged")
    assert ray.train.WorkerGroupError("a worker stopped", {0: fault}).worker_failures == {0: fault}
    assert ray.train.ControllerError(fault).controller_failure is fault
