"""The small networks this room ships: their names, and the hash each file must have.

A file that is missing or differs by one byte is refused before anything reads it.
"""

from pathlib import Path

from livetoon.errors import ModelError
from livetoon.files import sha256

FOLDER = Path(__file__).parent / "models"

# Origin and licence of each file: models/README.md.
SHA256 = {
    "age_sex.onnx": "b7b5c6a0f146d07a5a54d07709cd18b4a353579863d4606929d336e6f3a3b48a",
    "face_detection_short_range.tflite": "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
    "face_detection_full_range_sparse.tflite": "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1",
    "face_landmark.tflite": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    "matte.onnx": "07e5f9ab783df5db3e124a8517477b630abad983c039ac8d9707012e740adccb",
    "retinaface_mobilenet025.onnx": "b7a7acab55e104dce6f32cdfff929bd83946da5cd869b9e2e9bdffafd1b7e4a5",
}


def path(name: str, folder: Path = FOLDER) -> Path:
    """Path of the shipped file `name`, checked against its hash.

    >>> path("face_landmark.tflite").name
    'face_landmark.tflite'

    Raises ModelError when the file is unknown, missing or altered.
    """
    if name not in SHA256:
        raise ModelError(f"{name} is not a face model that livetoon ships; it ships {', '.join(sorted(SHA256))}")
    file = folder / name
    if not file.is_file():
        raise ModelError(f"face model {file} is missing; install livetoon again, or copy {name} back into that folder")
    found = sha256(file)
    if found != SHA256[name]:
        raise ModelError(
            f"face model {file} was altered: its sha256 begins with {found[:12]}, expected {SHA256[name][:12]}; "
            "install livetoon again"
        )
    return file
