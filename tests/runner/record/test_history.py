"""A history tells every event once, in order, and never half of one."""

import pytest

from runner.record.history import TRAIN, History, Record
from runner.record.incidents import incidents


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "history")


def test_events_come_by_epoch_and_training_before_its_scores(history):
    for epoch, kind in [(2, TRAIN), (1, "validation"), (1, "hpatches"), (1, TRAIN)]:
        history.write(Record(epoch, kind, {"x": 1.0}, "uri"))
    assert [(r.epoch, r.kind) for r in history.records()] == [
        (1, TRAIN),
        (1, "hpatches"),
        (1, "validation"),
        (2, TRAIN),
    ]


def test_an_event_comes_back_as_it_was_written(history):
    record = Record(
        3, "validation", {"validation/mma_3px": 0.5}, "uri", evaluation="table_003.validation.json"
    )
    history.write(record)
    assert history.find(3, "validation") == record
    assert history.find(4, "validation") is None


def test_the_same_event_of_a_later_attempt_replaces_the_first(history):
    history.write(Record(1, TRAIN, {"x": 1.0}, "uri"))
    history.write(Record(1, TRAIN, {"x": 2.0}, "uri"))
    assert [r.metrics for r in history.records()] == [{"x": 2.0}]


def test_following_tells_the_past_then_the_present_each_once(history):
    history.write(Record(1, TRAIN, {}, "uri"))
    asked = 0

    def finished() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:
            history.write(Record(1, "validation", {}, "uri"))
        return asked == 3

    told = [(r.epoch, r.kind) for r in history.follow(finished, interval=0)]
    assert told == [(1, TRAIN), (1, "validation")]


def test_a_score_that_failed_and_then_succeeded_is_told_both_times(history):
    history.write(Record(1, "validation", {}, "uri", error="the evaluator died"))
    asked = 0

    def finished() -> bool:
        nonlocal asked
        asked += 1
        if asked == 2:
            history.write(Record(1, "validation", {"validation/mma_3px": 0.5}, "uri"))
        return asked == 3

    told = [(r.error, dict(r.metrics)) for r in history.follow(finished, interval=0)]
    assert told == [("the evaluator died", {}), (None, {"validation/mma_3px": 0.5})]


def test_an_event_written_just_before_the_end_is_told(history):
    def finished() -> bool:
        history.write(Record(1, TRAIN, {}, "uri"))
        return True

    assert [r.epoch for r in history.follow(finished, interval=0)] == [1]


def test_half_written_and_foreign_files_are_not_events(history):
    history.write(Record(1, TRAIN, {}, "uri"))
    (history.folder / ".epoch_002.train.json.123.tmp").write_text("{")
    (history.folder / "table_001.validation.json").write_text("{}")
    assert [r.epoch for r in history.records()] == [1]


@pytest.mark.parametrize(
    "name", ["epoch_001.train.json", "stopped.json", "failed.json", "incident_1.lost.json"]
)
@pytest.mark.parametrize("content", ["[" * 100_000, "3", '{"epoch": [], "kind": 3}', "null"])
def test_a_hostile_event_is_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    history = History(tmp_path)
    with pytest.raises(ValueError, match=rf"{name} is damaged"):
        _ = (history.records(), history.stopped_after, history.failure, incidents(history))
