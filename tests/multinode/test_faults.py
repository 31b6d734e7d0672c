"""What clusters do to a sweep, done for real: its table ends as that of an undisturbed one."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import pytest
from processes import title_of
from story import (
    DRIVER,
    SCORING,
    WORKER,
    Story,
    assert_nobody_is_left,
    former_processes,
    held,
    job_drivers,
    kill,
    wait_for,
)
from story import submitted as submitted_file

from runner.record.incidents import HANGING, LOST, PREEMPTED, RESIZED
from runner.settings import Settings
from runner.tracking.experiments import Tracker

pytestmark = [pytest.mark.multinode, pytest.mark.timeout(1500)]

submitted = partial(submitted_file, file=Path(__file__).with_name("faults.py"))


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory):
    with submitted(cluster, tmp_path_factory.mktemp("undisturbed"), "undisturbed") as story:
        pass
    return story


def assert_ended_like(story: Story, undisturbed: Story, *, exactly: bool = True) -> None:
    """The figures, MLflow's runs and steps, what was kept on disk, and that nobody is left."""
    ours, theirs = story.events(), undisturbed.events()
    assert ours.keys() == theirs.keys()
    for key, events in theirs.items():
        assert [event[:2] for event in ours[key]] == [event[:2] for event in events]
        for (_, _, mine), (_, _, expected) in zip(ours[key], events, strict=True):
            assert mine == (expected if exactly else pytest.approx(expected, abs=1e-3, rel=1e-2))
            for name, value in expected.items():
                if "/mma_" in name:
                    assert mine[name] == pytest.approx(value, abs=1e-3)
    assert_told_once(story)
    for trial in story.stored.trials():
        kept = [p.name for p in story.stored.trial_folder(trial).glob("train/checkpoint_*")]
        assert len(kept) <= 4, kept
    assert_nobody_is_left(story.cluster)


def assert_told_once(story: Story) -> None:
    settings = Settings.from_environment({"R2D2_HOME": str(story.home)})
    tracker = Tracker.of(settings)
    runs = tracker.list_runs(story.name)
    assert sorted(r.role for r in runs) == ["summary", "trial", "trial"]
    assert {r.status for r in runs} == {"FINISHED"}
    for run in [r for r in runs if r.role == "trial"]:
        for metric in ("train/loss_total", "validation/mma_3px"):
            steps = sorted(m.step for m in tracker.client.get_metric_history(run.run_id, metric))
            assert steps == [1, 2], (run.name, metric)


def test_killed_and_hanging_processes_change_no_figure(cluster, undisturbed, tmp_path):
    options = ("--checkpoint-steps", "3", "--silence", "25")
    with submitted(cluster, tmp_path, "killed", *options) as story:
        story.mid_epoch(1)
        story.kill(WORKER)
        story.kill(SCORING)
        story.mid_epoch(2)
        kill(next(iter(cluster.find(WORKER))))
        story.goes_on(2, story.partial(2))
        former = cluster.find(WORKER).keys()
        # The driver's workers end with it, and others take their place.
        story.kill(DRIVER)
        story.wait_for(lambda: cluster.find(WORKER).keys() - former, "other workers")
        # One rank hangs, so both must start again.
        story.mid_epoch(2, epoch=2)
        os.kill(next(iter(cluster.find(WORKER))), signal.SIGSTOP)
    assert LOST in story.incidents(1)
    # The other rank notices the hanging one, and so does Ray: both may say so, or Ray alone that it is lost.
    first, *later = story.incidents(2)
    assert first == LOST
    assert later
    assert set(later) <= {LOST, HANGING}
    assert_ended_like(story, undisturbed)


def test_lost_nodes_change_no_figure_and_notice_leaves_a_checkpoint(cluster, undisturbed, tmp_path):
    # The evaluator asks for a CPU, so it has a node of its own: the head has none.
    options = ("--checkpoint-steps", "3", "--evaluator-cpus", "1")
    with submitted(cluster, tmp_path, "lost", *options, nodes=3) as story:
        story.mid_epoch(1)
        with held(cluster, WORKER) as workers:
            number = next(iter(workers.values()))
            cluster.drain(number)
        story.wait_for(lambda: PREEMPTED in story.incidents(1), "a checkpoint because of the notice")
        cluster.kill_node(number)
        # It goes on with the third node; the evaluator's is lost while it scores, and a new one takes over.
        cluster.kill_node(next(iter(story.wait_for(lambda: cluster.find(SCORING), "a score").values())))
        cluster.ensure_nodes(3)
        story.mid_epoch(2)
        # Only one CPU is left for its two workers: it waits until there is another one.
        cluster.kill_node(next(iter(cluster.find(WORKER).values())))
        cluster.ensure_nodes(3)
    assert_ended_like(story, undisturbed)


@pytest.mark.slow
def test_with_fewer_workers_the_loss_stays_the_same(cluster, undisturbed, tmp_path):
    options = ("--checkpoint-steps", "3", "--min-workers", "1")
    with submitted(cluster, tmp_path, "elastic", *options) as story:
        story.mid_epoch(2)
        cluster.kill_node(max(cluster.find(WORKER).values()))
    assert RESIZED in story.incidents(2)
    assert_ended_like(story, undisturbed, exactly=False)


def test_a_job_whose_driver_or_head_was_killed_is_resumed_by_the_next(cluster, undisturbed, tmp_path):
    sweep = (cluster, tmp_path, "again", "--checkpoint-steps", "3")
    with submitted(*sweep, status=1, says="r2d2-again-1: failed") as story:
        story.mid_epoch(1)
        drivers = job_drivers("again")
        assert drivers
        kill(*drivers)
    with submitted(*sweep, status=2, says="knows nothing of the job r2d2-again-2 any more") as story:
        story.mid_epoch(2)
        former = former_processes(cluster)
        assert len(former) > 2
        cluster.kill_head()
        # The nodes notice, and what trains on them ends.
        wait_for(lambda: not any(map(title_of, former)), "the end of the former nodes")
        cluster.start_head()
    with submitted(*sweep) as story:
        pass
    assert_ended_like(story, undisturbed)
