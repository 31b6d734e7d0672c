"""Sweeps as jobs: one that lives is found again, a lost log continues, secrets stay at home."""

from __future__ import annotations

from types import SimpleNamespace

import aiohttp
import pytest
from click.testing import CliRunner
from ray.exceptions import AuthenticationError

from runner.__main__ import main
from runner.cluster import job_contents
from runner.cluster import jobs as submit
from runner.cluster.job_contents import copy_code, refuse_secrets
from runner.cluster.jobs import SWEEP_KEY, SweepJobs
from runner.settings import INHERITED, inherited_variables

ADDRESS = "http://head:8265"


class FakeServer:
    """The part of Ray's Jobs API that is used, in memory."""

    def __init__(self):
        self.jobs, self.logs, self.seen = [], [], []
        # What becomes of a job that is handed over.
        self.start = "PENDING"

    def add(self, identity, sweep, status="RUNNING"):
        details = SimpleNamespace(
            submission_id=identity,
            metadata={SWEEP_KEY: sweep} if sweep else None,
            status=SimpleNamespace(value=status),
            entrypoint="python -m runner sweep",
            message="",
            runtime_env=None,
            start_time=1000,
            end_time=None,
        )
        self.jobs.append(details)
        return details

    def list_jobs(self):
        return self.jobs

    def submit_job(self, *, entrypoint, submission_id, metadata, runtime_env):
        self.seen.append((entrypoint, runtime_env))
        self.add(submission_id, metadata.get(SWEEP_KEY), self.start).entrypoint = entrypoint

    def stop_job(self, identity):
        self._of(identity).status = SimpleNamespace(value="STOPPED")

    def get_job_info(self, identity):
        return self._of(identity)

    async def tail_job_logs(self, identity):
        for piece in self.logs.pop(0):
            if isinstance(piece, Exception):
                raise piece
            if piece == "the end":
                self._of(identity).status = SimpleNamespace(value="SUCCEEDED")
                return
            yield piece

    def _of(self, identity):
        return next(job for job in self.jobs if job.submission_id == identity)


@pytest.fixture
def server():
    return FakeServer()


@pytest.fixture
def jobs(server):
    return SweepJobs(ADDRESS, server)


def test_a_sweep_is_the_command_that_a_laptop_runs(jobs, server):
    job, new = jobs.submit("smoke", ("smoke", "--set", "epochs=3"), {"R2D2_HOME": "/shared"})
    assert (job.id, new) == ("r2d2-smoke-1", True)
    command, environment = server.seen[0]
    assert command == "python -m runner sweep smoke --set epochs=3"
    assert environment["env_vars"] == {"R2D2_HOME": "/shared"}


@pytest.mark.parametrize("status", ["PENDING", "RUNNING"])
def test_a_sweep_that_lives_is_not_submitted_again(jobs, server, status):
    server.add("r2d2-smoke-4", "smoke", status)
    job, new = jobs.submit("smoke", ("smoke",), {})
    assert (job.id, new) == ("r2d2-smoke-4", False)
    assert not server.seen


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_a_sweep_that_ended_is_resumed_by_a_new_job(jobs, server, status):
    server.add("r2d2-smoke-10", "smoke", status)
    server.add("r2d2-smoke-9", "smoke", "FAILED")
    job, new = jobs.submit("smoke", ("smoke",), {})
    assert (job.id, new) == ("r2d2-smoke-11", True)


def test_jobs_of_others_are_not_ours(jobs, server):
    server.add("raysubmit_x", None)
    server.add("r2d2-study-1", "study")
    assert [job.id for job in jobs.all()] == ["r2d2-study-1"]
    assert jobs.of("smoke") == []


def test_stopping_needs_a_job_that_lives(jobs, server):
    server.add("r2d2-smoke-1", "smoke", "SUCCEEDED")
    with pytest.raises(ValueError, match=r"no job of the sweep 'smoke' runs on http://head:8265"):
        jobs.stop("smoke")
    server.add("r2d2-smoke-2", "smoke", "PENDING")
    job, by_itself = jobs.stop("smoke")
    assert (job.id, by_itself) == ("r2d2-smoke-2", False)
    assert jobs.of("smoke")[-1].status == "STOPPED"


