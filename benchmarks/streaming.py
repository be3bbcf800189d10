"""`python -m benchmarks.streaming`: the whole way, a real server and a real browser on this machine.

Frames sent and decoded, delay by the frame number painted into the camera's clip, its slope, raw faces ever shown, the
processors that server and browser take, and whether the server's memory grows.
"""

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import clips, measure, timing
from benchmarks.browser import Chromium, Page
from benchmarks.serving import server
from livetoon import cli, files
from livetoon.errors import LivetoonError, UsageError

WARM_UP_S = 3.0  # bitrate, threads and caches settle
LONGEST_CLIP_S = 120  # numbers must not repeat within one delay; 120 s of 640x480 are 250 MB
BIN_S = 5.0
PACKAGES = ("aiortc", "av", "openvino", "onnxruntime", "opencv-python-headless")


def arguments() -> argparse.ArgumentParser:
    """The options of the benchmark."""
    made = cli.parser(
        "python -m benchmarks.streaming",
        "Measure the whole way with a headless Chromium on this machine.",
        "python -m benchmarks.streaming --seconds 60 --codec h264 --json streaming.json --plot streaming.png",
    )
    made.add_argument("--seconds", type=float, default=60, help="length of the measurement, after 3 s of warm-up (60)")
    made.add_argument("--codec", default="h264", choices=("h264", "vp8"), help="what both sides send (h264)")
    made.add_argument("--faces", type=int, default=1, help="people in the camera's picture (1)")
    made.add_argument("--size", default="640x480", help="of the camera (640x480)")
    made.add_argument(
        "--clips",
        type=Path,
        default=os.environ.get("LIVETOON_CLIPS") or None,
        help="folder with clips of people (LIVETOON_CLIPS, or else the astronaut of scikit-image)",
    )
    made.add_argument("--model", default="live", help="model name or folder (live)")
    made.add_argument("--backend", default="auto", help="what runs it (auto)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    made.add_argument("--plot", type=Path, metavar="FILE", help="draw delay, rate, processors and memory over time")
    made.add_argument("--screenshot", type=Path, metavar="FILE", help="save how the page looks at the end")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code."""
    return cli.run(_command, arguments(), argv)


@dataclass
class Load:
    """Samples once a second: when (s), processor seconds used so far (machine_s: by everything, this benchmark and the
    work of others too), and the server's memory in MB."""

    when: list[float] = field(default_factory=list)
    server_s: list[float] = field(default_factory=list)
    browser_s: list[float] = field(default_factory=list)
    machine_s: list[float] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    readout_ms: list[float] = field(default_factory=list)  # the delay that the page itself shows

    def sample(self, server: psutil.Process, browser: Sequence[psutil.Process]) -> None:
        self.when.append(time.monotonic())
        self.server_s.append(_processor_seconds([server]))
        self.browser_s.append(_processor_seconds(browser))
        used = psutil.cpu_times()
        self.machine_s.append(sum(used) - used.idle - getattr(used, "iowait", 0.0))
        self.memory_mb.append(server.memory_info().rss / 1e6)

    def percent(self, seconds: list[float]) -> float:
        """Of one core, from the first sample to the last."""
        return 100 * (seconds[-1] - seconds[0]) / (self.when[-1] - self.when[0])


def result(options: argparse.Namespace, camera: str, seen: measure.Seen, load: Load) -> dict[str, Any]:
    """What the JSON holds of one run; `camera`: its size and rate in words."""
    return {
        "benchmark": "streaming",
        "codec": options.codec,
        "camera": camera,
        "faces": options.faces,
        "model": options.model,
        **figures(seen, load),
        "machine": timing.described_machine(PACKAGES),
    }


def figures(seen: measure.Seen, load: Load) -> dict[str, Any]:
    """What was measured after the warm-up."""
    begins = seen.first_shown + WARM_UP_S * 1000
    delays = seen.delays()
    delays = delays[delays[:, 0] >= begins]
    reports = [(when, message) for when, message in seen.statistics if when >= begins]
    if len(delays) < 10 or len(reports) < 3:
        raise LivetoonError(f"only {len(delays)} frames came back with a number that can be read: run it longer.")
    (_, first), (_, last) = reports[0], reports[-1]
    seconds = (last["server"] - first["server"]) / 1000
    stamps = [stamp for _, message in reports[1:] for stamp in message["timestamps"]]
    stages = {
        name: [message["stages"][name] for _, message in reports if name in message["stages"]]
        for name in last["stages"]
    }
    server, browser = load.percent(load.server_s), load.percent(load.browser_s)
    shown_s = (seen.shown[-1, 0] - begins) / 1000
    decoded = seen.decoded[seen.decoded[:, 0] >= begins]
    return {
        "frames_per_s": round(len(set(stamps)) / seconds, 2),
        "frames_sent": last["sent"] - first["sent"],
        "frames_repeated": len(stamps) - len(set(stamps)),
        "frames_decoded_per_s": round(len(decoded) / ((decoded[-1, 0] - decoded[0, 0]) / 1000), 2),
        "frames_shown_per_s": round(int((seen.shown[:, 0] >= begins).sum()) / shown_s, 2),
        "frames_received_per_s": round(sum(message["received"] for _, message in reports[1:]) / seconds, 2),
        "delay_ms_p50": round(float(np.median(delays[:, 1])), 1),
        "delay_ms_p95": round(float(np.percentile(delays[:, 1], 95)), 1),
        "delay_ms_shown_by_page": round(float(np.median(load.readout_ms)), 1) if load.readout_ms else None,
        "slope_ms_per_10s": round(slope(delays), 2),
        "raw_face_frames": seen.raw_frames(),
        "unreadable_frames": seen.unreadable_frames(),
        "least_face_difference": round(float(np.nanmin(seen.decoded[:, 2:])), 1),
        "server_cpu": round(server, 1),
        "browser_cpu": round(browser, 1),
        "other_cpu": round(load.percent(load.machine_s) - server - browser, 1),
        "memory_mb": round(load.memory_mb[-1], 1),
        "memory_mb_last_30s": round(growth(load), 2),
        "start_to_first_frame_s": round((seen.first_shown - seen.clicked) / 1000, 3),
        "stages_ms": {name: round(float(np.median(times)), 2) for name, times in stages.items()},
        "sizes": sorted(seen.sizes),
        "seconds": round(seconds, 1),
    }


def slope(delays: np.ndarray) -> float:
    """Ms of delay gained in 10 s: a line through the medians of 5 s each."""
    when, bins = binned(delays)
    return float(np.polyfit(when, bins, 1)[0] * 10) if len(when) > 1 else 0.0


def binned(delays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middle of each 5 s bin in seconds, and the median delay in it, ms."""
    seconds = (delays[:, 0] - delays[0, 0]) / 1000
    number = (seconds // BIN_S).astype(int)
    filled = [one for one in np.unique(number) if (number == one).sum() >= 10]
    medians = [float(np.median(delays[number == one, 1])) for one in filled]
    return (np.array(filled) + 0.5) * BIN_S, np.array(medians)


def growth(load: Load) -> float:
    """MB that the server's memory gained over the last 30 s, by a straight line through it."""
    when, memory = np.array(load.when), np.array(load.memory_mb)
    last = when >= when[-1] - 30
    return float(np.polyfit(when[last], memory[last], 1)[0] * 30) if last.sum() > 2 else 0.0


async def run(options: argparse.Namespace, width: int, height: int) -> tuple[measure.Seen, Load]:
    """Start a server and a browser, let them run, and return what was seen."""
    people = clips.people(options.clips, options.faces)
    with tempfile.TemporaryDirectory(prefix="livetoon-") as folder:
        clip = Path(folder) / "camera.mjpeg"
        length = int(min(options.seconds + WARM_UP_S + 10, LONGEST_CLIP_S) * clips.FPS)
        print(f"drawing the camera's clip of {length / clips.FPS:.0f} s", file=sys.stderr)
        clips.write(clip, clips.camera_frames(people, width, height, length))
        script = measure.script(people, width, height)
        async with (
            server(
                "--codec",
                options.codec,
                "--model",
                options.model,
                "--backend",
                options.backend,
                "--max-faces",
                str(max(4, options.faces)),
            ) as served,
            Chromium(clip) as chromium,
        ):
            page = await chromium.open(served.address, script)
            await page.look(1280, 900)
            await page.choose("#size", f"{width}x{height}")
            load = Load()
            print(f"measuring for {options.seconds:g} s", file=sys.stderr)
            await page.click("#start")
            await page.wait_for("livetoonMeasured.firstShown", 20)
            await asyncio.sleep(WARM_UP_S)
            await _watch(page, chromium, psutil.Process(served.process.pid), load, options.seconds)
            seen = await measure.Seen.of(page)
            if options.screenshot:
                await page.screenshot(options.screenshot)
            return seen, load


async def _watch(page: Page, chromium: Chromium, process: psutil.Process, load: Load, seconds: float) -> None:
    until = time.monotonic() + seconds
    while True:
        load.sample(process, chromium.processes())
        left = until - time.monotonic()
        if left <= 0:
            return
        state, readout = await page.run("[document.body.dataset.state, parseInt(delay.textContent)]")
        if readout is not None:
            load.readout_ms.append(readout)
        if state != "running":
            raise LivetoonError(f"the page stopped: {await page.run('document.body.innerText')}")
        if sys.stderr.isatty():
            print(f"\r{left:3.0f} s left ", end="", file=sys.stderr)
        await asyncio.sleep(min(1.0, left))


def _processor_seconds(processes: Sequence[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _command(options: argparse.Namespace) -> None:
    try:
        width, height = map(int, options.size.split("x"))
    except ValueError:
        raise UsageError(f"--size {options.size}: write it as 640x480") from None
    if options.seconds < 5 or options.faces < 1:
        raise UsageError("--seconds is at least 5, --faces at least 1")
    if options.clips and not clips.clips_in(options.clips):
        raise UsageError(f"--clips {options.clips}: none of {', '.join(clips.CLIPS)} there; without it the astronaut")
    seen, load = asyncio.run(run(options, width, height))
    found = result(options, f"{width}x{height} at {clips.FPS} fps", seen, load)
    if options.json:
        files.write_json(options.json, found)
    if options.plot:
        plot(options.plot, seen, load, found)
    print(_report(found))


def plot(path: Path, seen: measure.Seen, load: Load, found: dict[str, Any]) -> None:
    """Draw the run over time: delay, frames a second, processors, memory."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    delays = seen.delays()
    zero = seen.first_shown
    figure, axes = pyplot.subplots(2, 2, figsize=(12, 7), constrained_layout=True, sharex=True)
    (delay, rate), (processors, memory) = axes
    delay.plot((delays[:, 0] - zero) / 1000, delays[:, 1], ".", ms=3, alpha=0.35, color="#d8432b")
    when, medians = binned(delays)
    delay.plot((delays[0, 0] - zero) / 1000 + when, medians, lw=2, color="#1f1b16", label="median of 5 s")
    delay.set(
        title=f"Delay, camera to cartoon: p50 {found['delay_ms_p50']:.0f} ms, p95 {found['delay_ms_p95']:.0f} ms",
        ylabel="ms",
        ylim=(0, max(250, float(np.percentile(delays[:, 1], 99)) * 1.2)),
    )
    delay.legend(frameon=False)
    whole = np.arange(0, (seen.decoded[-1, 0] - zero) / 1000)
    for name, times, colour in (("camera", seen.camera, "#a89f91"), ("cartoons decoded", seen.decoded, "#d8432b")):
        counts = np.histogram((times[:, 0] - zero) / 1000, bins=whole)[0]
        rate.step(whole[:-1], counts, where="post", label=name, color=colour)
    rate.set(title=f"Frames a second: {found['frames_per_s']:.1f} sent, each drawn anew", ylim=(0, 35))
    rate.legend(frameon=False, loc="lower right")
    seconds = np.array(load.when) - load.when[0] + WARM_UP_S
    for name, used, colour in (("server", load.server_s, "#d8432b"), ("browser", load.browser_s, "#2f6f9e")):
        processors.plot(seconds[1:], 100 * np.diff(used) / np.diff(seconds), label=name, color=colour)
    used = f"server {found['server_cpu']:.0f} %, browser {found['browser_cpu']:.0f} % of a core"
    processors.set(title=f"Processors: {used}", xlabel="s", ylabel="% of a core", ylim=(0, None))
    processors.legend(frameon=False)
    memory.plot(seconds, load.memory_mb, color="#1f1b16")
    memory.set(
        title=f"Server memory: {found['memory_mb_last_30s']:+.1f} MB in the last 30 s",
        xlabel="s",
        ylabel="MB",
        ylim=(0, max(load.memory_mb) * 1.3),
    )
    machine = found["machine"]
    figure.suptitle(
        f"livetoon, {found['camera']}, {found['faces']} face(s), {found['codec']}, "
        f"{machine['processor']}, {machine['cores']} cores, browser on the same machine"
    )
    for axis in axes.flat:
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    with files.replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)


def _report(found: dict[str, Any]) -> str:
    lines = [
        f"{found['camera']}, {found['faces']} face(s), {found['codec']}, {found['seconds']:.0f} s",
        f"sent      {found['frames_per_s']:.1f} different frames a second ({found['frames_received_per_s']:.1f} came, "
        f"{found['frames_decoded_per_s']:.1f} decoded, {found['frames_shown_per_s']:.1f} shown)",
        f"delay     p50 {found['delay_ms_p50']:.0f} ms, p95 {found['delay_ms_p95']:.0f} ms, "
        f"{found['slope_ms_per_10s']:+.1f} ms in 10 s; first cartoon after {found['start_to_first_frame_s']:.2f} s",
        f"raw       {found['raw_face_frames']} frames with a raw face, {found['unreadable_frames']} not compared",
        f"processor server {found['server_cpu']:.0f} %, browser {found['browser_cpu']:.0f} %, "
        f"all else {found['other_cpu']:.0f} % of a core",
        f"memory    {found['memory_mb']:.0f} MB, {found['memory_mb_last_30s']:+.1f} MB in the last 30 s",
        "stages    " + ", ".join(f"{name} {ms:.1f}" for name, ms in found["stages_ms"].items()) + " ms",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
