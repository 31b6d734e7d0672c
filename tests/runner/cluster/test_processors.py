"""The CPUs that count are those that the process may use."""

import os

import pytest

from runner.cluster.processors import usable_cpus


def test_a_process_that_is_bound_to_one_cpu_has_one(tmp_path):
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cpus(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_cpus(tmp_path) == len(before)


@pytest.mark.parametrize(
    ("quota", "cpus"), [("150000", 1), ("50000", 1), ("900000000", 64), ("300000", 3), ("max", 64)]
)
def test_a_containers_limit_counts(quota, cpus, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
    assert usable_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("200000", 2), ("-1", 64)])
def test_a_limit_of_the_former_control_groups_counts(quota, cpus, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cpus(tmp_path) == cpus
