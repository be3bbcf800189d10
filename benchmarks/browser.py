"""A headless Chromium with a clip for a camera, driven over its DevTools protocol: for tests and for benchmarks.

async with Chromium(clip) as chromium:
    page = await chromium.open("http://localhost:8080")
    await page.click("#start")
    await page.wait_for("document.body.dataset.state === 'running'", 5)
"""

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp
import psutil

from livetoon.errors import LivetoonError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--no-first-run",
    "--no-default-browser-check",
    "--autoplay-policy=no-user-gesture-required",
    "--remote-debugging-port=0",
)
STARTS_WITHIN_S = 30.0


class BrowserError(LivetoonError):
    """Chromium is missing, does not start, or its page failed."""


def find_chromium() -> str | None:
    """Path of a Chromium or Chrome on this machine, or None; `CHROMIUM` names another one."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """One tab."""

    def __init__(self, chromium: "Chromium", session: str) -> None:
        self._chromium = chromium
        self._session = session

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol to this tab."""
        return await self._chromium.command(method, self._session, **parameters)

    async def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited. BrowserError when it throws."""
        answer = await self.command(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if thrown := answer.get("exceptionDetails"):
            described = thrown.get("exception", {}).get("description") or thrown["text"]
            raise BrowserError(f"the page threw: {described}")
        return answer["result"].get("value")

    async def wait_for(self, expression: str, seconds: float) -> Any:
        """The first true value of `expression`, looked at 50 times a second. BrowserError when time is up."""
        until = time.monotonic() + seconds
        while not (value := await self.run(expression)):
            if time.monotonic() > until:
                text = await self.run("document.body.dataset.state + ': ' + document.body.innerText.slice(0, 600)")
                raise BrowserError(f"not true within {seconds:g} s: {expression}\nthe page: {text}")
            await asyncio.sleep(0.02)
        return value

    async def click(self, selector: str) -> None:
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")

    async def choose(self, selector: str, value: str) -> None:
        """Choose in a list; a value that is not offered leaves the choice as it was."""
        await self.run(
            f"((element) => {{"
            f"if (![...element.options].some((option) => option.value === {json.dumps(value)})) return;"
            f"element.value = {json.dumps(value)}; element.dispatchEvent(new Event('change', {{bubbles: true}}));"
            f"}})(document.querySelector({json.dumps(selector)}))"
        )

    async def to_front(self) -> None:
        """Show this tab: one behind another is told of no frame."""
        await self.command("Page.bringToFront")

    async def close(self) -> None:
        """Close the tab as a person does: the page may say goodbye."""
        await self.command("Page.close")

    async def screenshot(self, path: Path) -> None:
        """Save what the tab shows as a PNG."""
        shot = await self.command("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))

    async def look(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """Give the tab this size in CSS px and this colour scheme."""
        await self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2 if phone else 1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.command("Emulation.setEmulatedMedia", features=[scheme])


class Chromium:
    """A browser of its own; `camera` is a .mjpeg or .y4m clip that plays in a loop, None for no camera at all.

    ask: show the question for the camera instead of allowing it. flags: further command line flags.
    """

    def __init__(self, camera: Path | None, *, ask: bool = False, flags: Sequence[str] = ()) -> None:
        self._camera = camera
        self._ask = ask
        self._flags = flags
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        program = find_chromium()
        if program is None:
            raise BrowserError("no Chromium here: install it (apt-get install chromium) or set CHROMIUM to its path.")
        self._profile = Path(tempfile.mkdtemp(prefix="livetoon-browser-"))
        self._stack.callback(shutil.rmtree, self._profile, ignore_errors=True)
        try:
            self._process = await asyncio.create_subprocess_exec(
                program,
                *FLAGS,
                *self._own_flags(),
                "about:blank",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            self._stack.push_async_callback(self.kill)
            http = await self._stack.enter_async_context(aiohttp.ClientSession())
            self._socket = await http.ws_connect(await self._address(), max_msg_size=0)
            self._reader = asyncio.ensure_future(self._read())
            self._stack.callback(self._reader.cancel)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def open(self, address: str, before: str = "") -> Page:
        """A new tab at `address`; `before` is JavaScript that runs before the page's own."""
        target = await self.command("Target.createTarget", url="about:blank")
        attached = await self.command("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"])
        await page.command("Page.enable")
        if before:
            await page.command("Page.addScriptToEvaluateOnNewDocument", source=before)
        went = await page.command("Page.navigate", url=address)
        if went.get("errorText"):
            raise BrowserError(f"{address}: {went['errorText']}")
        await page.wait_for("document.readyState === 'complete' && document.body.dataset.state !== undefined", 10)
        return page

    async def command(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol to the browser, or to the tab with this session."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send_json(message | ({"sessionId": session} if session else {}))
        try:
            answer = await self._answers[number]
        finally:
            del self._answers[number]
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    async def kill(self) -> None:
        """End the browser at once, as a crash would: the page gets no chance to say goodbye."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    def processes(self) -> list[psutil.Process]:
        """All processes of this browser."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def _own_flags(self) -> list[str]:
        flags = [f"--user-data-dir={self._profile}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium refuses to run as root with it
        if not self._ask:
            flags.append("--use-fake-ui-for-media-stream")
        if self._camera is not None:
            flags += ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={self._camera}"]
        return [*flags, *self._flags]

    async def _address(self) -> str:
        written = self._profile / "DevToolsActivePort"
        until = time.monotonic() + STARTS_WITHIN_S
        while time.monotonic() < until and self._process.returncode is None:
            with contextlib.suppress(FileNotFoundError, ValueError):
                port, path = written.read_text().split()
                return f"ws://127.0.0.1:{port}{path}"
            await asyncio.sleep(0.05)
        raise BrowserError(f"Chromium did not start in {STARTS_WITHIN_S:g} s (exit code {self._process.returncode}).")

    async def _read(self) -> None:
        async for message in self._socket:
            answer = json.loads(message.data)
            waiting = self._answers.get(answer.get("id"))
            if waiting and not waiting.done():
                waiting.set_result(answer)
        for waiting in self._answers.values():
            if not waiting.done():
                waiting.set_exception(BrowserError("the browser is gone."))
