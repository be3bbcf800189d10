"""Pictures as people have them: every kind of file is upright RGB on white, or one sentence."""

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from faces.pictures import pictures, read
from livetoon.errors import DataError

RED, GREEN, BLUE, GREY = (200, 30, 40), (20, 180, 60), (30, 60, 210), (120, 120, 120)


@pytest.fixture
def quarters() -> np.ndarray:
    """(48, 64, 3) uint8 RGB: a colour in each corner, so that a turn or a swap of channels is seen."""
    picture = np.empty((48, 64, 3), np.uint8)
    picture[:24, :32], picture[:24, 32:], picture[24:, :32], picture[24:, 32:] = RED, GREEN, BLUE, GREY
    return picture


def corners(picture: np.ndarray) -> np.ndarray:
    """(4, 3): middle of each quarter, top left, top right, bottom left, bottom right."""
    h, w = picture.shape[:2]
    return np.array([picture[y, x] for y in (h // 4, h * 3 // 4) for x in (w // 4, w * 3 // 4)], int)


def is_quarters(picture: np.ndarray, within: int = 6) -> bool:
    return picture.dtype == np.uint8 and np.abs(corners(picture) - (RED, GREEN, BLUE, GREY)).max() <= within


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "tiff", "gif"])
def test_every_format_is_rgb(ending, quarters, tmp_path):
    Image.fromarray(quarters).save(tmp_path / f"a.{ending}")
    found = read(tmp_path / f"a.{ending}")
    assert found.shape == quarters.shape and is_quarters(found)
    found[0] = 0  # a picture is the caller's own to change


def test_the_content_counts_not_the_ending(quarters, tmp_path):
    Image.fromarray(quarters).save(tmp_path / "a.jpg", format="PNG")
    assert is_quarters(read(tmp_path / "a.jpg"))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_upright(orientation, ending, quarters, tmp_path):
    """Stored as a camera held that way stores it, read as it was seen."""
    stored = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p),
        7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
        8: lambda p: np.rot90(p, -1),
    }[orientation](quarters)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a.{ending}", exif=exif)
    found = read(tmp_path / f"a.{ending}")
    assert found.shape == quarters.shape and is_quarters(found)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_lose_the_picture(quarters, tmp_path):
    Image.fromarray(quarters).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 20)
    assert is_quarters(read(tmp_path / "a.jpg"))


def test_cmyk_jpeg_with_its_inks_inverted(quarters, tmp_path):
    """As Adobe's programs and Pillow write it; OpenCV agrees on what it shows."""
    Image.fromarray(quarters).convert("CMYK").save(tmp_path / "adobe.jpg", quality=95)
    assert is_quarters(read(tmp_path / "adobe.jpg"), within=10)
    assert is_quarters(cv2.cvtColor(cv2.imread(str(tmp_path / "adobe.jpg")), cv2.COLOR_BGR2RGB), within=10)


def test_cmyk_tiff(quarters, tmp_path):
    Image.fromarray(quarters).convert("CMYK").save(tmp_path / "a.tif")
    assert is_quarters(read(tmp_path / "a.tif"))


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_16_bit_is_scaled_not_cut(ending, quarters, tmp_path):
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(48, 0)
    cv2.imwrite(str(tmp_path / f"grey.{ending}"), ramp)
    grey = read(tmp_path / f"grey.{ending}")
    assert grey.shape == (48, 64, 3)
    assert np.abs(grey[0, :, 1].astype(float) - np.linspace(0, 255, 64)).max() <= 1

    cv2.imwrite(str(tmp_path / f"colour.{ending}"), cv2.cvtColor(quarters, cv2.COLOR_RGB2BGR).astype(np.uint16) * 257)
    assert is_quarters(read(tmp_path / f"colour.{ending}"))


