"""One running stack for the tests that only use it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from outreach.local.stack import LocalStack, StackOptions
from tests.campaign_history import SEED, SHORT_TIMERS


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack() -> AsyncIterator[LocalStack]:
    """All processes; what a test finds in it is its own campaigns and those before it."""
    options = StackOptions(settings=SHORT_TIMERS, seed=SEED, durable=False)
    async with LocalStack(options) as started:
        yield started
