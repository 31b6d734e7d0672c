"""Scores checkpoints in Ray actors: a pool takes a checkpoint's URI and returns its table and some maps.

Each evaluator keeps the benchmark's images in memory. An evaluator that dies is restarted by Ray, one that
has lost its GPU is replaced, and the checkpoint it was scoring is scored again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import ray

from r2d2.storage.cache import CacheSettings
from r2d2.storage.errors import full_disk_of

if TYPE_CHECKING:
    import torch

    from evaluation.evaluation import Evaluation
    from evaluation.pictures.maps import ImageMaps

ATTEMPTS = 3
EXAMPLES = 2


@dataclass(frozen=True)
class BenchmarkSpec:
    """A BenchmarkSpec names a benchmark that checkpoints are scored on.

    Attributes:
        role: prefix of its metrics, e.g. `validation` or `hpatches`.
        folder: in HPatches' layout, readable from every node that holds an evaluator; or
            `s3://bucket/prefix`.
        protocol: a key of `evaluation.protocols.PROTOCOLS`.
        cache: where each node keeps what is on S3.
    """

    role: str
    folder: str
    protocol: str
    cache: CacheSettings | None = None


@dataclass(frozen=True)
class EvaluatorResources:
    """An EvaluatorResources says how many evaluators there are, and what each asks of the cluster.

    Attributes:
        number: 1 or more.
        num_cpus, num_gpus: of each, 0 or more.
        labels: Ray's label selector of the nodes that they may run on; empty: any node.
    """

    number: int = 1
    num_cpus: float = 0.0
    num_gpus: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.number < 1:
            raise ValueError(f"the number of evaluation actors is {self.number}; it must be at least 1")
        if min(self.num_cpus, self.num_gpus) < 0:
            raise ValueError("an evaluation actor cannot ask for less than 0 CPUs or GPUs")

    @property
    def threads(self) -> int:
        """Returns an evaluator's threads: one per CPU that it asks for, at least one."""
        return max(1, int(self.num_cpus))


@dataclass(frozen=True)
class ScoredCheckpoint:
    """A ScoredCheckpoint holds the scores of a checkpoint on a benchmark as they are stored, without torch.

    Attributes:
        table: the evaluation as JSON, see `Evaluation.from_json`.
        examples: two pairs with their images and matches, see `unpack_examples`.
        maps: what the network sees in two images, the same ones for every checkpoint, see `unpack_maps`.
    """

    table: Mapping[str, Any]
    examples: bytes
    maps: bytes

    @classmethod
    def of(cls, evaluation: Evaluation, maps: Sequence[ImageMaps]) -> ScoredCheckpoint:
        """Packs a table and maps."""
        from evaluation.pictures.examples import pack_examples
        from evaluation.pictures.maps import pack_maps

        return cls(evaluation.to_json(), pack_examples(evaluation.examples), pack_maps(tuple(maps)))

    @property
    def scalars(self) -> dict[str, float]:
        """Returns the figures that the table sums up, as of `Evaluation.scalars`."""
        return {key: value for key, value in self.table["summary"].items() if key != "mma"}


class BrokenGPU(RuntimeError):  # noqa: N818 - it says what happened
    """Says that an evaluator's process cannot use its GPU any more; another process can."""


def reserved_device() -> str:
    """Returns `cuda` if Ray reserved a GPU, or a part of one, for the calling process, else `cpu`."""
    return "cuda" if ray.get_runtime_context().get_accelerator_ids().get("GPU") else "cpu"


class Evaluator:
    """Scores checkpoints, one after the other. Benchmarks are opened when first needed."""

    def __init__(self, benchmarks: tuple[BenchmarkSpec, ...], threads: int = 1, gpus: float = 0.0) -> None:
        import torch

        from evaluation.predictions.images import ImageStore
        from r2d2.processor.allocator import keep_memory
        from r2d2.processor.memory import limit_memory

        self._device = torch.device(reserved_device())
        if self._device.type == "cpu":
            keep_memory()
        limit_memory(gpus, self._device)
        # Evaluators with more threads than processors between them spend their time waiting for each other.
        torch.set_num_threads(threads)
        self._specs = {spec.role: spec for spec in benchmarks}
        self._benchmarks: dict[str, Any] = {}
        self._images = ImageStore()

    def is_alive(self) -> bool:
        """Returns True: any answer shows that the evaluator lives."""
        return True

    def score(self, source: str, role: str) -> ScoredCheckpoint:
        """Scores the model `source` (checkpoint folder, upstream .pt) on the benchmark `role`.

        Raises:
            DiskFull: if a disk of this node has no room for what must be fetched.
            BrokenGPU: if this process must be replaced.
        """
        with full_disk_of(ray.util.get_node_ip_address()), _gpu_shared(self._device):  # type: ignore[no-untyped-call]
            return self._score(source, role)

    def _score(self, source: str, role: str) -> ScoredCheckpoint:
        from evaluation.benchmarks.hpatches import open_benchmark
        from evaluation.evaluator import PROTOCOLS, evaluate
        from evaluation.pictures.maps import example_maps
        from r2d2.checkpoint import load_model
        from r2d2.storage.location import fetched
        from r2d2.storage.s3 import TIMEOUT

        spec = self._specs[role]
        if role not in self._benchmarks:
            self._benchmarks[role] = open_benchmark(spec.folder, spec.cache)
        # A checkpoint is scored once: no cache keeps it.
        with fetched(source, TIMEOUT if spec.cache is None else spec.cache.timeout) as path:
            model = load_model(path)
        model.network.to(self._device)
        benchmark, protocol = self._benchmarks[role], PROTOCOLS[spec.protocol]
        evaluation = evaluate(model, benchmark, protocol, examples=EXAMPLES, images=self._images)
        return ScoredCheckpoint.of(evaluation, example_maps(model.network, evaluation.examples))