def test_a_running_job_is_asked_by_r2d2_stop_with_its_own_variables(jobs, server, monkeypatch):
    server.add("r2d2-smoke-1", "smoke").runtime_env = {"env_vars": {"R2D2_HOME": "/shared"}}
    # While it is waited for, the job ends by itself.
    monkeypatch.setattr(
        submit.time, "sleep", lambda _: setattr(server.jobs[0], "status", SimpleNamespace(value="FAILED"))
    )
    job, by_itself = jobs.stop("smoke")
    assert (job.id, by_itself) == ("r2d2-smoke-1", True)
    command, environment = server.seen[0]
    assert command == "python -m runner stop smoke --within 0"
    assert environment["env_vars"] == {"R2D2_HOME": "/shared"}
    assert [job.id for job in jobs.all()] == ["r2d2-smoke-1"]


def test_a_running_job_that_cannot_be_asked_is_ended_by_the_cluster(jobs, server):
    server.add("r2d2-smoke-1", "smoke")
    server.start = "FAILED"
    assert jobs.stop("smoke")[1] is False
    assert jobs.of("smoke")[-1].status == "STOPPED"


def test_a_lost_log_is_continued_where_it_was_lost(jobs, server, monkeypatch):
    monkeypatch.setattr(submit.time, "sleep", lambda _: None)
    server.add("r2d2-smoke-1", "smoke")
    lost = ConnectionResetError("reset by peer")
    # What Ray's client raises when a proxy or the head goes away is no OSError.
    gone = aiohttp.ServerDisconnectedError("reset by peer")
    server.logs = [["one\n", "tw", lost], [gone], ["one\ntwo\n", "three\n", "the end"]]
    written, notes = [], []
    ended = jobs.follow(jobs.of("smoke")[0], written.append, notes.append)
    assert "".join(written) == "one\ntwo\nthree\n"
    assert ended.status == "SUCCEEDED"
    assert notes == [f"the connection to {ADDRESS} is lost (reset by peer); trying again"] * 2


def test_a_restarted_cluster_that_does_not_know_the_job_is_not_waited_for(jobs, server, monkeypatch):
    monkeypatch.setattr(submit.time, "sleep", lambda _: pytest.fail("it waited"))
    server.add("r2d2-smoke-1", "smoke")
    job = jobs.of("smoke")[0]
    server.logs = [[RuntimeError("status code 404")]]
    server.jobs.clear()
    server.add("r2d2-other-1", "other")
    with pytest.raises(ValueError, match=r"knows nothing of the job r2d2-smoke-1 any more"):
        jobs.follow(job, print, lambda _: pytest.fail("it spoke of a lost connection"))


def test_a_new_head_with_another_token_is_told_from_a_lost_connection(jobs, server, monkeypatch):
    def refuse():
        raise AuthenticationError("no")

    server.add("r2d2-smoke-1", "smoke")
    job = jobs.of("smoke")[0]
    server.logs = [[aiohttp.ClientError("401")]]
    monkeypatch.setattr(server, "list_jobs", refuse)
    with pytest.raises(ValueError, match=f"{ADDRESS} refuses the token"):
        jobs.follow(job, print, lambda _: pytest.fail("it spoke of a lost connection"))


def test_a_cluster_that_stays_silent_is_given_up(jobs, server, monkeypatch):
    now = iter(range(0, 10_000, 200))
    monkeypatch.setattr(submit.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(submit.time, "sleep", lambda _: None)
    server.add("r2d2-smoke-1", "smoke")
    server.logs = [[RuntimeError("closed")]] * 20
    with pytest.raises(ValueError, match=r"silent for 10 minutes \(closed\).*may go on without you"):
        jobs.follow(jobs.of("smoke")[0], print, lambda _: None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("R2D2_NOTIFY", "https://hooks.example.com/services/T0"),
        ("mlflow_tracking_password", "x"),
        ("MLFLOW_TRACKING_URI", "https://me:word@server/mlflow"),
        ("MLFLOW_TRACKING_URI", "https://ghp_token@server/mlflow"),
        ("MLFLOW_TRACKING_URI", "https://server/mlflow?api_key=1"),
        ("R2D2_HPATCHES", "s3://bucket,https://server/x?sig=1"),
        ("PGPASS", "x"),
        ("WANDB_KEY", "x"),
        ("RAY_AUTH_TOKEN", "x"),
        ("R2D2_DB_PASSWD", "x"),
    ],
)
def test_secrets_are_refused(jobs, server, name, value):
    with pytest.raises(ValueError, match=rf"{name} holds a secret"):
        jobs.submit("smoke", ("smoke",), {name: value})
    assert not server.jobs


