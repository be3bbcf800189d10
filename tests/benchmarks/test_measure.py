"""What is made of a run that a page saw: delays, raw faces, the figures of the README. No browser is needed."""

import asyncio
import json

import numpy as np

from benchmarks import clips, measure, readme, streaming

FRAME_MS = 1000 / clips.FPS
LATE_MS = 80.0


class Page:
    """A page that answers with what measure.js would have gathered."""

    def __init__(self, gathered: dict):
        self._gathered = gathered

    async def run(self, expression: str) -> object:
        return len(self._gathered["decoded"]) if "getStats" in expression else self._gathered


def seen(length: int, frames: int, difference: float | None = 20.0, lost: tuple[int, ...] = ()) -> measure.Seen:
    """A run over a clip of `length` frames that comes back 80 ms late; the camera's view missed the frames `lost`.

    difference: of the face from the raw one; None: no number can be read in what came back.
    """
    times = [(number * FRAME_MS, number % length) for number in range(frames)]
    report = {"stages": {"generator": 9.0}, "faces": 1, "received": 15}
    gathered = {
        "clicked": -500.0,
        "firstShown": LATE_MS,
        "camera": [[when, number] for place, (when, number) in enumerate(times) if place not in lost],
        "shown": [[when + LATE_MS, number] for when, number in times],
        "decoded": [
            [when + LATE_MS, None if difference is None else number, difference, difference] for when, number in times
        ],
        "statistics": [
            (when, report | {"server": when, "sent": place, "timestamps": [place, place + 1]})
            for place, (when, _) in enumerate(times)
            if place % 15 == 0
        ],
        "sizes": ["640x480"],
    }
    return asyncio.run(measure.Seen.of(Page(json.loads(json.dumps(gathered)))))


def test_delays_are_right_when_the_clip_begins_again():
    delays = seen(length=60, frames=200, lost=(5, 66, 130)).delays()
    np.testing.assert_allclose(delays[:, 1], LATE_MS)
    assert len(delays) == 197
    assert (np.diff(delays[:, 0]) > 0).all()


def test_a_cartoon_whose_camera_frame_was_never_on_the_screen_has_no_delay():
    delays = seen(length=300, frames=100, lost=(5, 66)).delays()
    np.testing.assert_allclose(delays[:, 1], LATE_MS)
    assert len(delays) == 98


def test_a_frame_that_stays_on_the_screen_counts_once():
    still = seen(length=60, frames=30)
    still.shown[10:15, 1] = still.shown[10, 1]
    np.testing.assert_allclose(still.delays()[:, 1], LATE_MS)
    assert len(still.delays()) == 26


def test_frames_that_could_not_be_read_are_counted_beside_the_raw_ones():
    assert (seen(60, 50).raw_frames(), seen(60, 50).unreadable_frames()) == (0, 0)
    assert (seen(60, 50, 2.0).raw_frames(), seen(60, 50, 2.0).unreadable_frames()) == (50, 0)
    blind = seen(60, 50, None)
    assert (blind.raw_frames(), blind.unreadable_frames()) == (0, 50)
    assert np.isnan(blind.decoded[:, 2:]).all()


def test_the_readme_shows_a_run_as_it_is_written(tmp_path):
    options = streaming.arguments().parse_args(["--faces", "2"])
    load = streaming.Load([0.0, 5.0], [0.0, 2.0], [0.0, 1.0], [0.0, 4.0], [200.0, 201.0], [81.0])
    found = streaming.result(options, "640x480 at 30 fps", seen(300, 600), load)
    (tmp_path / "here-streaming.json").write_text(json.dumps(found))
    text = readme.live_figures(tmp_path)
    assert "Live, 640x480 at 30 fps, server and browser on the same" in text
    assert found["machine"]["processor"] in text
    assert "| delay, median / 95 % | 80 / 80 ms |" in text
    assert "| server / browser | 40 / 20 % of a core |" in text
    assert "0 frames with a raw face, 0 not compared" in streaming._report(found)


def test_clips_are_the_astronaut_unless_a_folder_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("LIVETOON_CLIPS", raising=False)
    assert streaming.arguments().parse_args([]).clips is None
    monkeypatch.setenv("LIVETOON_CLIPS", str(tmp_path))
    assert streaming.arguments().parse_args([]).clips == tmp_path
    assert streaming.main([]) == 2
    assert f"--clips {tmp_path}: none of" in capsys.readouterr().err
