"""The web server: the page, what the page must know (`/about`), and one door for video (`POST /offer`).

Only a page that this server itself gave out may use it: the Host header must be an address or a name that was allowed
(so that a foreign name pointed here gets nothing), and Origin must be the same host.
"""

import asyncio
import contextlib
import errno
import ipaddress
import json
import logging
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from livetoon.errors import CameraError, LivetoonError, UsageError
from streamer.visitors import FullError, Visitors

LOGGER = logging.getLogger("livetoon.server")

LONGEST_OFFER = 64 * 1024  # bytes; an offer of ours has about 6 kB
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}

VISITORS = web.AppKey("visitors", Visitors)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(visitors: Visitors, about: Mapping[str, Any], names: frozenset[str]) -> web.Application:
    """The web application; `about` is what `/about` answers, `names` the host names it may be called by."""
    app = web.Application(middlewares=[_guard(names)], client_max_size=LONGEST_OFFER)
    app[VISITORS] = visitors
    described = json.dumps(about)
    for path, content, kind in page_files():
        app.router.add_get(path, _file(content, kind))
    app.router.add_get("/about", _file(described.encode(), "application/json"))
    app.router.add_post("/offer", _offer)
    return app


def page_files() -> list[tuple[str, bytes, str]]:
    """(path, content, type) of each file of the page, read once."""
    files = [entry for entry in resources.files("streamer").joinpath("page").iterdir() if entry.is_file()]
    found = [
        (f"/{entry.name}", entry.read_bytes(), TYPES[suffix])
        for entry in files
        if (suffix := entry.name[entry.name.rfind(".") :]) in TYPES
    ]
    return [*found, *(("/", content, kind) for path, content, kind in found if path == "/index.html")]


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets on `port` of every address of `host`; UsageError when they cannot be had. Port 0 takes a free one."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, OverflowError, UnicodeError) as error:
        raise UsageError(f"--host {host} --port {port}: there is no such address here ({error}).") from error
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        made = None
        try:
            made = socket.socket(family, kind, protocol)
            _bind(made, family, (address[0], port, *address[2:]))
        except OSError as error:
            if made:
                made.close()
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and len(found) > 1:
                continue  # "localhost" may name ::1 on a machine without IPv6
            for other in sockets:
                other.close()
            raise UsageError(_why_not(error, host, port)) from error
        sockets.append(made)
        port = made.getsockname()[1]
    if not sockets:
        raise UsageError(f"--host {host} --port {port}: none of its addresses is one of this machine.")
    return sockets


async def serve(
    app: web.Application, sockets: list[socket.socket], tls: ssl.SSLContext | None, ready: Callable[[], None]
) -> None:
    """Serve until Ctrl-C or SIGTERM; `ready` is called once requests are answered."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in ("SIGINT", "SIGTERM"):
        # Windows has no signal handlers in its loop: there Ctrl-C raises KeyboardInterrupt.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(getattr(signal, name), stop.set)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        for made in sockets:
            await web.SockSite(runner, made, ssl_context=tls).start()
        ready()
        await stop.wait()
    finally:
        await app[VISITORS].close()
        await runner.cleanup()


def _bind(made: socket.socket, family: int, address: tuple) -> None:
    if hasattr(socket, "SO_EXCLUSIVEADDRUSE"):
        # On Windows a second server would share the port without this, elsewhere it may not.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind(address)
    made.listen(64)


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else 8080
        return f"Port {port} is used by another program: stop it or choose another with --port {other}."
    if error.errno == errno.EACCES:
        return f"Port {port} needs more rights than you have: choose one above 1023 with --port 8080."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host}: no address of this machine; localhost and 0.0.0.0 always are."
    return f"--host {host} --port {port}: {error.strerror or error}."


def _guard(names: frozenset[str]) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if not _allowed(request.host, names):
            response = _refusal(403, "This address is not livetoon's: open it by its IP address or see --allow-host.")
        elif origin is not None and origin not in (f"http://{request.host}", f"https://{request.host}"):
            response = _refusal(403, "Another site's page may not use livetoon.")
        else:
            try:
                response = await handler(request)
            except web.HTTPException as refusal:
                response = _refusal(refusal.status, f"{refusal.reason}: reload the page.")
            except Exception as error:  # the outermost edge of a request
                LOGGER.error(
                    "%s %s: %s: %s", request.method, request.path, type(error).__name__, error,
                    exc_info=LOGGER.isEnabledFor(logging.DEBUG),
                )  # fmt: skip
                response = _refusal(500, "Something went wrong in the server: see its terminal, then reload the page.")
        response.headers.update(HEADERS)
        return response

    return guard


def _allowed(host: str, names: frozenset[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name in names:
            return True
        # A name can be pointed at this machine by a stranger, an address cannot.
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _file(content: bytes, kind: str) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=content, content_type=kind, charset="utf-8")

    return answer


async def _offer(request: web.Request) -> web.Response:
    try:
        sdp = await _read_offer(request)
        answer = await request.app[VISITORS].welcome(sdp)
    except FullError as error:
        return _refusal(503, str(error))
    except CameraError as error:
        return _refusal(400, str(error))
    except LivetoonError as error:
        LOGGER.error("a visitor could not be let in: %s", error)
        return _refusal(500, str(error))
    return web.json_response({"type": "answer", "sdp": answer})


async def _read_offer(request: web.Request) -> str:
    if request.content_type != "application/json":
        raise CameraError("An offer comes as application/json.")
    try:
        body = await request.json()
    except (ValueError, LookupError, RecursionError) as error:
        raise CameraError("The offer is not JSON.") from error
    if not isinstance(body, dict) or body.get("type") != "offer" or not isinstance(body.get("sdp"), str):
        raise CameraError('An offer is a JSON object with "type": "offer" and a text "sdp".')
    return body["sdp"]


def _refusal(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)
