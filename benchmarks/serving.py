"""A livetoon server of its own, as a person would start it, on a port that is free."""

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from livetoon.errors import LivetoonError

STARTS_WITHIN_S = 60.0
STOPS_WITHIN_S = 10.0


@dataclass(frozen=True)
class Served:
    """A server that answers; `said` is what it printed, line by line, and grows."""

    process: asyncio.subprocess.Process
    address: str
    said: list[str]

    @property
    def port(self) -> str:
        return self.address.rpartition(":")[2]


@contextlib.asynccontextmanager
async def server(*options: str) -> AsyncIterator[Served]:
    """Start `livetoon` with `options` (a free port unless they name one), end it with the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamer", "--port", "0", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=Path(__file__).parents[1],
    )
    said: list[str] = []
    reader = asyncio.ensure_future(_hear(process, said))
    try:
        until = time.monotonic() + STARTS_WITHIN_S
        while not (address := _address(said)):
            if process.returncode is not None or time.monotonic() > until:
                raise LivetoonError("the server did not start: " + " | ".join(said[-3:]))
            await asyncio.sleep(0.02)
        yield Served(process, address, said)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOPS_WITHIN_S)
            except TimeoutError:
                process.kill()
        await reader


def _address(said: list[str]) -> str | None:
    return next((found.group(1) for line in said if (found := re.search(r"livetoon is at (\S+)", line))), None)


async def _hear(process: asyncio.subprocess.Process, said: list[str]) -> None:
    async for line in process.stdout:
        said.append(line.decode().rstrip())
