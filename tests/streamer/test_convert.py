"""Files as cartoons: every kind comes out whole, and what cannot be drawn leaves nothing behind."""

import io
import os
import re
import resource
import signal
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import PIL.Image
import pytest
from skimage import data

from livetoon.errors import DataError, UsageError
from streamer import convert as command
from streamer import exif, pictures, videos
from streamer.convert import Progress, main, plan

SILENT = command.Progress("", io.StringIO())


def frame_of(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """Smooth colours that move, so that frames can be told apart after encoding."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x * 2 % 256, y * 3 % 256, np.full_like(x, 20 + 5 * number)], -1).astype(np.uint8)


def make_video(
    path: Path,
    times: list[int] = tuple(range(20)),
    size: tuple[int, int] = (96, 64),
    sound: str | None = "aac",
    pixels: str = "yuv420p",
    title: str = "A test",
) -> Path:
    """A clip whose frames are shown at `times` (in 1/30 s), with a second of sound for each 30 of them."""
    with av.open(str(path), "w") as out:
        out.metadata["title"] = title
        video = out.add_stream("libvpx-vp9" if path.suffix == ".webm" else "libx264", rate=30)
        video.width, video.height, video.pix_fmt = *size, pixels
        video.codec_context.time_base = Fraction(1, 30)
        audio = out.add_stream(sound, rate=48000) if sound else None
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(frame_of(number, *size), "rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = time, Fraction(1, 30)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio:
            tone = np.sin(np.arange(48000 * (times[-1] + 1) // 30) / 20).astype(np.float32)
            resampler = av.AudioResampler(format=audio.codec_context.format, layout="mono", rate=48000, frame_size=960)
            for start in range(0, len(tone) - 959, 960):
                piece = av.AudioFrame.from_ndarray(tone[None, start : start + 960], "fltp", "mono")
                piece.rate, piece.pts = 48000, start
                for ready in resampler.resample(piece):
                    out.mux(audio.encode(ready))
            out.mux(audio.encode(None))
    return path


def negative(rgb: np.ndarray, t: float) -> np.ndarray:
    return 255 - rgb


def frames_of(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as file:
        return list(file.decode(video=0))


def packets_of(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(**{kind: 0}) if packet.size]


def to_file(source: Path, target: Path, draw=negative) -> int:
    return videos.convert(source, target, draw, lambda share: None)


@pytest.fixture
def draw(model):
    """The real pipeline, as the command opens it."""
    return command._opened(command.arguments().parse_args(["in", "out", "--model", model]))


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_every_frame_is_drawn_and_the_sound_is_the_same_bytes(tmp_path, ending):
    source = make_video(tmp_path / f"in{ending}")
    target = tmp_path / f"out{ending}"
    assert to_file(source, target) == 20
    drawn = frames_of(target)
    assert len(drawn) == 20
    for number, frame in enumerate(drawn):
        error = np.abs(frame.to_ndarray(format="rgb24").astype(int) - (255 - frame_of(number)))
        assert error.mean() < 12, number
    assert packets_of(target, "audio") == packets_of(source, "audio")
    with av.open(str(target)) as file:
        assert file.metadata["title"] == "A test"


def test_webm_is_written_as_webm(tmp_path):
    source = make_video(tmp_path / "in.webm", sound="libopus")
    assert to_file(source, tmp_path / "out.webm") == 20
    assert packets_of(tmp_path / "out.webm", "audio") == packets_of(source, "audio")


@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi"])
def test_frames_at_uneven_times_stay_where_they_were(tmp_path, ending):
    times = [0, 1, 2, 7, 8, 20, 21, 40]
    source = make_video(tmp_path / "in.mp4", times, sound=None)
    target, seen = tmp_path / f"out{ending}", []
    to_file(source, target, lambda rgb, t: seen.append(t) or rgb)
    assert seen == pytest.approx([time / 30 for time in times], abs=1e-3)
    if ending == ".avi":  # it has no other times than those of the packets, which must then come as they are shown
        with av.open(str(target)) as file:
            shown = [float(packet.dts * packet.time_base) for packet in file.demux(video=0) if packet.size]
    else:
        shown = [frame.time for frame in frames_of(target)]
    assert shown == pytest.approx(seen, abs=1e-3)


def test_an_avi_is_written_and_read_in_the_order_of_showing(tmp_path):
    """Its packets are in the order of decoding, without the times of showing."""
    source = make_video(tmp_path / "in.avi", sound="mp2")
    with av.open(str(source)) as file:
        assert file.streams.video[0].codec_context.has_b_frames
    seen = []
    to_file(source, tmp_path / "out.avi", lambda rgb, t: seen.append((t, rgb[..., 2].mean())) or rgb)
    again = []
    to_file(tmp_path / "out.avi", tmp_path / "out.mp4", lambda rgb, t: again.append((t, rgb[..., 2].mean())) or rgb)
    for found in (seen, again):
        times, brightness = zip(*found, strict=True)
        assert times == pytest.approx([number / 30 for number in range(20)], abs=1e-3)
        assert list(brightness) == sorted(brightness)


def test_odd_sides_lose_nothing(tmp_path):
    source = make_video(tmp_path / "in.mkv", size=(95, 63), pixels="yuv444p", sound=None)
    seen = []
    to_file(source, tmp_path / "out.mkv", lambda rgb, t: seen.append(rgb.shape) or rgb)
    assert set(seen) == {(63, 95, 3)}
    assert {(frame.width, frame.height) for frame in frames_of(tmp_path / "out.mkv")} == {(96, 64)}


@pytest.mark.parametrize(("degrees", "turns"), [(90, 3), (180, 2), (270, 1)])
def test_a_turned_video_is_drawn_upright(tmp_path, degrees, turns):
    upright = make_video(tmp_path / "flat.mp4", sound=None)
    source = tmp_path / "in.mp4"
    turned_matrix(upright, source, degrees)
    seen = []
    to_file(source, tmp_path / "out.mp4", lambda rgb, t: seen.append(rgb.copy()) or rgb)
    expected = np.rot90(frames_of(upright)[0].to_ndarray(format="rgb24"), turns)
    assert seen[0].shape == expected.shape
    assert np.abs(seen[0].astype(int) - expected).mean() < 3
    drawn = frames_of(tmp_path / "out.mp4")[0]
    assert (drawn.height, drawn.width) == expected.shape[:2] and drawn.rotation == 0


def turned_matrix(source: Path, target: Path, degrees: int) -> None:
    """Copy an .mp4 and say in its track header that players turn it clockwise by `degrees`, as phones do."""
    one, data = 1 << 16, bytearray(source.read_bytes())
    matrix = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = matrix
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    target.write_bytes(data)


def test_colours_are_kept_in_small_and_in_large_video(tmp_path):
    for width, height in ((96, 64), (1280, 720)):
        source = make_video(tmp_path / "in.mp4", [0, 1], (width, height), sound=None)
        to_file(source, tmp_path / "out.mp4", lambda rgb, t: rgb)
        before, after = (frames_of(tmp_path / name)[1].to_ndarray(format="rgb24") for name in ("in.mp4", "out.mp4"))
        # HD comes in tagged as unknown here; what counts is that what was drawn is what is written.
        assert np.abs(before.astype(int) - after).mean() < 6


SPOILT = {
    "zero.mp4": (lambda whole: b"", "is empty"),
    "noise.mp4": (lambda whole: np.random.default_rng(0).bytes(5000), "not a video that can be read"),
    "cut.mp4": (lambda whole: whole[: len(whole) // 2], "not a video that can be read"),
    "zero.jpg": (lambda whole: b"", "is empty"),
    "noise.png": (lambda whole: np.random.default_rng(0).bytes(5000), "not a picture"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_file_is_named_and_leaves_nothing_behind(tmp_path, name, draw):
    spoil, sentence = SPOILT[name]
    whole = make_video(tmp_path / "whole.mp4").read_bytes()
    source = tmp_path / name
    source.write_bytes(spoil(whole))
    out = tmp_path / "out"
    with pytest.raises(DataError, match=sentence):
        command.convert(source, out / name, draw, SILENT)
    assert list(out.iterdir()) == []


def test_a_video_that_was_cut_off_is_not_taken_for_whole(tmp_path):
    whole = make_video(tmp_path / "whole.mkv", list(range(150))).read_bytes()
    source = tmp_path / "cut.mkv"
    source.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut off at \d\.\d of 5\.0 s"):
        to_file(source, tmp_path / "out.mkv")


def test_a_video_that_is_damaged_on_the_way_is_not_taken_for_whole(tmp_path):
    data = bytearray(make_video(tmp_path / "whole.mp4", list(range(90)), (320, 240), sound=None).read_bytes())
    begin = data.index(b"mdat") + 4
    middle = begin + (data.index(b"moov") - begin) // 2
    data[middle : middle + 2000] = bytes((number * 7919) & 255 for number in range(2000))
    source = tmp_path / "damaged.mp4"
    source.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged after \d\.\d s"):
        to_file(source, tmp_path / "out.mp4")


def test_sound_alone_is_no_video(tmp_path):
    source = tmp_path / "song.m4a"
    with av.open(str(source), "w", format="mp4") as out:
        audio = out.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate, frame.pts = 48000, 0
        out.mux(audio.encode(frame))
        out.mux(audio.encode(None))
    with pytest.raises(DataError, match="holds no moving picture"):
        to_file(source, tmp_path / "out.mp4")


def with_cover(path: Path) -> Path:
    """A clip with a cover picture, as players show it in a list."""
    plain = make_video(path.with_stem("plain"), sound=None)
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        copied = out.add_stream_from_template(source.streams.video[0])
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        out.start_encoding()
        jpeg = av.Packet(cv2.imencode(".jpg", np.zeros((32, 32, 3), np.uint8))[1].tobytes() + RAW)
        jpeg.stream, jpeg.pts, jpeg.dts, jpeg.is_keyframe = cover, 0, 0, True
        out.mux(jpeg)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copied
                out.mux(packet)
    return path


def test_a_cover_picture_is_not_copied(tmp_path):
    source = with_cover(tmp_path / "in.mp4")
    assert RAW in source.read_bytes()
    assert to_file(source, tmp_path / "out.mp4") == 20
    assert RAW not in (tmp_path / "out.mp4").read_bytes()


def test_a_picture_hidden_in_a_tag_is_not_copied(tmp_path):
    source = make_video(tmp_path / "in.mkv", sound=None, title="picture" * 1000)
    assert to_file(source, tmp_path / "out.mkv") == 20
    assert b"picturepicture" not in (tmp_path / "out.mkv").read_bytes()


def test_a_tag_in_another_alphabet_does_not_stop_a_video(tmp_path):
    source = make_video(tmp_path / "in.mkv", title="A test")
    source.write_bytes(source.read_bytes().replace(b"A test", b"\xe9 test"))
    assert to_file(source, tmp_path / "out.mkv") == 20
    with av.open(str(tmp_path / "out.mkv")) as file:
        assert file.metadata["title"] == "\ufffd test"


def spoilt(path: Path, old: bytes, new: bytes, **made) -> Path:
    make_video(path, **made)
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


def test_what_cannot_be_read_or_written_is_explained(tmp_path):
    for source, ending, sentence in (
        (make_video(tmp_path / "opus.webm", sound="libopus"), ".mov", r"\.mov cannot hold .*opus.* ends in \.mkv"),
        (spoilt(tmp_path / "video.mkv", b"V_MPEG4/ISO/AVC", b"V_MPEG4/ISO/AVX"), ".mkv", "convert it to H.264 first"),
        (spoilt(tmp_path / "sound.mkv", b"A_AAC", b"A_AAX"), ".mkv", "audio of an unknown kind"),
    ):
        with pytest.raises(DataError, match=sentence) as caught:
            to_file(source, tmp_path / f"out{ending}")
        assert str(source) in str(caught.value)


def test_sound_that_does_not_fit_the_ending_is_explained(tmp_path):
    source = make_video(tmp_path / "in.mp4")
    with pytest.raises(DataError, match=r"\.webm cannot hold the audio.*\.mkv"):
        to_file(source, tmp_path / "out.webm")


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.png"])
def test_a_full_disk_is_explained_and_leaves_nothing_behind(tmp_path, name, model):
    out = tmp_path / "out"
    out.mkdir()
    if name.endswith(".png"):
        source = tmp_path / "in.png"
        noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
        cv2.imwrite(str(source), noise)
    else:
        source = make_video(tmp_path / f"in{Path(name).suffix}", list(range(60)), (320, 240))

    def small_disk() -> None:
        # No file may grow beyond this: what the system then says is what it says of a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = subprocess.run(
        [sys.executable, "-m", "streamer.convert", source, out / name, "--model", model],
        env=os.environ | {"LIVETOON_CACHE": str(tmp_path / "cache")},
        preexec_fn=small_disk,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert f"There is no room for {out / name}" in done.stderr.splitlines()[-1]
    assert list(out.iterdir()) == []


def test_an_interrupted_run_leaves_nothing_half_written_and_goes_on(tmp_path, model):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    cv2.imwrite(str(source / "a.png"), frame_of(1))
    make_video(source / "b.mp4", list(range(600)), (320, 240))
    options = [sys.executable, "-m", "streamer.convert", source, out, "--model", model]
    process = subprocess.Popen(options, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if "b.mp4: 10 %" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    process.stderr.close()
    assert process.returncode == 130
    assert [path.name for path in out.iterdir()] == ["a.png"]
    assert [path.name for path, _ in plan(source, out)] == ["b.mp4"]


def test_pictures_of_every_kind_are_drawn(tmp_path, draw):
    grey = frame_of(3)[..., 0]
    colour = frame_of(3)
    alpha = np.dstack([colour, np.tile(np.arange(96, dtype=np.uint8), (64, 1))])
    for name, pixels in {
        "grey.png": grey,
        "grey16.png": grey.astype(np.uint16) * 256,
        "colour.jpg": colour,
        "colour.bmp": colour,
        "colour.tif": colour,
        "alpha.png": alpha,
        "alpha.webp": alpha,
    }.items():
        cv2.imwrite(str(tmp_path / name), pixels)
        command.convert(tmp_path / name, tmp_path / "out" / name, draw, SILENT)
        drawn = cv2.imread(str(tmp_path / "out" / name), cv2.IMREAD_UNCHANGED)
        assert drawn.shape[:2] == (64, 96), name
        assert drawn.shape[2] == (4 if "alpha" in name else 3), name
    drawn = cv2.imread(str(tmp_path / "out" / "alpha.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(drawn[..., 3], alpha[..., 3])


def test_alpha_is_laid_on_white_where_the_format_has_none(tmp_path):
    picture = pictures.Picture(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
    pictures.write(tmp_path / "out.jpg", picture)
    assert cv2.imread(str(tmp_path / "out.jpg")).min() > 250


def with_orientation(jpeg: bytes, orientation: int, order: str = ">") -> bytes:
    """`jpeg` with an EXIF block as a camera writes it: its orientation, and a maker's name that must be kept."""
    entries = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    entries += struct.pack(f"{order}HHI4s", 0x010F, 2, 4, b"cam\0")
    mark = b"MM" if order == ">" else b"II"
    tiff = mark + struct.pack(f"{order}HIH", 42, 8, 2) + entries + b"\0\0\0\0"
    block = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_held_in_any_way_gives_an_upright_picture(tmp_path, orientation, order):
    pixels = frame_of(4)
    jpeg = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()
    source = tmp_path / "in.jpg"
    source.write_bytes(with_orientation(jpeg, orientation, order))
    picture = pictures.read(source)
    # OpenCV turns by EXIF when it is asked for plain colours: the same picture by another way.
    expected = cv2.cvtColor(cv2.imread(str(source), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert picture.rgb.shape == expected.shape
    assert np.abs(picture.rgb.astype(int) - expected).mean() < 2
    pictures.write(tmp_path / "out.jpg", picture)
    written = (tmp_path / "out.jpg").read_bytes()
    assert b"cam\0" in written
    again = pictures.read(tmp_path / "out.jpg")
    assert np.abs(again.rgb.astype(int) - expected).mean() < 4


RAW = b"\xff\xd8 the face as it was \xff\xd9"  # stands for the small pictures that cameras and programs store


def directory(entries: list[tuple[int, int, int, bytes]], at: int, following: int = 0) -> bytes:
    """A TIFF directory at `at`, big-endian: (tag, kind, number of values, bytes) of each entry."""
    fields, values = b"", b""
    for tag, kind, number, value in entries:
        where = struct.pack(">I", at + 2 + 12 * len(entries) + 4 + len(values))
        fields += struct.pack(">HHI", tag, kind, number) + (where if len(value) > 4 else value.ljust(4, b"\0"))
        values += value if len(value) > 4 else b""
    return struct.pack(">H", len(entries)) + fields + struct.pack(">I", following) + values


def of_a_camera(jpeg: bytes) -> bytes:
    """`jpeg` with all that a phone puts into it, and four copies of the raw face in small."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    shot = directory([(0x9003, 2, 20, b"2024:05:01 12:00:00\0"), (0x927C, 7, 600, RAW * 24)], 8)
    place = directory([(0x0001, 2, 2, b"N\0")], 8 + len(shot))
    thumbnail = directory([(0x0201, 4, 1, b"\0\0\0\0"), (0x0202, 4, 1, b"\0\0\0\0")], 8 + len(shot) + len(place)) + RAW
    before = shot + place + thumbnail
    entries = [
        (0x0110, 2, 10, b"Telephone\0"),
        (0x0112, 3, 1, b"\0\6"),
        (0x8769, 4, 1, struct.pack(">I", 8)),
        (0x8825, 4, 1, struct.pack(">I", 8 + len(shot))),
    ]
    main = directory(entries, 8 + len(before), 8 + len(shot) + len(place))
    exif = b"Exif\0\0MM" + struct.pack(">HI", 42, 8 + len(before)) + before + main
    blocks = segment(0xE1, exif) + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + RAW)
    blocks += segment(0xE2, b"ICC_PROFILE\0\1\1colours") + segment(0xE2, b"MPF\0" + RAW)
    return jpeg[:2] + blocks + jpeg[2:] + RAW


def test_no_thumbnail_of_the_raw_face_is_left_and_the_rest_is_kept(tmp_path):
    jpeg = cv2.imencode(".jpg", frame_of(4))[1].tobytes()
    (tmp_path / "in.jpg").write_bytes(of_a_camera(jpeg))
    pictures.write(tmp_path / "out.jpg", pictures.read(tmp_path / "in.jpg"))
    written = (tmp_path / "out.jpg").read_bytes()
    assert b"face as it was" not in written
    assert b"ICC_PROFILE\0\1\1colours" in written
    kept = PIL.Image.open(tmp_path / "out.jpg").getexif()
    assert dict(kept.get_ifd(0x8769)) == {0x9003: "2024:05:01 12:00:00"}
    assert dict(kept.get_ifd(0x8825)) == {1: "N"}
    assert kept[0x0110] == "Telephone" and 0x0112 not in kept  # the pixels were turned


@pytest.mark.parametrize("length", range(8, 300, 7))
def test_exif_that_was_cut_off_is_read_as_far_as_it_goes(length):
    whole = of_a_camera(b"\xff\xd8")
    cut = whole[12 : 12 + length]
    assert exif.orientation(exif.tidied(cut)) == 1
    assert RAW not in exif.tidied(cut)


def test_a_jpeg_with_filled_up_markers_is_whole(tmp_path):
    jpeg = cv2.imencode(".jpg", frame_of(4))[1].tobytes()
    (tmp_path / "in.jpg").write_bytes(jpeg[:2] + b"\xff\xff" + jpeg[2:])
    assert pictures.read(tmp_path / "in.jpg").rgb.shape == (64, 96, 3)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_pngs_texts_are_kept_and_the_pictures_in_them_are_not(tmp_path):
    png = cv2.imencode(".png", frame_of(1))[1].tobytes()
    author = chunk(b"tEXt", b"Author\0somebody")
    foreign = chunk(b"iTXt", b"XML:com.adobe.xmp\0" + RAW) + chunk(b"tEXt", b"Raw profile type exif\0" + RAW)
    source = tmp_path / "in.png"
    source.write_bytes(png[:33] + author + foreign + chunk(b"eXIf", RAW) + png[33:])
    pictures.write(tmp_path / "out.png", pictures.read(source))
    written = (tmp_path / "out.png").read_bytes()
    assert author in written and b"face as it was" not in written
    assert pictures.read(tmp_path / "out.png").rgb.shape == (64, 96, 3)


def test_a_picture_with_too_many_pixels_is_explained(tmp_path):
    source = tmp_path / "huge.png"
    head = struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    source.write_bytes(pictures.PNG_START + data)
    with pytest.raises(DataError, match=r"huge\.png is too large or damaged: make it smaller first"):
        pictures.read(source)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
def test_a_picture_that_was_cut_off_is_not_taken_for_whole(tmp_path, ending):
    noise = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    data = cv2.imencode(ending, noise)[1].tobytes()
    source = tmp_path / f"cut{ending}"
    for length in (len(data) // 3, len(data) - 30):
        source.write_bytes(data[:length])
        with pytest.raises(DataError, match="cut off or damaged"):
            pictures.read(source)


def test_wrong_use_is_told_before_anything_is_opened(tmp_path):
    video, picture, folder = tmp_path / "a.mp4", tmp_path / "a.png", tmp_path / "folder"
    video.write_bytes(b"x")
    picture.write_bytes(b"x")
    (folder / "inner").mkdir(parents=True)
    (folder / "b.png").write_bytes(b"x")
    for source, target, error, sentence in (
        (tmp_path / "none.mp4", tmp_path / "o.mp4", DataError, "does not exist"),
        (video, video, UsageError, "are the same"),
        (video, tmp_path / "o.xyz", UsageError, "a video is written as"),
        (video, tmp_path / "o.png", UsageError, "a video is written as"),
        (picture, tmp_path / "o.mp4", UsageError, "a picture is written as"),
        (tmp_path / "pyproject.toml", tmp_path / "o.mp4", DataError, "does not exist"),
        (folder, video, UsageError, "OUT is the file"),
        (folder, folder, UsageError, "are the same"),
        (folder, folder / "inner", UsageError, "lies inside IN"),
        (folder / "inner", tmp_path / "o", DataError, "holds no picture or video"),
        (video, folder, UsageError, "is the folder"),
    ):
        with pytest.raises(error, match=sentence):
            list(plan(source, target))
    unknown = tmp_path / "a.txt"
    unknown.write_bytes(b"x")
    with pytest.raises(UsageError, match=r"the ending \.txt is not known"):
        list(plan(unknown, tmp_path / "o.png"))


def test_exit_codes(tmp_path, capsys, model):
    (tmp_path / "a.png").write_bytes(b"x")
    assert main([str(tmp_path / "a.png"), str(tmp_path / "a.png")]) == 2
    assert main([str(tmp_path / "none.png"), str(tmp_path / "b.png")]) == 1
    assert main([str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--model", model]) == 1
    assert main([str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--model", model, "--strength", "2"]) == 2
    assert main([str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--model", model, "--group", "dogs"]) == 2
    assert main([str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--model", model, "--background", "beach"]) == 2
    assert main([str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--background-colour", "red"]) == 2
    for line in capsys.readouterr().err.splitlines():
        assert line.startswith("python -m streamer.convert: ") or ": done in" in line


def test_own_lines_are_refused_for_a_style_that_cannot_take_them(tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 64, 3), np.uint8))
    assert main([str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--model", "anime", "--detail", "0.5"]) == 2
    assert "--detail: the style anime has lines of its own" in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists()


def test_a_room_with_nobody_becomes_the_plain_background(tmp_path, capsys, model):
    source, target = tmp_path / "room.png", tmp_path / "plain.png"
    cv2.imwrite(str(source), np.full((240, 320, 3), 120, np.uint8))
    options = ["--model", model, "--background", "plain", "--background-colour", "#102030"]
    assert main([str(source), str(target), *options]) == 0
    assert (cv2.imread(str(target)) == (0x30, 0x20, 0x10)).all()
    assert re.search(r"room.png: done in .* s, but no face was found in it\n", capsys.readouterr().err)


def test_a_folder_tells_of_every_file_whether_a_face_was_in_it(tmp_path, capsys, model):
    for name, picture in (
        ("a", data.astronaut()),
        ("b", np.full((240, 320, 3), 120, np.uint8)),
        ("c", data.astronaut()),
    ):
        (tmp_path / "in").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / f"{name}.png"), picture[..., ::-1])
    assert main([str(tmp_path / "in"), str(tmp_path / "out"), "--model", model]) == 0
    assert ["no face" in line for line in capsys.readouterr().err.splitlines()] == [False, True, False]
    pinned = [str(tmp_path / "in" / "a.png"), str(tmp_path / "kid.png"), "--model", model, "--group", "kids"]
    assert main(pinned) == 0
    assert re.fullmatch(r"a\.png: done in .* s, drawn as kids\n", capsys.readouterr().err)


def test_rules_of_groups_and_the_public_crop_reach_the_drawing(tmp_path, capsys, model):
    source, rules = tmp_path / "astronaut.png", tmp_path / "rules.json"
    cv2.imwrite(str(source), cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR))
    rules.write_text('{"kids": {"ages": [15, 99]}, "young-women": {"ages": [0, 14]}, "elderly": {"ages": [0, 0]}}')
    drawn = {}
    for name, options in (
        ("usual", []),
        ("pinned", ["--group", "kids"]),
        ("ruled", ["--group-rules", str(rules)]),
        ("public", ["--crop", "photo2cartoon"]),
    ):
        target = tmp_path / f"{name}.png"
        assert main([str(source), str(target), "--model", model, *options]) == 0
        drawn[name] = cv2.imread(str(target)).astype(int)
    assert np.array_equal(drawn["ruled"], drawn["pinned"]) and not np.array_equal(drawn["ruled"], drawn["usual"])
    assert not np.array_equal(drawn["public"], drawn["usual"])
    # The same face in the same place.
    assert np.abs(drawn["public"] - drawn["usual"]).mean() < 6
    rules.write_text('{"kids": {"age": 3}}')
    capsys.readouterr()
    assert main([str(source), str(tmp_path / "no.png"), "--group-rules", str(rules)]) == 2
    assert "rules.json: kids: expected" in capsys.readouterr().err
    rules.write_text('{"kidz": {"ages": [0, 14]}}')
    assert main([str(source), str(tmp_path / "no.png"), "--model", model, "--group-rules", str(rules)]) == 2
    assert "--group-rules: there is no group kidz; there are young-women" in capsys.readouterr().err
    assert main([str(source), str(tmp_path / "no.png"), "--max-faces", "0"]) == 2
    assert "--max-faces 0: at least 1." in capsys.readouterr().err


def test_one_bad_file_does_not_stop_a_folder(tmp_path, capsys, model):
    source, out = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    cv2.imwrite(str(source / "a.png"), frame_of(1))
    (source / "b.png").write_bytes(b"no picture")
    cv2.imwrite(str(source / "deep" / "c.JPG"), frame_of(2))
    (source / "notes.txt").write_text("not for us")
    assert main([str(source), str(out), "--model", model]) == 1
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == ["a.png", "deep/c.JPG"]
    assert "1 of 3 files could not be drawn" in capsys.readouterr().err
    (source / "b.png").unlink()
    assert main([str(source), str(out), "--model", model]) == 0
    assert "nothing to do" in capsys.readouterr().err


def test_any_error_of_one_file_is_told_with_its_name_and_the_folder_goes_on(tmp_path, capsys, model, monkeypatch):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    cv2.imwrite(str(source / "a.png"), frame_of(1, 10000, 20))
    cv2.imwrite(str(source / "b.png"), frame_of(1))
    cv2.imwrite(str(source / "c.png"), frame_of(1))
    read = pictures.read

    def fails_at_b(path: Path) -> pictures.Picture:
        if path.name == "b.png":
            raise ZeroDivisionError("as the test wants it")
        return read(path)

    monkeypatch.setattr(pictures, "read", fails_at_b)
    assert main([str(source), str(out), "--model", model]) == 1
    assert [path.name for path in out.iterdir()] == ["c.png"]
    large, odd, *_, last = capsys.readouterr().err.splitlines()
    assert large.startswith(f"{source / 'a.png'}: 10000x20 px is too large")
    assert large.endswith("make it smaller first.")
    assert odd.startswith(f"{source / 'b.png'} could not be drawn (ZeroDivisionError: as the test wants it)")
    assert last.endswith(f"2 of 3 files could not be drawn; the others are in {out}.")


def test_progress_says_every_tenth_where_there_is_no_terminal():
    stream = io.StringIO()
    with Progress("a.mp4", stream, clock=lambda: 0.0) as progress:
        for number in range(101):
            progress.at(number / 100)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["a.mp4: 10 %", "a.mp4: 20 %"] and len(lines) == 11 and "done" in lines[-1]
