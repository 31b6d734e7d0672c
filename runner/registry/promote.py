"""Promotes the best checkpoint to champion, if it is shown to be better than the present one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from r2d2.checkpoint import Checkpoint, load_checkpoint
from r2d2.storage.scratch import scratch_folder
from runner.registry.aliases import CHAMPION, FORCED, move_alias, version_by_alias
from runner.registry.package import local_checkpoint, save_package
from runner.tracking.experiments import Tracker
from runner.tracking.run import BEST_CHECKPOINT, BEST_EPOCH, LoggedRun, dataset_tag, protocol_tag
from runner.tracking.store import as_tracking_error

REGISTERED_NAME = "r2d2"
TRIAL = "trial"


@dataclass(frozen=True)
class Candidate:
    """A Candidate is a run's best checkpoint, with all that its promotion depends on.

    Attributes:
        checkpoint: what lies in `folder`.
        score: in its sweep, of the epoch that is its best.
        metric: the metric that chose it, with its role.
        chosen_from: how many checkpoints of its sweep were scored, of which it may be the best.
        tags: of its model version.
    """

    run: LoggedRun
    epoch: int
    folder: Path
    checkpoint: Checkpoint
    score: float
    metric: str
    chosen_from: int
    tags: Mapping[str, str]


@dataclass(frozen=True)
class PromotionVerdict:
    """A PromotionVerdict says whether a checkpoint may become the champion.

    Attributes:
        passed: whether it may.
        reason: half a sentence.
        tags: of the model version: what was measured.
        is_unsure: whether more photographs might show that the candidate is better.
    """

    passed: bool
    reason: str
    tags: Mapping[str, str] = field(default_factory=dict)
    is_unsure: bool = False


@dataclass(frozen=True)
class Promotion:
    """A Promotion says how a promotion ended.

    Attributes:
        promoted: whether the alias was moved.
        version: the candidate's model version; None if it has none.
        reason: half a sentence.
        run: the candidate's.
        score: the candidate's, in its sweep.
        is_champion: whether it holds the alias now.
        is_unsure: whether more photographs might show that it is better.
    """

    promoted: bool
    version: int | None
    reason: str
    run: LoggedRun
    score: float
    is_champion: bool
    is_unsure: bool = False


def best_run(tracker: Tracker, experiment: str, metric: str, mode: str = "max") -> LoggedRun:
    """Finds the trial of a sweep whose best checkpoint has the best score.

    Raises:
        ValueError: if there is no such sweep, or no trial of it has a scored checkpoint.
    """
    runs = [r for r in _trials(tracker, experiment) if BEST_CHECKPOINT in r.tags]
    scores = {r.run_id: score for r in runs if (score := _score(tracker, r, metric)) is not None}
    if not scores:
        known = sorted({name for run in runs for name in run.metrics})
        names = ", ".join(known) or "none"
        raise ValueError(f"no trial of '{experiment}' has a checkpoint with '{metric}'; metrics: {names}")
    sign = 1 if mode == "max" else -1
    return max((r for r in runs if r.run_id in scores), key=lambda r: sign * scores[r.run_id])


@as_tracking_error()
def promote(
    tracker: Tracker,
    run: LoggedRun,
    rule: Callable[[Candidate, ModelVersion | None], PromotionVerdict],
    metric: str = "validation/mma_3px",
    *,
    name: str = REGISTERED_NAME,
    alias: str = CHAMPION,
    force: bool = False,
) -> Promotion:
    """Makes a run's best checkpoint the champion, if the rule lets it pass.

    Only a promoted checkpoint becomes a model version, and only once: the versions are the champions so far,
    and an earlier one can be promoted again.

    Args:
        tracker: the store of the run and the registry.
        run: the candidate's.
        rule: compares the candidate with the present champion, if there is one.
        metric: what chose the candidate.
        name: of the registered model.
        alias: given to the winner; who held it is `previous` then.
        force: promotes the candidate whatever the rule says; what it said becomes the tag `forced`.

    Raises:
        ValueError: if the run has no checkpoint with that score, or it cannot be read.
    """
    candidate = _candidate(tracker, run, metric)
    champion = version_by_alias(tracker, name, alias)
    version = _version_of(tracker, name, candidate)
    if champion is not None and version == int(champion.version):
        return Promotion(False, version, f"it is the {alias} already", run, candidate.score, True)
    verdict = rule(candidate, champion)
    if not (verdict.passed or force):
        return Promotion(False, version, verdict.reason, run, candidate.score, False, verdict.is_unsure)
    tags = {**candidate.tags, **verdict.tags}
    reason = verdict.reason
    if not verdict.passed:
        tags[FORCED], reason = verdict.reason, f"forced, although {verdict.reason}"
    if version is None:
        version = _register(tracker, name, candidate, tags)
    else:
        _tag_again(tracker, name, version, tags)
    move_alias(tracker, name, alias, version, reason)
    return Promotion(True, version, reason, run, candidate.score, True)


def _tag_again(tracker: Tracker, name: str, version: int, tags: Mapping[str, str]) -> None:
    """Sets the tags of a version that was promoted before; it may have been forced then."""
    for key, value in tags.items():
        tracker.client.set_model_version_tag(name, str(version), key, value)
    if FORCED not in tags and FORCED in tracker.client.get_model_version(name, str(version)).tags:
        tracker.client.delete_model_version_tag(name, str(version), FORCED)


def _trials(tracker: Tracker, experiment: str) -> list[LoggedRun]:
    return [run for run in tracker.list_runs(experiment) if run.role == TRIAL]


def _candidate(tracker: Tracker, run: LoggedRun, metric: str) -> Candidate:
    if BEST_CHECKPOINT not in run.tags:
        raise ValueError(f"run '{run.name}' ({run.run_id}) has no checkpoint to promote")
    score = _score(tracker, run, metric)
    if score is None:
        known = ", ".join(sorted(run.metrics)) or "none"
        raise ValueError(f"the best checkpoint of run '{run.name}' has no '{metric}'; its metrics: {known}")
    folder = local_checkpoint(run.tags[BEST_CHECKPOINT], timeout=tracker.s3_timeout)
    checkpoint = load_checkpoint(folder)
    role = metric.partition("/")[0]
    tags = {
        "metric": metric,
        "score": repr(score),
        "training_digest": run.tags.get(dataset_tag("training"), ""),
        "benchmark_digest": run.tags.get(dataset_tag(role), ""),
        "protocol": run.tags.get(protocol_tag(role), ""),
        "protocol_digest": run.tags.get(f"{protocol_tag(role)}.digest", ""),
        "run_id": run.run_id,
        "epoch": str(checkpoint.epoch),
        "code_version": checkpoint.code_version,
        "model_digest": checkpoint.digest,
    }
    epoch, count = int(run.tags[BEST_EPOCH]), _scored_checkpoints(tracker, run, metric)
    return Candidate(run, epoch, folder, checkpoint, score, metric, count, tags)


def _scored_checkpoints(tracker: Tracker, run: LoggedRun, metric: str) -> int:
    """Counts the scored checkpoints of a run's sweep: any of them might have been the best."""
    experiment = tracker.client.get_experiment(run.experiment_id).name
    runs = {each.run_id for each in _trials(tracker, experiment)} | {run.run_id}
    return sum(len(tracker.metric_history(run_id, metric)) for run_id in runs)


