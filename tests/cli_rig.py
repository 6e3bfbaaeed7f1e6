"""The `outreach` command as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

from tests.scripted_api import API_KEY

COMMAND = [sys.executable, "-m", "outreach.cli"]


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Cli:
    address: str
    api_key: str = API_KEY

    @property
    def env(self) -> dict[str, str]:
        here = {
            "OUTREACH_ADDRESS": self.address,
            "OUTREACH_API_KEY": self.api_key,
            "COLUMNS": "160",
        }
        return {**os.environ, **here}

    async def __call__(self, *arguments: str, env: dict[str, str] | None = None) -> Ended:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**self.env, **(env or {})},
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        assert b"Traceback" not in err
        return Ended(process.returncode, out.decode(), err.decode())
