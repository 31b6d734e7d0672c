"""Starts Ray or joins a cluster, and says how many trials fit into it."""

from __future__ import annotations

import gc
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from evaluation.actor import EvaluatorResources
from r2d2.config import TrainConfig
from runner.cluster.labels import in_words, is_selected
from runner.cluster.processors import usable_cpus
from runner.cluster.ray_faults import OWN, make_token_folder, plain_faults, refuse_dashboard
from runner.cluster.resources import WorkerResources, counted, left, workers_on
from search_spaces.sweep import Trial, home_folder

_ONE_HEAP = "MALLOC_ARENA_MAX"
_NO_GPU = "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"

# Ray Train looks at its workers every 2 s by default, which a trial of seconds notices.
# Ray warns of processes for actors that ask for no CPU, as if they were a mistake: ours wait, and are meant.
# Tune writes down where all trials stand, over and over; nobody reads it: the histories are the truth.
# Threads share a heap, so that a worker can keep the memory of large tensors, see `r2d2.processor.allocator`.
# A process that asked for no GPU sees none: Ray 2.60 lets it see all of them unless told.
# Tune insists on the sweep's metric in every report unless told otherwise; losses come without a score.
ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    _ONE_HEAP: "1",
    _NO_GPU: "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_worker_maximum_startup_concurrency": "16",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
}

# Of these, what the processes of a cluster that is joined must have from the start.
_FOR_PROCESSES = {name: ENVIRONMENT[name] for name in (_ONE_HEAP, _NO_GPU)}

ANSWER_WITHIN_S, PAGE_WITHIN_S = 5.0, 2.0

_ASKED_BY = (
    "lower num_workers, or what a worker asks for: --gpus-per-worker, and --cpus-per-worker, by default one "
    "and one for each of data.loader_processes"
)


