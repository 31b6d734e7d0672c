"""Each fault of starting or joining Ray is a sentence with its remedy."""

import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ray.exceptions import AuthenticationError, RpcError

from runner.cluster.connect import ray_cluster
from runner.cluster.ray_faults import OWN, make_token_folder, plain_faults
from runner.doctor.checks import Machine, _token, run_checks
from runner.settings import Settings
from search_spaces.sweep import load_sweep

SETTINGS = Settings.from_environment({})
CLUSTER, DASHBOARD = "head:6379", "http://head:8265"

OTHER_VERSION = RuntimeError(
    "Version mismatch: The cluster was started with:\n    Ray: 2.51.1\n    Python: 3.12.3\n"
    "This process on node 192.0.2.2 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n"
)
TIMED_OUT = Exception(
    "The current node timed out during startup. This could happen because some of the raylet failed to "
    "startup or the GCS has become overloaded."
)
# Ray Client hands on what another process raised as a text.
REFUSED = RuntimeError(
    "Traceback (most recent call last):\n  File ...\nray.exceptions.AuthenticationError: RPC error: no token"
)
UNKNOWN = ConnectionAbortedError(
    "Initialization failure from server:\nTraceback ...\nRuntimeError: No room.\n"
)


@pytest.mark.parametrize(
    ("error", "address", "sentence"),
    [
        (
            OTHER_VERSION,
            CLUSTER,
            r"at head:6379 runs Ray 2\.51\.1 on Python 3\.12\.3, this .* Ray 2\.60\.0 .*install",
        ),
        (
            TIMED_OUT,
            OWN,
            r"Ray did not start in time: .*overloaded \(at the moment \d+ processes for \d+ CPUs",
        ),
        (AuthenticationError("no"), CLUSTER, "cluster at head:6379 refuses the token.*RAY_AUTH_MODE=token"),
        (REFUSED, "ray://head:10001", "ray://head:10001 refuses the token.*RAY_AUTH_TOKEN"),
        (
            UNKNOWN,
            "ray://head:10001",
            r"no Ray cluster answers at ray://head:10001: RuntimeError: No room\.$",
        ),
        (RpcError("Method not found!"), CLUSTER, "no Ray cluster answers at head:6379: .*Method not found!"),
        (
            ValueError("Not enough /dev/shm"),
            OWN,
            "Ray cannot be started on this machine: Not enough /dev/shm;",
        ),
        (SystemError(), OWN, "Ray cannot be started on this machine: SystemError;"),
        (
            RuntimeError("Request failed with status code 500: Traceback\nKeyError: 'x'."),
            DASHBOARD,
            "refuses .*'x'",
        ),
        (ConnectionError("nobody"), DASHBOARD, r"no job server answers at http://head:8265 \(nobody\)"),
    ],
)
def test_whatever_ray_raises_is_a_sentence(error, address, sentence):
    with pytest.raises(ValueError, match=sentence) as raised, plain_faults(address):
        raise error
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is error


def test_a_long_temporary_folder_is_named_and_the_doctor_goes_on(tmp_path, monkeypatch):
    folder = tmp_path / ("x" * 88)
    folder.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    machine = Machine(Settings.from_environment({"R2D2_HOME": str(tmp_path / "home")}))
    findings = {check.name: check for check in run_checks(machine)}
    assert not findings["ray"].ok
    assert "too long a path for sockets" in findings["ray"].finding
    assert "set RAY_TMPDIR to a short one" in findings["ray"].finding
    assert findings["versions"].ok


class Page(BaseHTTPRequestHandler):
    """Answers as a dashboard does."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def dashboard():
    """The port of a web server."""
    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("before", ["http://127.0.0.1", "127.0.0.1", "ray://127.0.0.1"])
def test_a_dashboard_is_no_cluster(before, dashboard):
    address = f"{before}:{dashboard}"
    with (
        pytest.raises(ValueError, match=f"{address} is the address of a dashboard.*HOST:6379"),
        ray_cluster(address, verbose=False),
    ):
        pass


def test_the_folder_of_the_token_is_for_this_user_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ray").mkdir(mode=0o755)
    make_token_folder()
    assert (tmp_path / ".ray").stat().st_mode & 0o777 == 0o700


def test_the_doctor_sees_a_token_that_others_can_read(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _token(Machine(SETTINGS)) == f"no token of Ray in {tmp_path}/.ray/auth_token"
    (tmp_path / ".ray").mkdir(mode=0o755)
    (tmp_path / ".ray" / "auth_token").write_text("secret")
    (tmp_path / ".ray" / "auth_token").chmod(0o644)
    with pytest.raises(ValueError, match=rf"other users .* chmod 700 {tmp_path}/\.ray"):
        _token(Machine(SETTINGS))
    make_token_folder()
    assert "for this user alone" in _token(Machine(SETTINGS))


def test_a_home_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with (
        pytest.raises(
            ValueError, match=r"keeps its token in .*/file/\.ray, which cannot be written .*set HOME"
        ),
        ray_cluster(None, verbose=False),
    ):
        pass
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    make_token_folder()


def test_without_a_home_folder_no_sweep_file_is_blamed(tmp_path, monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(ValueError, match=r"this user has no home folder.*set HOME"):
        load_sweep("smoke")
    with pytest.raises(ValueError, match="this user has no home folder"), ray_cluster(None, verbose=False):
        pass