def _score(tracker: Tracker, run: LoggedRun, metric: str) -> float | None:
    score = tracker.metric_history(run.run_id, metric).get(int(run.tags[BEST_EPOCH]), math.nan)
    return None if math.isnan(score) else score


def _version_of(tracker: Tracker, name: str, candidate: Candidate) -> int | None:
    found = tracker.client.search_model_versions(f"name = '{name}' and run_id = '{candidate.run.run_id}'")
    same = [int(v.version) for v in found if v.tags.get("model_digest") == candidate.tags["model_digest"]]
    return max(same, default=None)


def _register(tracker: Tracker, name: str, candidate: Candidate, tags: Mapping[str, str]) -> int:
    client, run = tracker.client, candidate.run
    model = _logged_model(tracker, candidate)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    # By location: MLflow's SQL store would look for models:/ID in the process's global store, not in this.
    version = client.create_model_version(
        name,
        model.artifact_location,
        run_id=run.run_id,
        tags=dict(tags),
        description=f"Epoch {candidate.epoch} of {run.name}; {tags['metric']} {candidate.score:.4f}",
        model_id=model.model_id,
    )
    link = json.dumps([{"name": name, "version": int(version.version)}])
    client.set_logged_model_tags(model.model_id, {MLFLOW_MODEL_VERSIONS: link})
    return int(version.version)


def _logged_model(tracker: Tracker, candidate: Candidate) -> LoggedModel:
    """Logs the candidate as an MLflow model; uses or removes one that an interrupted promotion left."""
    client, run, digest = tracker.client, candidate.run, candidate.tags["model_digest"]
    for model in client.search_logged_models([run.experiment_id], f"source_run_id = '{run.run_id}'"):
        if model.tags.get("model_digest") == digest:
            if model.status == LoggedModelStatus.READY:
                return model
            client.delete_logged_model(model.model_id)
    title = re.sub(r"[^\w+-]", "_", f"{run.key}-epoch-{candidate.epoch}")
    model = client.create_logged_model(run.experiment_id, title, run.run_id, {"model_digest": digest})
    try:
        with scratch_folder() as scratch:
            package = scratch / "model"
            header = Model(
                artifact_path=model.artifact_location,
                run_id=run.run_id,
                model_uuid=model.model_id,
                model_id=model.model_id,
            )
            save_package(candidate.folder, package, header)
            client.log_model_artifacts(model.model_id, str(package))
    except BaseException:
        client.delete_logged_model(model.model_id)
        raise
    client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, candidate.epoch)])
    return client.finalize_logged_model(model.model_id, "READY")
