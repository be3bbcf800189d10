"""The video track: newest frame only, each one drawn anew, nothing raw."""

import asyncio
import threading

import av
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError
from av.video.reformatter import VideoReformatter

from livetoon.errors import DataError
from streamer.media import LONGEST_SIDE, TROUBLE, CartoonTrack, Newest, rgb_of, yuv_of
from tests.streamer.visiting import CLOCK, GreyCamera, Inverting, Settings, until


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20))


def grey_of(frame: av.VideoFrame) -> float:
    return float(frame.to_ndarray(format="rgb24").mean())


def test_the_box_keeps_only_the_newest():
    box = Newest()
    assert box.put(1) is False
    assert box.put(2) is True
    assert box.take() == 2


def test_a_closed_box_lets_its_reader_go():
    box, got = Newest(), []
    reader = threading.Thread(target=lambda: got.append(box.take()))
    reader.start()
    box.close()
    reader.join(5)
    assert got == [None]


def test_a_slow_worker_sends_the_newest_frames_and_none_twice():
    async def scene():
        work = Inverting(seconds=0.08)
        track = CartoonTrack(work, Settings())
        camera = GreyCamera()
        track.follow(camera)
        sent = [await track.recv() for _ in range(8)]
        window = track.report()
        track.stop()
        return work, sent, window

    work, sent, window = run(scene())
    stamps = [frame.pts for frame in sent]
    assert stamps == sorted(set(stamps))
    # 80 ms of work at 30 frames a second: two of three are dropped, and never is a frame older than its successor.
    assert np.median(np.diff(stamps)) >= 2 * 3000
    assert window.dropped > 8
    assert work.times == sorted(work.times)


def test_a_frame_keeps_its_time_and_size_and_is_drawn():
    async def scene():
        track = CartoonTrack(Inverting(), Settings())
        camera = GreyCamera(size=(64, 48), frames=200)
        track.follow(camera)
        first = await track.recv()
        camera.size = (96, 64)
        while (second := await track.recv()).width == 64:
            pass
        track.stop()
        return first, second

    first, second = run(scene())
    assert (first.width, first.height, first.format.name) == (64, 48, "yuv420p")
    assert (second.width, second.height) == (96, 64)
    for frame in (first, second):
        number = round(float(frame.pts * frame.time_base) * 30)
        assert grey_of(frame) == pytest.approx(255 - (20 + number % 200), abs=3)


def test_after_an_error_no_frame_is_sent_until_one_is_drawn_again():
    async def scene():
        work = Inverting()
        track = CartoonTrack(work, Settings())
        track.follow(GreyCamera(frames=300))
        await track.recv()
        work.fails = True
        await until(lambda: track.report().trouble)
        track._out = None  # what was drawn before the error
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(track.recv(), 0.3)
        trouble = track.report().trouble
        work.fails = False
        again = await track.recv()
        track.stop()
        return trouble, again

    trouble, again = run(scene())
    assert trouble == TROUBLE
    number = round(float(again.pts * again.time_base) * 30)
    assert grey_of(again) == pytest.approx(255 - (20 + number % 200), abs=3)


def test_an_error_with_a_sentence_of_ours_reaches_the_page_as_it_is():
    def refuses(frame, t, settings):
        raise DataError("this picture is too small")

    async def scene():
        track = CartoonTrack(refuses, Settings())
        track.follow(GreyCamera(frames=100))
        said = await until(lambda: track.report().trouble)
        track.stop()
        return said

    assert run(scene()) == "this picture is too small"


def test_settings_reach_the_next_frame():
    async def scene():
        work = Inverting()
        track = CartoonTrack(work, Settings())
        track.follow(GreyCamera(frames=100))
        await track.recv()
        track.set(Settings(strength=0.25))
        await until(lambda: work.settings[-1].strength == 0.25)
        track.stop()

    run(scene())


def test_a_stopped_track_ends_its_reader_and_its_worker():
    async def scene():
        track = CartoonTrack(Inverting(), Settings())
        waiting = asyncio.ensure_future(track.recv())
        await asyncio.sleep(0.05)
        track.stop()
        with pytest.raises(MediaStreamError):
            await waiting
        await until(lambda: not track._worker.is_alive(), 5)

    run(scene())


@pytest.mark.parametrize(("width", "height"), [(160, 120), (640, 480), (161, 121), (1920, 1080), (3840, 2160)])
def test_any_camera_becomes_even_and_not_too_large(width, height):
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 90, np.uint8), "rgb24")
    rgb = rgb_of(frame.reformat(format="yuv420p"), VideoReformatter())
    assert rgb.shape[0] % 2 == 0 and rgb.shape[1] % 2 == 0
    assert max(rgb.shape[:2]) <= LONGEST_SIDE
    assert rgb.shape[1] / rgb.shape[0] == pytest.approx(width / height, rel=0.02)


def test_colours_survive_the_way_in_and_out():
    random = np.random.default_rng(0)
    blocks = np.kron(random.integers(0, 256, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    frame = yuv_of(blocks)
    frame.pts, frame.time_base = 0, CLOCK
    back = rgb_of(frame, VideoReformatter())
    assert np.abs(back.astype(int) - blocks).mean() < 3
