"""`livetoon`, `python -m streamer`: the server that turns a browser's camera into a cartoon."""

import argparse
import asyncio
import logging
import os
import socket
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

from livetoon import __version__, cli
from livetoon.errors import UsageError

log = logging.getLogger("livetoon.server")

# The worker holds Python for moments, and the event loop waits for it: at most this long instead of 5 ms.
SWITCH_S = 0.0005

DESCRIPTION = """Turn a camera into a live cartoon in the browser.

Starts a web server; open the address that it prints and press Start. Nothing is stored."""


def arguments() -> argparse.ArgumentParser:
    """The options of the server."""
    made = cli.parser("livetoon", DESCRIPTION, "livetoon --port 8080 --codec vp8")
    made.add_argument("--version", action="version", version=f"livetoon {__version__}")
    web = made.add_argument_group("address")
    web.add_argument("--host", default="localhost", help="address to listen on; 0.0.0.0: the whole network (localhost)")
    web.add_argument("--port", type=int, default=8080, help="port to listen on (8080)")
    web.add_argument("--allow-host", metavar="NAME", action="append", default=[],
                     help="a further name by which a page may call this server; addresses always may")
    web.add_argument("--cert", type=Path, metavar="PEM", help="certificate for https")
    web.add_argument("--key", type=Path, metavar="PEM", help="its key, when it is not in the same file")
    web.add_argument("--self-signed", action="store_true",
                     help="https with a certificate made at this start: for phones on the same network")
    drawing = made.add_argument_group("drawing")
    drawing.add_argument("--bundle", type=Path, metavar="DIR",
                         help="what `python -m engine.bundle` made: model, engines and face models come from there, "
                         "checked against their hashes; nothing is written to it")
    drawing.add_argument("--model", action="append",
                         help="a model that came with livetoon, a model folder, or a training run, also while it still "
                         "learns: its newest checkpoint is exported at start (live); given several times, the page "
                         "lets visitors choose the style")
    drawing.add_argument("--backend", default="auto",
                         help="what runs it: auto, openvino, onnxruntime, torch, tensorrt (auto)")
    drawing.add_argument("--precision", default="auto",
                         help="numbers it computes with: auto, fp32, fp16, bf16, int8 (auto)")
    drawing.add_argument("--max-faces", type=int, default=4, metavar="N",
                         help="faces drawn in one picture; further ones are covered (4)")
    drawing.add_argument("--detector", default="shipped",
                         help="what finds small and turned faces: shipped, yunet:FILE.onnx, or insightface:PACK, whose "
                         "models are for non-commercial research only (shipped)")
    drawing.add_argument("--crop", choices=("livetoon", "photo2cartoon"), default="livetoon",
                         help="how faces are framed: photo2cartoon as its public checkpoints learned it (livetoon)")
    drawing.add_argument("--group-rules", type=Path, metavar="JSON",
                         help='who belongs to groups of the model: {"GROUP": {"sex": "F", "ages": [13, 40], "glasses": '
                         'true}}, any of the three (rules for the usual names)')
    video = made.add_argument_group("video")
    video.add_argument("--codec", default="h264", help="tried first: h264 or vp8 (h264)")
    video.add_argument("--bitrate", type=float, default=2.0, metavar="MBPS",
                       help="megabits a second at the start, both ways (2)")
    video.add_argument("--max-bitrate", type=float, default=4.0, metavar="MBPS",
                       help="the cartoon never takes more than this (4)")
    video.add_argument("--max-visitors", type=int, metavar="N",
                       help="visitors at a time (as many as the machine carries, measured at start)")
    video.add_argument("--ice", metavar="URL", action="append", default=[],
                       help="for visitors beyond this network: stun:HOST or turn:USER:PASSWORD@HOST (none)")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until Ctrl-C; the exit code."""
    return cli.run(_command, arguments(), argv)


def _command(options: argparse.Namespace) -> int:
    _check(options)
    # Heavy from here on: `--help` and a wrong option answer without it.
    import cv2

    from faces import detectors
    from faces.groups import RULES, check_rules, read_rules
    from streamer import server
    from streamer.opening import chosen, defaults_of, generator_ms, open_styles, places, process_maker
    from streamer.pipeline import Settings
    from streamer.session import Transport, ice_server
    from streamer.tuning import tuned
    from streamer.visitors import Visitors

    detectors.check(options.detector)
    rules = read_rules(options.group_rules) if options.group_rules else RULES
    _quieten(options.debug)
    sys.setswitchinterval(SWITCH_S)
    cv2.setNumThreads(1)  # a frame is small: handing parts of it to other threads costs more than it saves
    for url in options.ice:
        ice_server(url)
    transport = Transport(options.codec, round(options.bitrate * 1e6), tuple(options.ice))
    names = _names(options)
    tls = _tls(options, names)
    sockets = server.listen(options.host, options.port)
    opened = [
        chosen(options.bundle, model, options.backend, options.precision) for model in options.model or ("live",)
    ]
    styles = open_styles(opened)
    first = [next(iter(runners.values())) for runners in styles.values()]
    for spec in (runner.spec for runner in first):
        log.info("%s: %s by %s on %s, %d thread(s)", spec.name, spec.precision, spec.backend, spec.device, spec.threads)
    most = options.max_visitors or places(max(map(generator_ms, first)), os.cpu_count() or 1)
    groups = {style: list(runners) for style, runners in styles.items()}  # of each
    check_rules(rules, [group for each in groups.values() for group in each])
    about = {
        "version": __version__,
        "model": first[0].spec.name,
        "groups": next(iter(groups.values())),
        "styles": groups,
        "own_lines": [style for style, runners in styles.items() if next(iter(runners.values())).spec.own_lines],
        "max_faces": options.max_faces,
        "defaults": defaults_of(Settings()),
    }

    async def run() -> None:
        make = process_maker(styles, options.max_faces, opened[0].faces, options.detector, options.crop, rules)
        visitors = Visitors(make, Settings(), groups, transport, most)
        await visitors.prepare()
        app = server.application(visitors, about, names)
        await server.serve(app, sockets, tls, lambda: _announce(options, sockets, secure=tls is not None))

    with tuned(transport.start_bps, round(options.max_bitrate * 1e6)):
        asyncio.run(run())
    return 0


def _check(options: argparse.Namespace) -> None:
    if not 0 <= options.port <= 65535:
        raise UsageError(f"--port {options.port}: choose one from 1 to 65535.")
    for flag, value in (("--max-visitors", options.max_visitors), ("--max-faces", options.max_faces)):
        if value is not None and value < 1:
            raise UsageError(f"{flag} {value}: at least 1.")
    if not 0.1 <= options.bitrate <= options.max_bitrate <= 50:
        raise UsageError(
            f"--bitrate {options.bitrate:g} --max-bitrate {options.max_bitrate:g}: from 0.1 to 50, the first not above."
        )
    if options.bundle and options.model:
        raise UsageError("--bundle and --model: choose one of them; a bundle brings its model.")
    if options.key and not options.cert:
        raise UsageError("--key: give the certificate too, with --cert.")
    if options.cert and options.self_signed:
        raise UsageError("--cert and --self-signed: choose one of them.")


def _quieten(debug: bool) -> None:
    """aiortc and aioice tell every packet's story."""
    for name in ("aiortc", "aioice", "libav"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.ERROR)


def _names(options: argparse.Namespace) -> frozenset[str]:
    own = {socket.gethostname().lower(), socket.getfqdn().lower()} if not _is_loopback(options.host) else set()
    return frozenset({"localhost", options.host.lower(), *own, *(name.lower() for name in options.allow_host)})


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _tls(options: argparse.Namespace, names: frozenset[str]) -> ssl.SSLContext | None:
    from streamer import tls

    if options.self_signed:
        return tls.self_signed(names)
    return tls.context_of(options.cert, options.key) if options.cert else None


def _announce(options: argparse.Namespace, sockets: Sequence[socket.socket], secure: bool) -> None:
    from streamer.tls import own_addresses

    port, scheme = sockets[0].getsockname()[1], "https" if secure else "http"
    host = options.host
    if host in ("0.0.0.0", "::"):
        host = next((str(address) for address in own_addresses() if not address.is_loopback), "localhost")
        if not secure:
            print("Other devices may open the page, but browsers give it a camera only with --self-signed or --cert.")
    shown = f"[{host}]" if ":" in host else host
    print(f"livetoon is at {scheme}://{shown}:{port} (Ctrl-C stops)", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
