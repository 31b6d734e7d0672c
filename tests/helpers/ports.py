"""Ports of this machine that nothing listens on."""

import socket


def free_port(count=1):
    """A port such that the next ones are free too."""
    for _ in range(50):
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
        try:
            for further in range(port, port + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", further))
        except OSError:
            continue
        return port
    raise RuntimeError("no free ports")
