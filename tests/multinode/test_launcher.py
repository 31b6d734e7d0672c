"""`ray up` and `ray submit` with this project's launcher file, over SSH, to a machine that is this one.

What belongs to AWS is replaced: instances, images and their mounts. Everything else is what a user runs.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from ports import free_port
from ray_nodes import RAY, node_folder, own_environment

ROOT = Path(__file__).parents[2]
SSHD = shutil.which("sshd") or "/usr/sbin/sshd"

pytestmark = [
    pytest.mark.multinode,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not Path(SSHD).exists() or shutil.which("rsync") is None,
        reason="needs openssh-server and rsync of Debian",
    ),
]


@dataclass(frozen=True)
class Machine:
    """What is reached over SSH.

    Attributes:
        home: the home directory there.
        port: of its SSH server, on loopback.
        key: file of the private key that opens it.
    """

    home: Path
    port: int
    key: Path


@pytest.fixture
def folder():
    with node_folder() as folder:
        yield folder


@pytest.fixture
def machine(folder):
    """An SSH server of this user on a port of its own, with a home directory of its own."""
    ssh, home = folder / "ssh", folder / "home"
    ssh.mkdir(mode=0o700)
    home.mkdir()
    for name in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(ssh / name)], check=True)
    # As on an image with the dependencies: its programs are found, and a login reads what setup appends.
    (home / ".bashrc").touch()
    programs = Path(sys.executable).parent
    (home / ".bash_profile").write_text(f"export PATH={programs}:$PATH\n. ~/.bashrc\n")
    port = free_port()
    (ssh / "config").write_text(f"""
Port {port}
ListenAddress 127.0.0.1
HostKey {ssh}/host
AuthorizedKeysFile {ssh}/key.pub
PidFile {ssh}/pid
StrictModes no
UsePAM no
SetEnv HOME={home}
""")
    # Where privileges are separated, the server wants this folder.
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with (ssh / "log").open("w") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(ssh / "config")], stderr=log)
    yield Machine(home, port, ssh / "key")
    server.terminate()
    server.wait()


def launcher_file(machine: Machine, folder: Path) -> Path:
    """cluster/aws.yaml for a machine that is there already."""
    port, home = free_port(), machine.home
    text = (ROOT / "cluster" / "aws.yaml").read_text()
    for old, new in {
        "/home/ray": str(home),
        "/mnt/r2d2/home": str(folder / "shared"),
        "/mnt/r2d2": str(folder / "shared"),
        "/opt/r2d2-cache": str(folder / "cache"),
        "https://MLFLOW_SERVER": f"sqlite:///{folder}/mlflow.db",
        "R2D2_CLUSTER_CPUS=64": "R2D2_CLUSTER_CPUS=0",
        "R2D2_CLUSTER_GPUS=8": "R2D2_CLUSTER_GPUS=0",
        "RAY_ADDRESS=auto": f"RAY_ADDRESS=127.0.0.1:{port}",
        "~/.ray/auth_token": str(folder / "token"),
        "--port=6379": f"--port={port}",
        "--object-manager-port=8076": f"--node-ip-address=127.0.0.1 --temp-dir={folder}/node",
        "ray start --head": f"ray start --head --num-cpus=2 --object-store-memory={200 * 2**20}"
        f" --dashboard-port={free_port()} --ray-client-server-port={free_port()}"
        f" --dashboard-agent-listen-port={free_port()} --disable-usage-stats",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    config = yaml.safe_load(text)
    # The token's place on the machine has just been replaced as well.
    token = str(folder / "token")
    config["file_mounts"] = {
        target: str(ROOT / source) for target, source in config["file_mounts"].items() if source != token
    } | {str(home / ".ray" / "auth_token"): token}
    for key in (
        "docker",
        "available_node_types",
        "head_node_type",
        "idle_timeout_minutes",
        "upscaling_speed",
    ):
        del config[key]
    config["provider"] = {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []}
    config["max_workers"] = 0
    config["initialization_commands"] = []
    # It would stop every Ray of this machine.
    config["head_start_ray_commands"].remove("ray stop")
    relay = folder / "relay.py"
    relay.write_text(RELAY.replace("PORT", str(machine.port)))
    config["auth"] = {
        "ssh_user": pwd.getpwuid(os.getuid()).pw_name,
        "ssh_private_key": str(machine.key),
        "ssh_proxy_command": shlex.join([sys.executable, str(relay)]),
    }
    file = folder / "cluster.yaml"
    file.write_text(yaml.safe_dump(config))
    return file


# The launcher knows no ports: what it sends to port 22 goes through here.
RELAY = """
import os, socket, threading
s = socket.create_connection(("127.0.0.1", PORT))
def send():
    while data := os.read(0, 65536): s.sendall(data)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
while data := s.recv(65536): os.write(1, data)
"""


def test_the_launcher_starts_a_cluster_and_hands_it_a_sweep(machine, folder):
    environment = own_environment()
    (folder / "token").write_text(environment["RAY_AUTH_TOKEN"])
    file = launcher_file(machine, folder)

    def ray(*arguments: str) -> str:
        done = subprocess.run(
            [RAY, *arguments],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    ray("up", "--yes", "--no-config-cache", str(file))
    assert (machine.home / "r2d2" / "runner" / "__main__.py").is_file()
    assert sorted(path.name for path in (machine.home / "r2d2").iterdir()) == [
        *("evaluation", "r2d2", "runner", "search_spaces")
    ]
    sweep = ("sweep", "smoke", "--set", "data.pairs_per_epoch=8")
    output = ray("submit", "--no-config-cache", str(file), str(ROOT / "runner" / "__main__.py"), *sweep)
    assert "Runs, curves and pictures" in output
    trained = list((folder / "shared" / "sweeps" / "smoke" / "trials").glob("*/train/checkpoint_002"))
    assert len(trained) == 2
