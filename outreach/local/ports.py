"""Ports of 127.0.0.1 for servers that are told where to listen before they listen."""

from __future__ import annotations

import secrets
import socket
from typing import Final

HOST: Final = "127.0.0.1"
#: Below those that kernels give to whoever asks for any (Linux: from 32768, macOS: from 49152). One of those may be
#: somebody else's, a client's even, before the server that it was meant for listens, or while that one restarts.
PORTS: Final = range(10_000, 32_000)


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