@pytest.mark.parametrize(("values", "told"), [("float", "floating-point"), ("int", "32 bits")])
def test_numbers_without_a_known_range_are_refused(values, told, tmp_path):
    wide = np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(48, 64)
    Image.fromarray(wide if values == "float" else (wide * 2**24).astype(np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=rf"a\.tif: its values .*{told}"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_and_black_and_white(mode, quarters, tmp_path):
    Image.fromarray(quarters).convert("L").convert(mode).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png")
    assert found.shape == quarters.shape
    assert np.array_equal(found[..., 0], np.asarray(Image.open(tmp_path / "a.png").convert("L")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB with a clear colour"])
def test_transparent_parts_lie_on_white(mode, tmp_path):
    clear = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (8, 8, 24, 24))
    clear.paste((0, 0, 0, 128), (8, 8, 24, 12))
    if mode == "P":
        clear.save(tmp_path / "a.gif")  # GIF is a palette with one clear entry
    elif mode.startswith("RGB with"):
        picture = Image.new("RGB", (32, 32), (255, 0, 255))
        picture.paste((0, 0, 0), (8, 8, 24, 24))
        picture.save(tmp_path / "a.png", transparency=(255, 0, 255))
    else:
        clear.convert(mode).save(tmp_path / "a.png")
    found = read(next(tmp_path.iterdir()))
    assert (found[2, 2] == 255).all() and (found[16, 16] == 0).all()
    if mode in ("RGBA", "LA"):
        assert np.abs(found[10, 16].astype(int) - 127).max() <= 1


def test_a_palette_is_looked_up(quarters, tmp_path):
    Image.fromarray(quarters).convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "a.png")
    assert is_quarters(read(tmp_path / "a.png"))


def test_a_phone_jpeg_with_a_second_picture_behind_it(quarters, tmp_path):
    Image.fromarray(quarters).save(
        tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (64, 48))]
    )
    assert is_quarters(read(tmp_path / "a.jpg"))


@pytest.mark.parametrize("ending", ["gif", "png", "webp"])
def test_of_an_animation_the_first_picture(ending, quarters, tmp_path):
    first = Image.fromarray(quarters)
    rest = [Image.new("RGB", first.size, colour) for colour in ("black", "white")]
    first.save(tmp_path / f"a.{ending}", save_all=True, append_images=rest, duration=40)
    assert Image.open(tmp_path / f"a.{ending}").n_frames == 3
    found = read(tmp_path / f"a.{ending}")
    assert found.shape == quarters.shape and is_quarters(found, within=16)


@pytest.mark.parametrize("size", [16, 64, 200])
def test_a_side_that_is_asked_for(size, quarters, tmp_path):
    Image.fromarray(quarters).save(tmp_path / "a.png")
    found = read(tmp_path / "a.png", size)
    assert found.shape == (size, size, 3) and is_quarters(found)


def test_shrinking_takes_the_mean(tmp_path):
    board = np.indices((64, 64)).sum(0) % 2 * 255
    cv2.imwrite(str(tmp_path / "a.png"), board.astype(np.uint8))
    assert np.abs(read(tmp_path / "a.png", 16).astype(int) - 127.5).max() <= 1


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "bmp", "tiff", "gif"])
def test_a_truncated_file_is_refused(ending, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{ending}")
    whole = (tmp_path / f"whole.{ending}").read_bytes()
    for share in (0.05, 0.5, 0.9):
        (tmp_path / f"cut.{ending}").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError, match=rf"cut\.{ending}: [^\n]*take it out of the folder$"):
            read(tmp_path / f"cut.{ending}")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "an empty file"),
        (b"<html>not found</html>", "not a picture that can be read"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "take it out"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture that can be read"),
    ],
    ids=["empty", "a web page", "a header alone", "a program that draws"],
)
def test_what_is_no_picture_is_one_sentence(content, told, tmp_path):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.jpg: [^\n]*{told}[^\n]*$"):
        read(tmp_path / "a.jpg")


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_a_pixel_is_no_picture(shape, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((*shape, 3), np.uint8))
    with pytest.raises(DataError, match=rf"a\.png: only {shape[1]}x{shape[0]} px; take it out"):
        read(tmp_path / "a.png")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    """A PNG of a hundred bytes that says it is 60000 x 60000."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(DataError, match=r"a\.png: too many pixels"):
        read(tmp_path / "a.png")


def test_a_picture_of_a_hundred_megapixels_raises_no_alarm(tmp_path, recwarn):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9000, 12000), np.uint8))
    assert read(tmp_path / "a.png").shape == (9000, 12000, 3)
    assert not recwarn.list


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    for name in ("nothing.jpg", "folder.jpg"):
        with pytest.raises(DataError, match=f"{name}: no such file"):
            read(tmp_path / name)


def test_the_pictures_of_a_folder(quarters, tmp_path):
    for name in ("b.JPG", "a.Png", "c.tiff", ".hidden.png", "notes.txt", "d"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in pictures(tmp_path)] == ["a.Png", "b.JPG", "c.tiff"]
    assert pictures(tmp_path / "nowhere") == []


def test_decoding_loads_no_torch():
    code = "import sys, faces.pictures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
