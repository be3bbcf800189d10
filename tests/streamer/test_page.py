"""The whole way: a real server, a real Chromium, and a clip of real faces for its camera."""

import asyncio
import base64
import contextlib
import functools
import io
import json
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from aiohttp import web

from benchmarks import clips, measure
from benchmarks.browser import Chromium, Page
from benchmarks.serving import Served, server
from livetoon.errors import EngineError
from streamer.fallback import NOTICE
from streamer.opening import open_runners
from streamer.pipeline import Pipeline, Result, Settings
from streamer.server import application
from streamer.session import Transport
from streamer.visitors import Visitors

pytestmark = pytest.mark.browser

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "data" / "video"
RUNNING = "document.body.dataset.state === 'running'"
FAILED = "document.body.dataset.state === 'failed'"
SAID = "document.getElementById('failure').innerText"
HINT = "document.getElementById('hint').textContent"
# The cartoon that is on the screen, as a PNG: what a person sees, bit by bit.
GRAB = """(() => {
  const video = document.getElementById('cartoon'), canvas = document.createElement('canvas');
  Object.assign(canvas, {width: video.videoWidth, height: video.videoHeight});
  canvas.getContext('2d').drawImage(video, 0, 0);
  return canvas.toDataURL('image/png').split(',')[1];
})()"""


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def served(loop, model) -> Iterator[Served]:
    """One server for the whole module: a visitor at a time, as on a small machine."""
    context = server("--model", model, "--max-visitors", "1")
    yield loop.run(context.__aenter__())
    loop.run(context.__aexit__(None, None, None))


@functools.cache
def people(number: int) -> list[clips.Person]:
    """Two seconds of each person, to and fro: of the clips beside the checkout, or the astronaut."""
    shown = clips.people(CLIPS, number)
    return [clips.Person(person.frames[:60], person.box) for person in shown]


