"""The soak's invariants see each kind of violation: planted in an outcome, it is found."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from invariants import KEPT, LISTED, TRAINED, Outcome, Run, Writings, violations

from r2d2.storage.location import store_at
from runner.record.checkpoints import upload_checkpoint
from runner.record.history import History, Record, put_json
from runner.record.layout import SNAPSHOT
from runner.trial.storage import StoreFiles

INF = float("inf")
LOSS, SCORE = ("train/loss_total", 1, 0.5), ("validation/mma_3px", 1, 0.25)
GOOD = Outcome(
    endings={"a": "complete"},
    events={"a": [(1, "train", {"train/loss_total": 0.5}, None), (1, "validation", {}, ("pair",))]},
    table=[("a", 0.25)],
    figures={"a": {LOSS: 1, SCORE: 1}, "summary": {}},
    runs=[("a", Run("FINISHED", {LOSS: 1, SCORE: 1})), ("summary", Run("FINISHED", {}))],
    written=[
        ("a", KEPT, (1, 3)),
        ("a", LISTED, (1, 3)),
        ("a", KEPT, (1, 6)),
        # Its driver was killed before Ray Train knew it.
        ("a", KEPT, (1, 6)),
        ("a", LISTED, (1, 6)),
        ("a", TRAINED, (1, INF)),
        ("a", KEPT, (1, INF)),
        ("a", LISTED, (1, INF)),
    ],
)
TRAINING, SCORED = GOOD.events["a"]


def test_a_good_outcome_has_none():
    assert violations(GOOD, GOOD) == []


PLANTED = {
    "a trial never began": {"endings": {}},
    "a trial too many": {"endings": {"a": "complete", "b": "complete"}},
    "a trial failed": {"endings": {"a": "failed: no room"}},
    "an epoch is missing": {"events": {"a": [SCORED]}},
    "a score is missing": {"events": {"a": [TRAINING]}},
    "a score is there twice": {"events": {"a": [TRAINING, SCORED, SCORED]}},
    "another loss": {"events": {"a": [(1, "train", {"train/loss_total": 0.5000000000000001}, None), SCORED]}},
    "another pair": {"events": {"a": [TRAINING, (1, "validation", {}, ("other",))]}},
    "another table": {"table": [("a", 0.26)]},
    "steps trained again": {"written": [*GOOD.written[:5], ("a", KEPT, (1, 3))]},
    "an epoch trained again": {"written": [*GOOD.written, ("a", TRAINED, (1, INF))]},
    "a step of a kept epoch trained again": {"written": [*GOOD.written, ("a", KEPT, (1, 6))]},
    "a training that was not seen": {"written": GOOD.written[:5]},
    "checkpoints that Ray Train never listed": {"written": [w for w in GOOD.written if w[1] != LISTED]},
    "no run": {"runs": GOOD.runs[1:]},
    "two runs": {"runs": [GOOD.runs[0], *GOOD.runs]},
    "a run of something else": {"runs": [*GOOD.runs, ("b", Run("FINISHED", {}))]},
    "a run that has not ended": {"runs": [("a", replace(GOOD.runs[0][1], status="RUNNING")), GOOD.runs[1]]},
    "a figure missing in MLflow": {"runs": [("a", Run("FINISHED", {LOSS: 1})), GOOD.runs[1]]},
    "a figure twice in MLflow": {"runs": [("a", Run("FINISHED", {LOSS: 2, SCORE: 1})), GOOD.runs[1]]},
    "another figure in MLflow": {
        "runs": [("a", Run("FINISHED", {LOSS: 1, (*SCORE[:2], 0.3): 1})), GOOD.runs[1]]
    },
    "no summary": {"runs": GOOD.runs[:1]},
    "a process runs": {"running": ["ray::Evaluator"]},
    "a file is left": {"left": ["tmp123"]},
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_each_violation_is_found(planted):
    assert violations(replace(GOOD, **planted), GOOD)


def test_what_trainings_keep_is_seen_on_its_way_to_s3(s3, proxy, tmp_path):
    proxy.done = follow = Writings()
    trial = store_at(s3.place("home/sweeps/soak/trials/a"))
    for name, content in (("weights.safetensors", b"1"), ("config.json", b"{}")):
        (tmp_path / name).write_bytes(content)
    put_json(trial, "config.json", {})
    upload_checkpoint(tmp_path, trial.below("train/checkpoint_001_step_000003"))
    listed = {"checkpoint_results": [{"checkpoint_dir_name": "checkpoint_001_step_000003"}]}
    folder = f"{trial.place.removeprefix('s3://')}/train"
    with StoreFiles(trial).open_output_stream(f"{folder}/{SNAPSHOT}", None) as stream:
        stream.write(json.dumps(listed).encode())
    History(trial.below("history")).write(Record(1, "train", {}, "train/checkpoint_001"))
    History(trial.below("history")).write(Record(1, "validation", {}, "train/checkpoint_001"))
    upload_checkpoint(tmp_path, trial.below("train/checkpoint_001"))
    assert follow.seen == [
        ("a", KEPT, (1, 3)),
        ("a", LISTED, (1, 3)),
        ("a", TRAINED, (1, INF)),
        ("a", KEPT, (1, INF)),
    ]