@contextmanager
def _gpu_shared(device: torch.device) -> Iterator[None]:
    """Gives back what PyTorch keeps of a GPU when the work is done, for who else has a part of it.

    Raises:
        BrokenGPU: if after an error the GPU does not answer: every later call of this process would fail too.
    """
    if device.type != "cuda":
        yield
        return
    import torch

    try:
        yield
    except RuntimeError as error:
        try:
            torch.cuda.synchronize(device)
        except RuntimeError:
            raise BrokenGPU(f"the GPU does not answer this process any more: {error}") from error
        raise
    finally:
        # In a broken process this fails as well.
        with suppress(RuntimeError):
            torch.cuda.empty_cache()


class EvaluatorPool:
    """Hands each checkpoint to an idle evaluator; one that dies is restarted and asked again."""

    def __init__(self, benchmarks: tuple[BenchmarkSpec, ...], resources: EvaluatorResources) -> None:
        self._benchmarks, self._resources = benchmarks, resources
        self._idle: asyncio.Queue[Any] = asyncio.Queue()
        for _ in range(resources.number):
            self._idle.put_nowait(self._start_evaluator())

    async def score(self, source: str, role: str) -> ScoredCheckpoint:
        """Has a checkpoint scored on one benchmark.

        Raises:
            RuntimeError: if `ATTEMPTS` evaluators died over this checkpoint, or before they could be asked.
            ray.exceptions.RayTaskError: what the evaluator raised, e.g. for a damaged checkpoint.
        """
        evaluator, last, attempts = await self._idle.get(), None, 0
        try:
            while attempts < ATTEMPTS:
                try:
                    # Waits for an evaluator that is being restarted, for as long as that takes. If Ray
                    # retried the scoring itself, it would use up all attempts in the seconds in which an
                    # evaluator cannot be reached and its node has not been missed.
                    await evaluator.is_alive.options(max_task_retries=-1).remote()
                    scored: ScoredCheckpoint = await evaluator.score.remote(source, role)
                    return scored
                except BrokenGPU as error:
                    ray.kill(evaluator)
                    evaluator, last, attempts = self._start_evaluator(), _cause(error), attempts + 1
                except ray.exceptions.ActorDiedError as error:
                    # Perhaps for good, as when it could not be started: a dead one is idle before all others.
                    evaluator, last, attempts = self._start_evaluator(), str(error), attempts + 1
                except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
                    last, attempts = str(error), attempts + 1
            raise RuntimeError(f"{ATTEMPTS} evaluation actors died while scoring {source} on {role}: {last}")
        finally:
            self._idle.put_nowait(evaluator)

    def _start_evaluator(self) -> Any:
        asked = self._resources
        evaluator: Any = ray.remote(Evaluator)
        started = evaluator.options(
            num_cpus=asked.num_cpus,
            num_gpus=asked.num_gpus,
            label_selector=dict(asked.labels),
            max_restarts=-1,
        )
        return started.remote(self._benchmarks, asked.threads, asked.num_gpus)


def _cause(error: Exception) -> str:
    """Returns what an evaluator raised, without the traceback of its process."""
    return str(getattr(error, "cause", error))


def start_pool(
    benchmarks: tuple[BenchmarkSpec, ...], resources: EvaluatorResources, where: Any = "DEFAULT"
) -> Any:
    """Starts the pool and returns its actor handle; the pool ends with the process that started it.

    Args:
        benchmarks: what checkpoints are scored on.
        resources: how many evaluators there are, and what each asks for.
        where: Ray's scheduling strategy of the pool itself; by default it may lie on any node, and with that
            node all that is being scored is lost and scored anew.
    """
    pool = ray.remote(EvaluatorPool).options(
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=1000,
        scheduling_strategy=where,
    )
    return pool.remote(benchmarks, resources)
