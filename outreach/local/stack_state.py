"""What a local stack keeps in its data directory: secrets made for it, and the ports it took."""

from __future__ import annotations

import json
import os
import secrets
import socket
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from outreach.local.ports import HOST, PORTS


@dataclass(frozen=True)
class StackSecrets:
    """Secrets of one local stack; made at its first start, each of 64 hexadecimal digits."""

    secret_key: str
    internal_token: str
    attempt_token_key: str
    api_key: str
    twilio_auth_token: str
    sendgrid_api_key: str
    export_role_password: str

    @classmethod
    def load(cls, path: Path) -> Self:
        """Those in the file, and new ones written to it, readable for its owner alone."""
        kept = json.loads(path.read_text()) if path.exists() else {}
        names = [field.name for field in fields(cls)]
        loaded = cls(**{name: kept.get(name) or secrets.token_hex(32) for name in names})
        if asdict(loaded) != kept:
            # Beside it first: a kill in between must not cost the secrets that were there.
            unfinished = path.with_suffix(".new")
            unfinished.unlink(missing_ok=True)
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(asdict(loaded), file, indent=2)
            unfinished.replace(path)
        return loaded


class StackPorts:
    """One TCP port of 127.0.0.1 for each named listener; the same at the next start if free.

    Args:
        path: where they are kept.
        given: ports that are asked for by name; these are taken even when busy, so that the
            process which can't have one says so.
    """

    def __init__(self, path: Path, given: dict[str, int]) -> None:
        self._path = path
        self._given = given
        self._ports: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}

    def take(self, names: list[str]) -> dict[str, int]:
        """A port for each name."""
        with ExitStack() as held:
            taken: dict[str, int] = {}
            for name in names:
                if name in self._given:
                    taken[name] = self._given[name]
                    continue
                kept = self._ports.get(name)
                busy = set(taken.values())
                if kept is not None and kept not in busy and _hold(held, kept):
                    taken[name] = kept
                else:
                    taken[name] = _hold_any(held, busy)
        self._ports.update(taken)
        self._path.write_text(json.dumps(self._ports, indent=2))
        return taken


def _hold_any(held: ExitStack, busy: set[int]) -> int:
    while (port := secrets.choice(PORTS)) in busy or not _hold(held, port):
        pass
    return port


def _hold(held: ExitStack, port: int) -> bool:
    """Bind the port until `held` closes, so that nobody else is given it; false if it is busy."""
    probe = held.enter_context(socket.socket())
    # As the servers do: a port whose last connections linger in TIME_WAIT is free.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((HOST, port))
    except OSError:
        return False
    return True
