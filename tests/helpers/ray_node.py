"""A Ray node of its own on this machine, which asks for a token."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from processes import naming


@contextmanager
def ray_node(cpus: int) -> Iterator[dict[str, str]]:
    """A Ray node of its own that believes it has `cpus` CPUs; the variables with which it is joined."""
    ray = str(Path(sys.executable).with_name("ray"))
    python_path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    account = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {**os.environ, **account, "PYTHONPATH": python_path}
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as sockets:
        command = [ray, "start", "--head", "--port=0", f"--num-cpus={cpus}", f"--temp-dir={sockets}"]
        command += ["--include-dashboard=false", "--node-ip-address=127.0.0.1", "--disable-usage-stats"]
        command += [f"--object-store-memory={200 * 2**20}"]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            found = re.search(r"--address='([^']+)'", done.stdout)
            assert found is not None, done.stdout + done.stderr
            yield {**account, "RAY_ADDRESS": found[1]}
        finally:
            for pid in naming(sockets):
                os.kill(pid, signal.SIGKILL)
