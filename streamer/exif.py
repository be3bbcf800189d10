"""EXIF written anew with what is known to hold no picture.

A camera stores thumbnails and previews of what it took: in the second directory, in its maker's notes, under tags of
its own. In the file of a cartoon they would show the face as it was, so only the tags below are kept.

A block is a small TIFF file: a head of 8 bytes, then directories of entries, 12 bytes each.
"""

import struct

ORIENTATION_TAG = 0x0112
ABOUT_PICTURE = (0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x8298)
ABOUT_SHOT = (
    *(0x829A, 0x829D, 0x8822, 0x8827, 0x8830, 0x9000),  # exposure, aperture, programme, sensitivity, version
    *(0x9003, 0x9004, 0x9010, 0x9011, 0x9012, 0x9290, 0x9291, 0x9292),  # dates, zones, parts of a second
    *(*range(0x9201, 0x920B), 0xA001),  # shutter to focal length, colour space
    *(*range(0xA402, 0xA407), 0xA433, 0xA434),  # exposure mode to kind of scene, lens
)
ABOUT_PLACE = tuple(range(0x20))
INNER_DIRECTORIES = {0x8769: ABOUT_SHOT, 0x8825: ABOUT_PLACE}
LONGEST_VALUE = 500  # bytes: room for a sentence, not for a picture; all tags together fit the 64 kB of a segment
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8}  # bytes of a value by its kind
LONG = 4  # the kind of a position

Entries = dict[int, tuple[int, int, bytes]]  # tag -> kind, number of values, their bytes


def orientation(tiff: bytes) -> int:
    """How the camera was held, 1 to 8; 1, upright, when the block does not say."""
    order = _order(tiff)
    entries = _directory(tiff, order, _number(tiff, order, 4), (ORIENTATION_TAG,))
    for _, _, value in entries.values():
        found = int.from_bytes(value, "little" if order == "<" else "big")
        return found if 1 <= found <= 8 else 1
    return 1


def tidied(tiff: bytes) -> bytes:
    """The block with the tags that are kept. The orientation is not one of them: the pixels are upright by now."""
    order = _order(tiff)
    first = _number(tiff, order, 4)
    kept = _directory(tiff, order, first, ABOUT_PICTURE)
    body = b""
    for pointer, (_, _, value) in _directory(tiff, order, first, tuple(INNER_DIRECTORIES)).items():
        inner = _directory(tiff, order, _number(value, order, 0), INNER_DIRECTORIES[pointer])
        kept[pointer] = (LONG, 1, struct.pack(f"{order}I", 8 + len(body)))
        body += _packed(inner, order, 8 + len(body))
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body))
    return head + body + _packed(kept, order, 8 + len(body))


def _order(tiff: bytes) -> str:
    return "<" if tiff.startswith(b"II") else ">"


def _number(data: bytes, order: str, at: int) -> int:
    """The 32-bit number at `at`; 0 where `data` has ended."""
    return struct.unpack_from(f"{order}I", data, at)[0] if at + 4 <= len(data) else 0


def _directory(tiff: bytes, order: str, at: int, kept: tuple[int, ...]) -> Entries:
    """The entries with a tag in `kept` of the directory at `at`; what is damaged or long is left out."""
    found: Entries = {}
    count = struct.unpack_from(f"{order}H", tiff, at)[0] if at + 2 <= len(tiff) else 0
    for entry in range(at + 2, min(at + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", tiff, entry)
        size = SIZES.get(kind, 0) * number
        start = entry + 8 if size <= 4 else _number(tiff, order, entry + 8)
        if tag in kept and 0 < size <= LONGEST_VALUE and start + size <= len(tiff):
            found[tag] = (kind, number, tiff[start : start + size])
    return found


def _packed(entries: Entries, order: str, at: int) -> bytes:
    """A directory that stands at `at`, its long values behind it; no other follows."""
    fields, values = b"", b""
    behind = at + 2 + 12 * len(entries) + 4
    for tag, (kind, number, value) in sorted(entries.items()):
        short = value
        if len(value) > 4:
            short = struct.pack(f"{order}I", behind + len(values))
            values += value + b"\0" * (len(value) % 2)
        fields += struct.pack(f"{order}HHI", tag, kind, number) + short.ljust(4, b"\0")
    return struct.pack(f"{order}H", len(entries)) + fields + b"\0\0\0\0" + values
