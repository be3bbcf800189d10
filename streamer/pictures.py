"""Picture files: read upright and in colour when they are whole, written with the alpha and metadata they came with."""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from livetoon.errors import DataError
from streamer import exif

WITH_ALPHA = (".png", ".webp", ".tif", ".tiff")
QUALITY = 95
EXIF_START, PROFILE_START = b"Exif\0\0", b"ICC_PROFILE\0"
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"tIME")
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
# The keywords of the PNG standard; under others programs store EXIF and XMP, which may hold the raw picture in small.
PNG_KEYWORDS = (
    *(b"Title", b"Author", b"Description", b"Copyright", b"Creation Time"),
    *(b"Software", b"Disclaimer", b"Warning", b"Source", b"Comment"),
)


@dataclass(frozen=True)
class Picture:
    """rgb: (H, W, 3) uint8, upright; alpha: (H, W) uint8 or None; blocks: metadata without any picture in it."""

    rgb: np.ndarray
    alpha: np.ndarray | None
    blocks: tuple[bytes, ...] = ()


def read(path: Path) -> Picture:
    """Read a picture: grey, 16-bit and turned ones too. DataError when it is empty, cut off or no picture."""
    data = path.read_bytes()
    if not data:
        raise DataError(f"{path} is empty (0 bytes): copy it again.")
    if not _is_whole(data):
        raise DataError(f"{path} is cut off or damaged: copy it again.")
    try:
        turned = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:  # more than 2^30 pixels
        raise DataError(f"{path} is too large or damaged: make it smaller first.") from error
    if turned is None:
        raise DataError(f"{path} is not a picture that can be read: convert it to PNG or JPEG first.")
    if turned.dtype == np.uint16:
        turned = (turned >> 8).astype(np.uint8)
    if turned.dtype != np.uint8:
        raise DataError(f"{path} has pixels of the kind {turned.dtype}: convert it to 8 bits first.")
    blocks = _blocks(data)
    upright = _turn(turned, _orientation(data))
    if upright.ndim == 2:
        return Picture(cv2.cvtColor(upright, cv2.COLOR_GRAY2RGB), None, blocks)
    if upright.shape[2] == 4:
        return Picture(cv2.cvtColor(upright, cv2.COLOR_BGRA2RGB), np.ascontiguousarray(upright[..., 3]), blocks)
    return Picture(cv2.cvtColor(upright, cv2.COLOR_BGR2RGB), None, blocks)


def write(path: Path, picture: Picture) -> None:
    """Write `picture` as the ending of `path` says; without alpha in that format it is laid on white."""
    ending = path.suffix.lower()
    rgb = picture.rgb
    if picture.alpha is not None and ending not in WITH_ALPHA:
        share = picture.alpha[..., None].astype(np.float32) / 255
        rgb = np.round(rgb * share + 255 * (1 - share)).astype(np.uint8)
    pixels = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    if picture.alpha is not None and ending in WITH_ALPHA:
        pixels = np.dstack([pixels, picture.alpha])
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if ending in (".jpg", ".jpeg") else []
    options = [cv2.IMWRITE_WEBP_QUALITY, QUALITY] if ending == ".webp" else options
    made, encoded = cv2.imencode(ending, pixels, options)
    if not made:
        raise DataError(f"a picture of {pixels.shape[1]}x{pixels.shape[0]} px cannot be written as {ending}")
    path.write_bytes(_with_blocks(encoded.tobytes(), picture.blocks))


def _is_whole(data: bytes) -> bool:
    if data.startswith(b"\xff\xd8"):
        *_, scan = [0, *(end for _, end in _jpeg_segments(data))]
        return b"\xff\xd9" in data[scan:]
    if data.startswith(PNG_START):
        kinds = [kind for kind, _ in _png_chunks(data)]
        return bool(kinds) and kinds[-1] == b"IEND"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return len(data) >= struct.unpack("<I", data[4:8])[0] + 8
    return True


def _jpeg_segments(data: bytes) -> list[tuple[bytes, int]]:
    """(segment with its marker, position after it) up to the first scan."""
    found, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        if data[at + 1] == 0xFF:  # any number of these may stand before a marker
            at += 1
            continue
        end = at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
        found.append((data[at:end], end))
        at = end
    return found


def _png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, whole chunk) as long as lengths and checksums are right."""
    found, at = [], len(PNG_START)
    while at + 12 <= len(data):
        end = at + 12 + struct.unpack(">I", data[at : at + 4])[0]
        chunk = data[at:end]
        if end > len(data) or zlib.crc32(chunk[4:-4]) != struct.unpack(">I", chunk[-4:])[0]:
            break
        found.append((chunk[4:8], chunk))
        at = end
    return found


def _blocks(data: bytes) -> tuple[bytes, ...]:
    """What describes the picture, ready for a file of the same kind: EXIF and colour profile, or PNG's texts.

    Only what is known to hold no picture: the file that is written must not show the face that was drawn over.
    """
    if data.startswith(b"\xff\xd8"):
        notes = [EXIF_START + exif.tidied(tiff) for tiff in _tiffs(data)]
        heads = [b"\xff\xe1" + struct.pack(">H", len(note) + 2) for note in notes]
        profile = [one for one, _ in _jpeg_segments(data) if one[1] == 0xE2 and one[4:].startswith(PROFILE_START)]
        return (*(head + note for head, note in zip(heads, notes, strict=True)), *profile)
    if data.startswith(PNG_START):
        return tuple(chunk for kind, chunk in _png_chunks(data) if kind in PNG_KEPT or _is_note(kind, chunk))
    return ()


def _is_note(kind: bytes, chunk: bytes) -> bool:
    return kind in PNG_TEXTS and chunk[8:-4].split(b"\0")[0] in PNG_KEYWORDS


def _with_blocks(encoded: bytes, blocks: tuple[bytes, ...]) -> bytes:
    if encoded.startswith(b"\xff\xd8"):
        kept = b"".join(block for block in blocks if block.startswith(b"\xff"))
        return encoded[:2] + kept + encoded[2:]
    if encoded.startswith(PNG_START):
        head = len(PNG_START) + 25  # IHDR comes first and has 25 bytes
        kept = b"".join(block for block in blocks if not block.startswith(b"\xff"))
        return encoded[:head] + kept + encoded[head:]
    return encoded


def _tiffs(data: bytes) -> list[bytes]:
    """The EXIF blocks of a JPEG without their heads: small TIFF files."""
    segments = _jpeg_segments(data) if data.startswith(b"\xff\xd8") else []
    return [one[10:] for one, _ in segments if one[1] == 0xE1 and one[4:].startswith(EXIF_START)]


def _orientation(data: bytes) -> int:
    """How the camera was held, 1 to 8; 1, upright, when the file does not say."""
    return next((exif.orientation(tiff) for tiff in _tiffs(data)), 1)


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Upright pixels from those of a camera that was held in one of EXIF's eight ways."""
    if orientation in (2, 4, 5, 7):
        pixels = pixels[:, ::-1]
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    return np.ascontiguousarray(np.rot90(pixels, turns))
