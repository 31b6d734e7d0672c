"""Starts MLflow's web interface for the local store."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from types import FrameType

END_WITHIN_S = 15
LOOK_S = 0.3


def serve_ui(
    tracking_uri: str,
    artifact_root: str | None = None,
    host: str = "127.0.0.1",
    port: int = 5000,
    ready: Callable[[], None] = lambda: None,
) -> int:
    """Runs the MLflow server on a local store until it ends or is interrupted; returns its exit status.

    Ctrl-C and SIGTERM end the server too, with status 0. MLflow answers only requests that name this machine
    or a private address; for more, set MLFLOW_SERVER_ALLOWED_HOSTS.

    Args:
        tracking_uri: `sqlite:///FILE` or another database.
        artifact_root: where the store keeps files.
        host: address to listen on.
        port: port to listen on.
        ready: called once, when the server answers.

    Raises:
        ValueError: if the store has a server already, or the address cannot be listened on.
    """
    if tracking_uri.startswith(("http:", "https:")):
        raise ValueError(f"{tracking_uri} is a server already; open it in a browser")
    _check_free(host, port)
    command = server_command(tracking_uri, artifact_root, host, port)
    # No job runner: it is there for language models, and costs a second process and a second of start.
    environment = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    former = signal.signal(signal.SIGTERM, _interrupt)
    try:
        server = subprocess.Popen(command, env=environment)  # noqa: S603  (our own command)
        return _wait(server, f"{page_address(host, port)}/health", ready)
    finally:
        signal.signal(signal.SIGTERM, former)


def server_command(tracking_uri: str, artifact_root: str | None, host: str, port: int) -> list[str]:
    """Returns the command line of the MLflow server, run by the Python that runs this."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri]
    if artifact_root is not None:
        command += ["--default-artifact-root", artifact_root, "--artifacts-destination", artifact_root]
    # Its own words name an address that opens other pages than those of the sweeps.
    quiet = ["--uvicorn-opts", "--log-level warning"]
    return [*command, "--host", host, "--port", str(port), "--workers", "1", *quiet]


def page_address(host: str, port: int) -> str:
    """Returns the address under which a browser of this machine finds the server."""
    shown = host if host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104  (compared, not listened on)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def _wait(server: subprocess.Popen[bytes], health: str, ready: Callable[[], None]) -> int:
    try:
        while server.poll() is None and not _answers(health):
            time.sleep(LOOK_S)
        if server.poll() is None:
            ready()
        return server.wait()
    except KeyboardInterrupt:
        # Ctrl-C in a terminal has reached the server as well; a second signal does no harm.
        server.terminate()
        try:
            server.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        return 0


def _answers(address: str) -> bool:
    try:
        # Not through a proxy: the server is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(address, timeout=END_WITHIN_S):
            return True
    except OSError:
        return False


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001  (a handler's arguments)
    raise KeyboardInterrupt


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ValueError(f"port {port} of {host} is taken; choose another with --port") from error
            raise ValueError(f"cannot listen on {host}, port {port}: {error.strerror}") from error