def test_a_variable_that_is_not_known_to_be_harmless_stays_at_home(jobs, server):
    with pytest.raises(ValueError, match=r"HF_HUB may be a secret.*set it on.*may be given.*NCCL_\*"):
        jobs.submit("smoke", ("smoke",), {"HF_HUB": "x"})
    assert not server.jobs


def test_what_a_training_may_need_is_passed():
    refuse_secrets(
        {
            **dict.fromkeys(INHERITED, "x"),
            "MLFLOW_TRACKING_URI": "https://server:5000/mlflow",
            "RAY_AUTH_MODE": "token",
            "R2D2_HPATCHES": "s3://bucket/a@b",
            "NCCL_SOCKET_IFNAME": "eth0",
            "PYTHONPATH": "/a:/b",
        }
    )


def test_places_are_inherited_and_secrets_are_not():
    here = {
        "MLFLOW_TRACKING_URI": "http://server",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_ENDPOINT_URL": "",
        "A": "b",
    }
    assert inherited_variables(here) == {"MLFLOW_TRACKING_URI": "http://server"}


def test_the_copy_holds_the_code_and_the_sweeps_file(tmp_path):
    own = tmp_path / "mine" / "question.py"
    own.parent.mkdir()
    own.write_text("sweep = 1")
    folder = tmp_path / "copy"
    folder.mkdir()
    assert copy_code(folder, str(own)) == "own_sweeps/question.py"
    assert (folder / "own_sweeps" / "question.py").read_text() == "sweep = 1"
    assert {path.name for path in folder.iterdir()} == {
        "CODE_SOURCE.json",
        "CODE_VERSION",
        "runner",
        "r2d2",
        "evaluation",
        "search_spaces",
        "own_sweeps",
    }
    assert (folder / "evaluation" / "report" / "template" / "report.html").is_file()
    assert not list(folder.rglob("__pycache__"))


def test_the_copy_holds_no_secret_that_lies_among_the_code(tmp_path, monkeypatch):
    root, folder = tmp_path / "project", tmp_path / "copy"
    folder.mkdir()
    planted = ("runner/.env", "r2d2/secrets/key", "evaluation/aws.pem", "search_spaces/token", "r2d2/.s/a.py")
    code = {f"{package}/code.py" for package in job_contents.PACKAGES}
    for name in (*code, *planted, "mlflow/secrets/admin"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    monkeypatch.setattr(job_contents, "__file__", str(root / "runner" / "cluster" / "job_contents.py"))
    copy_code(folder, "smoke")
    copied = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert copied == {*code, "CODE_SOURCE.json", "CODE_VERSION"}


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file 'nothing\.py'"):
        copy_code(tmp_path, "nothing.py")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["smok"], "unknown sweep 'smok'"),
        (["smoke", "--set", "epoch=3"], "unknown key 'epoch'"),
        (["smoke"], "there is no home (--home or R2D2_HOME); give s3://BUCKET/PREFIX, or the full path"),
        (["smoke", "--home", "here"], "the home is 'here'; give s3://BUCKET/PREFIX, or the full path"),
        (["smoke", "--home", "s3://b/p"], "the home is s3://b/p, where no SQLite file of MLflow's can lie"),
        (
            ["smoke", "--home", "s3://b/p", "--env", "MLFLOW_TRACKING_URI=http://mlflow:5000"],
            "no job server answers at http://127.0.0.1:1",
        ),
        (
            ["smoke", "--home", "/a", "--photos", "here"],
            "the training data lie in 'here'; a job needs the full path",
        ),
        (["study", "--home", "/a"], "'study' needs training data"),
        (["smoke", "--home", "/a", "--env", "x"], "--env 'x' is no assignment"),
        (["smoke", "--home", "/a", "--jury", "2"], "No such option"),
        (["smoke", "--home", "/a"], "no job server answers at http://127.0.0.1:1"),
        ([], "no sweep is named"),
        (["smoke", "--home", "/a", "--set", "data.sources=photos=there"], "the training data lie in 'there'"),
        (["smoke", "--home", "/a", "--env", "MY_API_KEY=1"], "MY_API_KEY holds a secret"),
        (
            ["smoke", "--home", "/a", "--address", "127.0.0.1:9"],
            "give the dashboard's address, https://HEAD or http://localhost:8265",
        ),
    ],
)
def test_bad_input_is_refused_with_a_sentence(arguments, sentence, monkeypatch):
    monkeypatch.delenv("R2D2_HOME", raising=False)
    # Ray's own variable is set by the verb.
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")
    result = CliRunner().invoke(main, ["submit", *arguments])
    assert result.exit_code == 2
    assert sentence in result.output