@functools.cache
def script(number: int, width: int, height: int) -> str:
    return measure.script(people(number), width, height)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Makes the clip of a camera: clip(people, width, height, seconds)."""
    folder = tmp_path_factory.mktemp("clips")

    @functools.cache
    def make(number: int = 1, width: int = 640, height: int = 480, seconds: int = 12) -> Path:
        path = folder / f"{number}-{width}x{height}.mjpeg"
        clips.write(path, clips.camera_frames(people(number), width, height, seconds * clips.FPS))
        return path

    return make


def within(loop: asyncio.Runner, scene: Coroutine, seconds: float = 150):
    return loop.run(asyncio.wait_for(scene, seconds))


async def start(page: Page, seconds: float = 40) -> None:
    await page.click("#start")
    await page.wait_for(RUNNING, seconds)


async def shown(page: Page, frames: int, seconds: float = 60) -> measure.Seen:
    """What was seen once `frames` cartoons were decoded."""
    await page.wait_for(f"livetoonMeasured.decoded.length >= {frames}", seconds)
    return await measure.Seen.of(page)


async def grab(page: Page) -> tuple[int, np.ndarray]:
    """A cartoon from the screen whose number can be read: the number, and (H, W, 3) uint8 RGB."""
    number = None
    while number is None:
        picture = np.frombuffer(base64.b64decode(await page.run(GRAB)), np.uint8)
        cartoon = cv2.cvtColor(cv2.imdecode(picture, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        number = clips.read(cartoon)
    return number, cartoon


def assert_all_drawn(seen: measure.Seen) -> None:
    """No raw face was seen, and nearly every frame could be compared with the raw one of its number."""
    assert seen.raw_frames() == 0
    assert seen.unreadable_frames() < 0.1 * len(seen.decoded)


def offline(pipeline: Pipeline, number: int, before: int = 12) -> tuple[np.ndarray, Result]:
    """This frame of the clip, and what the pipeline makes of it after the `before` frames that come before it."""
    pipeline.reset()
    for at, frame in enumerate(clips.camera_frames(people(1), 640, 480, number + 1)):
        if at >= number - before:
            result = pipeline.process(frame, at / clips.FPS, Settings())
    return frame, result


def psnr_db(one: np.ndarray, other: np.ndarray) -> float:
    return float(20 * np.log10(255 / np.sqrt(np.mean((one.astype(float) - other) ** 2))))


def test_a_face_comes_back_as_the_cartoon_that_the_pipeline_draws(loop, served, clip, model, screenshots):
    async def scene():
        async with Chromium(clip()) as chromium:
            page = await chromium.open(served.address, script(1, 640, 480))
            await page.look(1280, 900)
            await start(page)
            await shown(page, 20)
            grabbed = [await grab(page) for _ in range(3)]
            await page.screenshot(screenshots / "running.png")
            return await measure.Seen.of(page), grabbed

    seen, grabbed = within(loop, scene())
    assert seen.frames_decoded >= 20 and seen.sizes == {"640x480"}
    assert_all_drawn(seen)
    stamps = [stamp for _, message in seen.statistics for stamp in message["timestamps"]]
    assert len(stamps) > 10 and stamps == sorted(set(stamps)), "a frame was sent twice"
    assert len(seen.delays()) > 5 and (seen.delays()[:, 1] > 0).all()
    sent = [message for _, message in seen.statistics]
    assert sent[-1]["faces"] == 1 and sent[-1]["trouble"] is None
    runners = open_runners(model)
    pipeline = Pipeline(runners, list(runners))
    for number, cartoon in grabbed:
        raw, expected = offline(pipeline, number)
        left, top, right, bottom = clips.middle_of(expected.faces[0].box, 640, 480)
        face = np.s_[top:bottom, left:right]
        drawn, same = psnr_db(cartoon[face], expected.frame[face]), psnr_db(cartoon[face], raw[face])
        assert drawn > 22, f"frame {number}: {drawn:.1f} dB from what the pipeline draws"
        assert same < drawn - 6, f"frame {number}: {same:.1f} dB from the raw face"


@contextlib.asynccontextmanager
async def serving(process, styles=None) -> AsyncIterator[str]:
    """The address of a server in this process whose visitors get `process` for a pipeline."""
    styles = styles or {"inverting": []}
    about = {"styles": styles, "own_lines": list(styles)[:1], "max_faces": 4, "defaults": {"group": "auto"}}
    visitors = Visitors(lambda: process, Settings(), styles, Transport(), 1)
    runner = web.AppRunner(application(visitors, about, frozenset({"localhost"})))
    await runner.setup()
    site = web.TCPSite(runner, "localhost", 0)
    await site.start()
    try:
        yield f"http://localhost:{site._server.sockets[0].getsockname()[1]}"
    finally:
        await visitors.close()
        await runner.cleanup()


def test_a_camera_of_which_nothing_can_be_drawn_is_explained_and_stays_hidden(loop, clip):
    def fails(frame: np.ndarray, t: float, settings: Settings) -> Result:
        raise EngineError("The graphics card is gone: start livetoon again.")

    fails.reset = lambda: None

    async def scene():
        async with serving(fails) as address, Chromium(clip()) as chromium:
            page = await chromium.open(address, script(1, 640, 480))
            await page.click("#start")
            said = await page.wait_for("document.getElementById('waiting-text').textContent", 20)
            return said, await page.run("document.body.dataset.state"), await measure.Seen.of(page)

    said, state, seen = within(loop, scene())
    assert said == "The graphics card is gone: start livetoon again."
    assert state == "starting" and len(seen.decoded) == 0


def test_a_card_that_fails_is_told_while_the_cartoon_goes_on(loop, clip, screenshots):
    def process(frame: np.ndarray, t: float, settings: Settings) -> Result:
        return Result(255 - frame, (), {}, {}, notice=process.notice)

    process.reset, process.notice = lambda: None, ""

    async def scene():
        async with serving(process) as address, Chromium(clip()) as chromium:
            page = await chromium.open(address, script(1, 640, 480))
            await page.look(1280, 900)
            await start(page)
            await shown(page, 5)
            before = await page.run("document.getElementById('hint').textContent")
            process.notice = NOTICE
            await page.wait_for(f"document.getElementById('hint').textContent === {json.dumps(NOTICE)}", 10)
            seen = await shown(page, 5)
            await page.screenshot(screenshots / "card-failed.png")
            return before, await page.run("document.body.dataset.state"), seen

    before, state, _ = within(loop, scene())
    assert NOTICE not in before and state == "running"


def test_the_style_changes_without_connecting_anew(loop, clip, screenshots):
    """Each style has its own groups; the one that is chosen comes with the next frames of the same connection."""
    colours = {"": (0, 200, 0), "ink": (0, 200, 0), "webtoon": (200, 0, 0)}
    styles, groups = {"ink": ["young-women", "kids"], "webtoon": ["grown-ups"]}, []

    def plain(frame: np.ndarray, t: float, settings: Settings) -> Result:
        groups.append((settings.style, settings.group))
        return Result(np.full_like(frame, colours[settings.style]), (), {}, {})

    plain.reset = lambda: None
    chips = "[...document.querySelectorAll('#group-chips input')].map((chip) => chip.value)"
    shown = "['own-features', 'groups'].map((id) => document.getElementById(id).offsetHeight > 0)"

    async def colour(page: Page) -> np.ndarray:
        picture = np.frombuffer(base64.b64decode(await page.run(GRAB)), np.uint8)
        return cv2.imdecode(picture, cv2.IMREAD_COLOR)[..., ::-1].mean(axis=(0, 1))

    async def scene():
        async with serving(plain, styles) as address, Chromium(clip()) as chromium:
            page = await chromium.open(address, script(1, 640, 480))
            await page.look(1280, 900)
            await start(page)
            await page.run("window.ended = 0; document.getElementById('cartoon').onemptied = () => { window.ended++; }")
            seen, offered = [await page.run(chips)], [await page.run(shown)]
            await page.click("#group-chips label:last-child")
            while ("ink", "kids") not in groups:
                await asyncio.sleep(0.02)
            for style, channel in (("webtoon", 0), ("ink", 1)):
                await page.click(f"#style-chips label:has([value={style}])")
                for _ in range(200):
                    if (await colour(page)).argmax() == channel and (await colour(page))[channel] > 100:
                        break
                    await asyncio.sleep(0.05)
                else:
                    raise AssertionError(f"{style} never came")
                seen.append(await page.run(chips))
                offered.append(await page.run(shown))
                await page.screenshot(screenshots / f"style-{style}.png")
            return seen, offered, await page.run("window.ended"), await page.run("document.body.dataset.state")

    seen, offered, ended, state = within(loop, scene())
    # The second style reshapes faces and takes none of their lines; of its one group there is nothing to choose.
    assert offered == [[True, True], [False, False], [True, True]]
    assert seen == [["auto", "young-women", "kids"], ["auto", "grown-ups"], ["auto", "young-women", "kids"]]
    assert ended == 0 and state == "running"
    assert {("ink", "kids"), ("webtoon", "auto"), ("ink", "auto")} <= set(groups) <= {
        ("", "auto"), ("ink", "auto"), ("ink", "kids"), ("webtoon", "auto"),
    }  # fmt: skip


def test_the_measure_finds_raw_faces_where_there_are_some(loop, clip):
    """The same measure against a server that sends every frame back as it came: it must cry."""

    def untouched(frame: np.ndarray, t: float, settings: Settings) -> Result:
        return Result(frame, (), {}, {})

    untouched.reset = lambda: None

    async def scene():
        async with serving(untouched) as address, Chromium(clip()) as chromium:
            page = await chromium.open(address, script(1, 640, 480))
            await start(page)
            return await shown(page, 15)

    seen = within(loop, scene())
    assert seen.raw_frames() >= 0.9 * (len(seen.decoded) - seen.unreadable_frames()) > 10


def test_a_second_visitor_waits_with_a_sentence_and_comes_in_by_itself(loop, served, clip, screenshots):
    async def scene():
        async with Chromium(clip()) as chromium:
            first = await chromium.open(served.address)
            await start(first)
            second = await chromium.open(served.address)
            await second.to_front()
            await second.look(390, 844, phone=True)
            await second.click("#start")
            await second.wait_for("document.body.dataset.state === 'waiting'", 10)
            said = await second.run("document.getElementById('waiting-text').textContent")
            await second.screenshot(screenshots / "full.png")
            await first.close()
            await second.wait_for(RUNNING, 15)
            return said

    assert "The one place is taken." in within(loop, scene())


def test_a_killed_tab_is_noticed_and_its_place_is_free_again(loop, served, clip):
    async def scene():
        async with Chromium(clip()) as chromium:
            await start(await chromium.open(served.address))
            heard = len(served.said)
            await chromium.kill()
            killed = loop.get_loop().time()
            while not any("a visitor left" in line for line in served.said[heard:]):
                await asyncio.sleep(0.05)
            return loop.get_loop().time() - killed

    assert within(loop, scene()) < 8  # 3 s of silence on a free machine; without a heartbeat it takes 28 s


def test_a_large_camera_may_change_its_size_on_the_way(loop, served, clip):
    async def scene():
        async with Chromium(clip(1, 1920, 1080, 5)) as chromium:
            page = await chromium.open(served.address, script(1, 1920, 1080))
            await page.choose("#size", "1920x1080")
            await start(page)
            first = await shown(page, 6)
            await page.choose("#size", "1280x720")
            await page.wait_for("livetoonMeasured.sizes.has('1280x720')", 20)
            count = await page.run("livetoonMeasured.decoded.length")
            return first, await shown(page, count + 6)

    first, later = within(loop, scene())
    assert first.sizes == {"1920x1080"}
    assert {"1920x1080", "1280x720"} <= later.sizes
    assert_all_drawn(later)
    assert len(later.decoded) > 10


def test_a_tiny_camera_works(loop, served, clip):
    async def scene():
        async with Chromium(clip(1, 160, 120, 5)) as chromium:
            page = await chromium.open(served.address, script(1, 160, 120))
            await start(page)
            return await shown(page, 20)

    seen = within(loop, scene())
    assert seen.sizes == {"160x120"}
    assert seen.statistics[-1][1]["faces"] == 1
    assert_all_drawn(seen)


def test_five_faces_are_all_covered_and_the_page_says_how_many_are_drawn(loop, served, clip, screenshots):
    async def scene():
        async with Chromium(clip(5, 640, 480, 5)) as chromium:
            page = await chromium.open(served.address, script(5, 640, 480))
            await page.look(1280, 900, dark=True)
            await start(page)
            said = await page.wait_for(f"{HINT}.includes('faces') && {HINT}", 20)
            await page.screenshot(screenshots / "five.png")
            return said, await shown(page, 12)

    said, seen = within(loop, scene())
    assert said == "5 faces, and livetoon draws 4: the others stay covered."
    assert_all_drawn(seen)


TRACKS = "livetoonMeasured.statistics.findLast(([, {tracks}]) => tracks.length)[1].tracks"
# For each face of the last report, from left to right as it is seen in the mirror: what lies over its middle.
OVER_FACES = """TRACKS.toSorted((a, b) => b.box[0] - a.box[0]).map(({box}) => {
  const seen = document.getElementById('cartoon').getBoundingClientRect();
  const video = document.getElementById('cartoon'), ratio = video.videoWidth / video.videoHeight;
  const width = Math.min(seen.width, seen.height * ratio), height = width / ratio;
  const x = (seen.left + seen.right + width) / 2 - width * (box[0] + box[2]) / 2;
  const y = (seen.top + seen.bottom - height) / 2 + height * (box[1] + box[3]) / 2;
  return [...document.querySelectorAll('.person select')].indexOf(document.elementFromPoint(x, y));
})""".replace("TRACKS", TRACKS)
LABELS = "[...document.querySelectorAll('.person select')].map((list) => list.ariaLabel)"


async def press(page: Page, key: str) -> None:
    for kind in ("keyDown", "keyUp"):
        await page.command("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "")


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (1280, 560), (390, 844)], ids=["large", "low", "phone"])
def test_the_face_that_is_pressed_gets_a_group_of_its_own(loop, served, clip, screenshots, width, height):
    async def scene():
        async with Chromium(clip(2, 640, 480, 5)) as chromium:
            page = await chromium.open(served.address, script(2, 640, 480))
            await page.look(width, height, phone=width < height)
            await start(page)
            await page.wait_for("document.querySelectorAll('.person').length === 2", 30)
            over = await page.wait_for(f"{OVER_FACES}.every((at) => at >= 0) && {OVER_FACES}", 20)
            await page.run(f"document.querySelectorAll('.person select')[{over[0]}].focus()")
            await press(page, "k")
            await page.wait_for("document.querySelectorAll('.by-hand').length === 1", 10)
            await page.screenshot(screenshots / f"by-hand-{width}x{height}.png")
            labels = [(await page.run(LABELS))[at] for at in over]
            told = await page.run(TRACKS)
            # Another setting does not undo it, "as everyone" does.
            await page.choose("#size", "640x480")
            await page.run("(tone.value = 0.3, tone.dispatchEvent(new Event('input')))")
            count = await page.run("livetoonMeasured.statistics.length")
            await page.wait_for(f"livetoonMeasured.statistics.length > {count + 2}", 10)
            kept = await page.run("document.querySelectorAll('.by-hand').length")
            await page.choose(f".person:nth-of-type({over[0] + 1}) select", "")
            await page.wait_for("document.querySelectorAll('.by-hand').length === 0", 10)
            await page.click("#stop")
            return over, labels, told, kept, await page.run("document.querySelectorAll('.person').length")

    over, labels, told, kept, left_over = within(loop, scene())
    assert sorted(over) == [0, 1], "each face has a list of its own"
    assert labels[0] == "Face 1 of 2 from the left, drawn as Kids"
    assert labels[1].startswith("Face 2 of 2 from the left, drawn as ")
    assert [face["group"] for face in told if face["by_hand"]] == ["kids"]
    assert kept == 1 and left_over == 0


def test_an_empty_room_gets_a_hint(loop, served, tmp_path):
    wall = np.full((480, 640, 3), 150, np.uint8)
    clips.write(tmp_path / "wall.mjpeg", iter([wall] * 30))

    async def scene():
        async with Chromium(tmp_path / "wall.mjpeg") as chromium:
            page = await chromium.open(served.address, script(1, 640, 480))
            await start(page)
            return await page.wait_for(HINT, 15), await shown(page, 5)

    said, seen = within(loop, scene())
    assert said.startswith("No face in view: come closer")
    # The wall bears no number: such frames must not count as compared.
    assert seen.unreadable_frames() == len(seen.decoded) and seen.raw_frames() == 0


def test_a_camera_that_falls_asleep_gets_a_hint(loop, served, clip):
    async def scene():
        async with Chromium(clip()) as chromium:
            page = await chromium.open(served.address, script(1, 640, 480))
            await start(page)
            await shown(page, 5)
            # Without an `ended` event, as a lid or a privacy switch stops a camera.
            await page.run("document.getElementById('camera-view').srcObject.getVideoTracks()[0].stop()")
            return await page.wait_for(f"{HINT}.includes('sends no pictures') && {HINT}", 20)

    assert within(loop, scene()).startswith("The camera sends no pictures")


def test_no_camera_is_explained(loop, served, screenshots):
    async def scene():
        async with Chromium(None) as chromium:
            page = await chromium.open(served.address)
            await page.look(1280, 900)
            await page.click("#start")
            await page.wait_for(FAILED, 10)
            await page.screenshot(screenshots / "no-camera.png")
            return await page.run(SAID), await page.run("document.activeElement.id")

    said, focused = within(loop, scene())
    assert "No camera was found" in said and "press Try again" in said
    assert focused == "again"


def test_a_refused_camera_is_explained(loop, served, clip):
    async def scene():
        async with Chromium(clip(), ask=True) as chromium:
            refusal = {"permission": {"name": "camera"}, "setting": "denied", "origin": served.address}
            await chromium.command("Browser.setPermission", **refusal)
            page = await chromium.open(served.address)
            await page.click("#start")
            await page.wait_for(FAILED, 10)
            return await page.run(SAID)

    assert "The camera was refused" in within(loop, scene())


def test_an_address_without_https_is_explained(loop, clip, model):
    async def scene():
        flags = ["--host-resolver-rules=MAP livetoon.example 127.0.0.1"]
        async with (
            server("--model", model, "--allow-host", "livetoon.example") as served,
            Chromium(clip(), flags=flags) as chromium,
        ):
            page = await chromium.open(f"http://livetoon.example:{served.port}")
            await page.click("#start")
            await page.wait_for(FAILED, 10)
            return await page.run(SAID), served.port

    said, port = within(loop, scene())
    assert "The camera needs a safe address" in said and f"http://localhost:{port}" in said


def test_a_server_that_comes_back_is_found_again(loop, clip, model):
    async def scene():
        async with Chromium(clip()) as chromium:
            async with server("--model", model) as served:
                page = await chromium.open(served.address)
                await start(page)
                served.process.kill()
                await served.process.wait()
            await page.wait_for("document.body.dataset.state === 'waiting'", 10)
            said = await page.wait_for(
                "document.getElementById('waiting-title').textContent.includes('does not answer')"
                " && document.getElementById('waiting-text').textContent",
                10,
            )
            async with server("--model", model, "--port", served.port):
                await page.wait_for(RUNNING, 20)
            return said

    assert "This page tries again by itself." in within(loop, scene())


def test_controls_reach_the_server_and_stop_gives_the_place_back(loop, served, clip):
    async def scene():
        async with Chromium(clip()) as chromium:
            page = await chromium.open(served.address, script(1, 640, 480))
            await start(page)
            await shown(page, 10)
            # All of the camera, none of the cartoon: only a setting that arrived can show a raw face.
            await page.run("(strength.min = 0, strength.value = 0, strength.dispatchEvent(new Event('input')))")
            count = await page.run("livetoonMeasured.decoded.length")
            seen = await shown(page, count + 15)
            await page.click("#mirror")
            mirrored = await page.run("document.getElementById('stage').classList.contains('mirrored')")
            download = await snapshot(page)
            heard = len(served.said)
            await page.click("#stop")
            await page.wait_for("document.body.dataset.state === 'idle'", 5)
            while not any("a visitor left" in line for line in served.said[heard:]):
                await asyncio.sleep(0.05)
            camera = await page.run("document.getElementById('camera-view').srcObject")
            return seen, mirrored, download, camera

    seen, mirrored, download, camera = within(loop, scene())
    assert seen.decoded[-1, 2] < measure.RAW_BELOW < seen.decoded[5, 2]
    assert not mirrored and camera is None
    name, picture = download
    assert name.startswith("livetoon ") and name.endswith(".png")
    with av.open(io.BytesIO(picture)) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (640, 480)


async def snapshot(page: Page) -> tuple[str, bytes]:
    """Press Snapshot and catch the file that would be saved."""
    await page.run(
        "(HTMLAnchorElement.prototype.click = function () { window.savedAs = this.download; },"
        "URL.createObjectURL = (blob) => { window.savedBlob = blob; return ''; })"
    )
    await page.click("#snapshot")
    name = await page.wait_for("window.savedAs", 5)
    data = await page.run(
        "new Promise((resolve) => { const reader = new FileReader();"
        "reader.onload = () => resolve(reader.result); reader.readAsDataURL(savedBlob); })"
    )
    return name, base64.b64decode(data.split(",")[1])


# What the page works out by itself, fed with times that are known: drawn at uneven times, one in seven not shown.
DELAY = """import('./delay.js').then(({DelayMeter}) => {
  const meter = new DelayMeter();
  const AHEAD = 5000, ENCODE = 8, TRIP = 4, DELAY = 120, ORIGIN = 0xfffff000, TAKEN = 300;
  const takes = [];
  for (let n = 0, at = 0; n < 200; n++) { at += 33 + (n * n) % 7 + (n % 3 ? 0 : 40); takes.push(at); }
  for (let start = 0; start < takes.length; start += 20) {
    const some = takes.slice(start, start + 20), now = TAKEN + some.at(-1) + DELAY;
    for (const at of some) if (at % 7) meter.shown((ORIGIN + at * 90) >>> 0, TAKEN + at + DELAY);
    meter.clock(now, now + AHEAD + 1, now + 2);
    meter.uplink(ENCODE, TRIP);
    meter.statistics({lead: TAKEN + ENCODE + TRIP / 2 + AHEAD, timestamps: some.map((at) => at * 90)});
  }
  return meter.take();
})"""

PACE = """import('./pace.js').then(({Pace}) => {
  const pace = new Pace(), limits = [];
  let sent = 0, now = 0, limit = 30;
  const run = (able, seconds) => {
    for (let tick = 0; tick < 2 * seconds; tick++) {
      now += 500;
      sent += Math.min(limit, able) / 2;
      limit = pace.report({server: now, sent}) ?? limit;
    }
    limits.push(limit);
  };
  run(30, 10); run(18, 10); run(2, 10); run(30, 20);
  return limits;
})"""


def test_the_page_works_out_the_delay_and_asks_for_no_more_frames_than_are_drawn(loop, served):
    async def scene():
        async with Chromium(None) as chromium:
            page = await chromium.open(served.address)
            return await page.run(DELAY), await page.run(PACE)

    delay, limits = within(loop, scene())
    assert delay == pytest.approx(120, abs=1)
    assert limits == [30, 23, 8, 30]


COLOUR_CHOSEN = """((input) => {
  input.value = '#204060';
  input.dispatchEvent(new Event('input', {bubbles: true}));
})(document.getElementById('background-colour'))"""


def test_a_background_is_chosen_and_the_room_is_gone(loop, served, clip, screenshots):
    async def scene():
        async with Chromium(clip()) as chromium:
            page = await chromium.open(served.address, script(1, 640, 480))
            await page.look(1280, 1000)
            await start(page)
            hidden = [await page.run("document.getElementById('background-colour').offsetParent === null")]
            pictures = []
            for kind in ("blur", "plain"):
                await page.click(f"input[name=background][value={kind}]")
                hidden.append(await page.run("document.getElementById('background-colour').offsetParent === null"))
                await page.run(COLOUR_CHOSEN)
                await shown(page, await page.run("livetoonMeasured.decoded.length") + 20)
                coded = np.frombuffer(base64.b64decode(await page.run(GRAB)), np.uint8)
                pictures.append(cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
                await page.screenshot(screenshots / f"background-{kind}.png")
            await page.look(390, 844, phone=True)
            await page.screenshot(screenshots / "background-phone.png")
            return hidden, pictures

    hidden, (blurred, plain) = within(loop, scene())
    assert hidden == [True, True, False]
    # Beside the head, and where the frame's number was painted: black and white blocks.
    for place in (np.s_[:30, :160], np.s_[20:120, -100:-20]):
        assert np.abs(plain[place].astype(int) - (0x20, 0x40, 0x60)).max() < 24
    assert np.abs(np.diff(blurred[:32, :160].astype(int), axis=1)).max() < 24