@dataclass(frozen=True)
class Capacity:
    """A Capacity says how many CPUs and GPUs a cluster has.

    Attributes:
        cpus, gpus: in all.
        nodes: what each node has, by Ray's names of resources; empty if that is not known.
        labels: of each node.
    """

    cpus: float
    gpus: float
    nodes: tuple[Mapping[str, float], ...] = ()
    labels: tuple[Mapping[str, str], ...] = ()

    def grown(self, cpus: float, gpus: float) -> Capacity:
        """Returns the capacity after the autoscaler has added all that it may: at least so many of each."""
        if cpus <= self.cpus and gpus <= self.gpus:
            return self
        return Capacity(max(self.cpus, cpus), max(self.gpus, gpus))

    def concurrent_trials(
        self,
        trials: tuple[Trial, ...],
        evaluators: EvaluatorResources,
        worker: WorkerResources,
        fewest: Callable[[int], int] = lambda workers: workers,
    ) -> int:
        """Returns how many trials can run at a time beside the evaluators; at least one if it fits at all.

        Args:
            trials: the largest of them counts.
            evaluators: all of them run all the time.
            worker: what each worker asks for.
            fewest: with how many workers a trial starts at least, by how many it shall have.

        Raises:
            ValueError: if the evaluators or a trial ask for more than there is.
        """
        self._require_evaluators(evaluators)
        cpus = left(self.cpus, evaluators.number, evaluators.num_cpus)
        gpus = left(self.gpus, evaluators.number, evaluators.num_gpus)
        for config in (trial.config for trial in trials):
            self._require_workers(fewest(config.num_workers), config, worker, cpus, gpus)
        fits = [self._room(worker, t.config, cpus, gpus) // t.config.num_workers for t in trials]
        return max(1, min(fits, default=1))

    def _room(self, worker: WorkerResources, config: TrainConfig, cpus: float, gpus: float) -> int:
        """Returns how many workers so many CPUs and GPUs of these nodes hold."""
        each = worker.of(config)
        room = workers_on({"CPU": cpus, "GPU": gpus}, each)
        return min(room, sum(workers_on(node, each) for node in self.nodes)) if self.nodes else room

    def _require_workers(
        self, workers: int, config: TrainConfig, worker: WorkerResources, cpus: float, gpus: float
    ) -> None:
        asked = f"a trial asks for {workers} worker{'s' * (workers > 1)} of {worker.describe(config)} each"
        for unit, each, there in (("CPU", worker.cpus_of(config), cpus), ("GPU", worker.gpus, gpus)):
            if left(there, workers, each) < 0:
                raise ValueError(
                    f"{asked}, but the cluster has {there:g} {unit}s beside the evaluation actors; "
                    f"{_ASKED_BY}"
                )
        if (room := self._room(worker, config, cpus, gpus)) < workers:
            raise ValueError(f"{asked}, but the cluster's nodes hold {room}; {_ASKED_BY}")

    def _require_evaluators(self, asked: EvaluatorResources) -> None:
        for unit, each, there in (
            ("CPU", asked.num_cpus, self.cpus),
            ("GPU", asked.num_gpus, self.gpus),
        ):
            if left(there, asked.number, each) < 0:
                raise ValueError(
                    f"the evaluation actors ask for {asked.number} times {each:g} {unit}s (--evaluators, "
                    f"--evaluator-{unit.lower()}s), but the cluster has {there:g} {unit}s"
                )
        if asked.labels and self.nodes:
            self._require_labelled(asked)

    def _require_labelled(self, asked: EvaluatorResources) -> None:
        """Refuses labels that no node has; an autoscaler's further nodes are not known (`grown`)."""
        each = {name: n for name, n in (("CPU", asked.num_cpus), ("GPU", asked.num_gpus)) if counted(n)}
        wanted = in_words(asked.labels)
        selected = [
            node
            for node, labels in zip(self.nodes, self.labels, strict=True)
            if is_selected(labels, asked.labels)
        ]
        if not selected:
            there = "; ".join(sorted(set(map(in_words, self.labels))))
            raise ValueError(
                f"no node has the labels of --evaluator-label ({wanted}); the nodes' labels are: {there}. "
                "Start such a node, or take the option back with --evaluator-label any"
            )
        room = sum(workers_on(node, each) for node in selected) if each else asked.number
        if room < asked.number:
            raise ValueError(
                f"the nodes with the labels of --evaluator-label ({wanted}) hold {room} of the "
                f"{asked.number} evaluation actors (--evaluators, --evaluator-cpus, --evaluator-gpus)"
            )


@contextmanager
def ray_cluster(address: str | None, verbose: bool) -> Iterator[Capacity]:
    """Joins the cluster at `address`, or starts one on this machine for as long as the context lasts.

    Args:
        address: of the cluster; `auto`: the one that runs on this machine; None or `local`: one
            of one's own, whatever else runs here.
        verbose: whether Ray's own messages and the workers' output are shown.

    Raises:
        ValueError: if Ray cannot be started, or the cluster not be joined; see `ray_faults`.
    """
    # Ray's own None joins whatever `ray start` left on this machine.
    address = address or OWN
    home_folder()
    if address == OWN:
        make_token_folder()
    else:
        _check_answers(address)
    # One actor less per trial: a machine of one's own gives no notice before it is taken away.
    own = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0"} if address == OWN else {}
    for name, value in {**ENVIRONMENT, **own}.items():
        os.environ.setdefault(name, value)
    import ray

    # What a trial failed of is said in one sentence by the sweep; the traceback comes with --verbose.
    level = logging.INFO if verbose else logging.CRITICAL
    try:
        # A cluster of our own has no dashboard, which costs seconds of start; a joined one keeps what it has.
        with plain_faults(address):
            ray.init(
                address=address,
                # Ray itself counts the machine's CPUs, though this process may be bound to fewer.
                num_cpus=usable_cpus() if address == OWN else None,
                log_to_driver=verbose,
                logging_level=level,
                include_dashboard=False if address == OWN else None,
                runtime_env=None if address == OWN else {"env_vars": _FOR_PROCESSES},
            )
            capacity = _capacity()
        for name in ("ray.tune", "ray.train"):
            logging.getLogger(name).setLevel(level)
        yield capacity
    finally:
        _leave(ray.shutdown)


def _capacity() -> Capacity:
    """Returns the capacity of the joined cluster."""
    import ray

    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return Capacity(
        resources.get("CPU", 0.0),
        resources.get("GPU", 0.0),
        tuple(node["Resources"] for node in nodes),
        tuple(node["Labels"] for node in nodes),
    )


def on_this_node() -> Any:
    """Returns Ray's scheduling strategy for this process's node only, since other nodes may leave earlier."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _leave(shutdown: Callable[[], None]) -> None:
    """Leaves the cluster while nothing else touches Ray.

    Tune leaves behind cyclic references to actors. If another thread, such as the reporter's, collects that
    garbage while Ray's worker is taken down, Ray ends the whole process.
    """
    gc.collect()
    gc.disable()
    try:
        shutdown()
    finally:
        gc.enable()


def _check_answers(address: str) -> None:
    """Connects once to HOST:PORT or ray://HOST:PORT; Ray itself would try again for minutes.

    Raises:
        ValueError: if nothing listens there, or a web server.
    """
    refuse_dashboard(address, b"")
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        # "auto", a host name that Ray completes: Ray answers for these at once.
        return
    try:
        answer = _asked_for_a_page(host.strip("[]"), int(port))
    except (OSError, OverflowError) as error:
        raise ValueError(f"no Ray cluster answers at {address}: {error}") from error
    refuse_dashboard(address, answer)


def _asked_for_a_page(host: str, port: int) -> bytes:
    """Returns the start of the answer to a request of HTTP/1; Ray, which speaks HTTP/2, answers otherwise."""
    with socket.create_connection((host, port), ANSWER_WITHIN_S) as connection:
        connection.settimeout(PAGE_WITHIN_S)
        try:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(5)
        except OSError:
            # Somebody is there and speaks something else.
            return b""
