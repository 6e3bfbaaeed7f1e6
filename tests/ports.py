"""Ports for what is told where to listen before it listens."""

from __future__ import annotations

import os
import random
import socket
from collections import deque

#: Below what kernels give to those who ask for any port (Linux: from 32768, macOS: from 49152). A port out of that
#: range may be somebody else's, a client's even, before the server that it was meant for has started.
_FIRST, _LAST = 10_000, 32_000
#: Workers of one test run have ports of their own.
_WORKERS_MAX = 16
_given: deque[int] = deque(maxlen=200)


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens, and which nobody else of this test run gets."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = range(_FIRST + worker % _WORKERS_MAX, _LAST, _WORKERS_MAX)
    while True:
        port = random.choice(mine)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.append(port)
        return port
