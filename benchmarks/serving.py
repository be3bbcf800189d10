"""A livetoon server of its own, as a person would start it, on a port that is free."""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from livetoon.errors import LivetoonError

STARTS_WITHIN_S = 60.0
STOPS_WITHIN_S = 10.0


@contextlib.asynccontextmanager
async def server(*options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A livetoon server of its own on a free port: (process, address)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streamer",
        "--port",
        str(port),
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=Path(__file__).parents[1],
    )
    said: list[str] = []
    reader = asyncio.ensure_future(_hear(process, said))
    try:
        until = time.monotonic() + STARTS_WITHIN_S
        while not any("livetoon is at" in line for line in said):
            if process.returncode is not None or time.monotonic() > until:
                raise LivetoonError("the server did not start: " + " | ".join(said[-3:]))
            await asyncio.sleep(0.02)
        yield process, f"http://localhost:{port}"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOPS_WITHIN_S)
            except TimeoutError:
                process.kill()
        await reader


async def _hear(process: asyncio.subprocess.Process, said: list[str]) -> None:
    async for line in process.stdout:
        said.append(line.decode().rstrip())
