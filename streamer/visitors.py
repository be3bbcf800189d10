"""Who is on: as many visitors as the machine carries, each with a pipeline of its own.

Making a pipeline takes more than a second, so one is made in advance and one that is left is given to the next.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from livetoon.errors import CameraError
from streamer.media import Process
from streamer.session import Session, Transport

LOGGER = logging.getLogger("livetoon.visitors")


class FullError(CameraError):
    """Every place is taken."""


class Visitors:
    """The open sessions, at most `most` at a time.

    `make_process` makes the `process` of one visitor; it computes, so it runs in a thread. `settings` is what a visitor
    begins with; `styles` what it may choose, the groups of each, the first one to begin with.
    """

    def __init__(
        self,
        make_process: Callable[[], Process],
        settings: Any,
        styles: Mapping[str, Sequence[str]],
        transport: Transport,
        most: int,
    ) -> None:
        self._make_process = make_process
        self._settings = settings
        self._styles = styles
        self._transport = transport
        self._most = most
        self._open: set[Session] = set()
        self._taken = 0
        self._ready: list[Process] = []
        self._coming_back: set[asyncio.Task] = set()

    async def prepare(self) -> None:
        """Make the first visitor's pipeline, so that it does not wait for it."""
        self._ready.append(await asyncio.to_thread(self._make_process))

    async def welcome(self, offer: str) -> str:
        """The answer to a new visitor's offer. FullError when all places are taken, CameraError for a bad offer."""
        if self._taken >= self._most:
            places = "The one place is" if self._most == 1 else f"All {self._most} places are"
            raise FullError(f"{places} taken. This page starts by itself as soon as there is room.")
        self._taken += 1
        try:
            process = await self._process()
            session = Session(process, self._settings, self._styles, self._transport, self._leave)
        except BaseException:
            self._taken -= 1
            raise
        self._open.add(session)
        try:
            answer = await session.answer(offer)
        except BaseException:
            session.close()
            raise
        LOGGER.info("a visitor came, %d of %d places taken", self._taken, self._most)
        return answer

    async def close(self) -> None:
        """Let every visitor go."""
        await asyncio.gather(*(session.close() for session in list(self._open)), return_exceptions=True)
        await asyncio.gather(*self._coming_back, return_exceptions=True)

    async def _process(self) -> Process:
        """A pipeline that is free or about to be, or a new one."""
        while not self._ready and self._coming_back:
            await asyncio.wait(self._coming_back, return_when=asyncio.FIRST_COMPLETED)
        return self._ready.pop() if self._ready else await asyncio.to_thread(self._make_process)

    async def _take_back(self, session: Session) -> None:
        """The pipeline of a visitor who left, once its last frame is drawn; it forgets everybody whom it saw."""
        await session.ended()
        session.process.reset()
        self._ready.append(session.process)

    def _leave(self, session: Session) -> None:
        self._open.discard(session)
        self._taken -= 1
        task = asyncio.ensure_future(self._take_back(session))
        self._coming_back.add(task)
        task.add_done_callback(self._coming_back.discard)
        LOGGER.info("a visitor left, %d of %d places taken", self._taken, self._most)
