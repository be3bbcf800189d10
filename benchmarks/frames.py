"""The way of a frame, decoded to pasted: torch operations on one device beside OpenCV and the engine, in one run.

    python -m benchmarks.frames --json frames.json

I420 in and out, crops, network, paste; no search, no colours. The frame is the astronaut's portrait moved, one for
every face; torch's network is neither compiled nor recorded. Accuracy: the torch way beside OpenCV's with the same
network, in grey levels of the planes.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks import timing
from benchmarks.devices import DEVICES, chosen_device
from livetoon import cli
from livetoon.errors import UsageError
from livetoon.files import write_json

PACKAGES = ("torch", "openvino", "onnxruntime", "tensorrt", "opencv-python-headless", "numpy")
SIZES = {"480p": (640, 480), "720p": (1280, 720), "1080p": (1920, 1080)}
FACE_SHARE = 0.45  # of the frame's height that a lone face's crop takes; several share its width
EFFORT = timing.Effort(rounds=12, per_round=5, round_s=2, all_s=20, least=5)
QUICK_EFFORT = timing.Effort(rounds=2, per_round=3, round_s=0.5, all_s=2, least=2)
COLUMNS = {
    "size": "frame",
    "faces": "faces",
    "way": "way",
    "device": "on",
    "precision": "precision",
    "p50_ms": "p50 ms",
    "p95_ms": "p95",
    "min_ms": "min",
    "cpu_ms": "cpu ms",
    "ratio": "x OpenCV",
    "largest": "levels, most",
    "psnr_db": "PSNR dB",
}


def main(argv: list[str] | None = None) -> int:
    arguments = cli.parser(
        "python -m benchmarks.frames",
        "Milliseconds from a decoded frame to a pasted one: in torch alone, and with OpenCV and the engine.",
        "python -m benchmarks.frames --faces 1,4 --json frames.json",
    )
    arguments.add_argument("--model", default="live", help="a shipped model or a model folder (default: %(default)s)")
    arguments.add_argument("--device", choices=DEVICES, help="of the torch way (default: the GPU where there is one)")
    arguments.add_argument("--precision", default="fp32", help="of the torch way: fp32, fp16 (default: %(default)s)")
    arguments.add_argument("--sizes", default="480p,720p", help=f"with commas, of {', '.join(SIZES)} (480p,720p)")
    arguments.add_argument("--faces", default="1,4", help="in a frame, with commas (default: %(default)s)")
    arguments.add_argument("--json", type=Path, metavar="FILE", help="write machine and rows there")
    arguments.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a figure")
    return cli.run(_command, arguments, argv)


def _command(options: argparse.Namespace) -> None:
    sizes, counts = _checked(options)
    import cv2

    cv2.setNumThreads(1)
    device = chosen_device(options.device)
    described = timing.described_machine(PACKAGES)
    effort = QUICK_EFFORT if options.quick else EFFORT
    ways = _Ways(options.model, options.precision, device)
    rows = []
    for size in sizes:
        for count in counts:
            rows += _rows(ways, size, count, effort)
            print(f"{size}, {count} faces: measured", file=sys.stderr)
    print(f"{described['processor']}, {described['cores']} cores; the engine: {ways.engine}")
    print(timing.table(rows, COLUMNS))
    if options.json:
        write_json(options.json, {"machine": described, "engine": ways.engine, "quick": options.quick, "rows": rows})


def _checked(options: argparse.Namespace) -> tuple[list[str], list[int]]:
    sizes, words = options.sizes.split(","), options.faces.split(",")
    if unknown := [size for size in sizes if size not in SIZES]:
        raise UsageError(f"--sizes {unknown[0]}: expected some of {', '.join(SIZES)}")
    if not all(word.isdecimal() and 0 < int(word) <= 16 for word in words):
        raise UsageError(f"--faces {options.faces}: expected whole numbers from 1 to 16, as 1,4")
    if options.precision not in ("fp32", "fp16"):
        raise UsageError(f"--precision {options.precision}: expected fp32 or fp16")
    return sizes, [int(word) for word in words]


class _Ways:
    """A model's network in torch on `device`, the same on the processor, and its engine as live video opens it."""

    def __init__(self, model: str, precision: str, device: str):
        from engine import manifest
        from engine.graphs import read_graph
        from engine.runner import open_runner
        from engine.torch_frame import FramePath
        from engine.torch_graph import torch_module

        folder = manifest.find(model)
        group = manifest.read(folder).groups[0]
        files = manifest.open_files(folder, group)
        self._exact = torch_module(read_graph(files, "fp32", pictures=True))
        self.runner = open_runner(folder, group)
        spec = self.runner.spec
        self.engine = f"{spec.backend} {spec.precision} on {spec.device}"
        self.precision, self.device, self.size = precision, device, spec.size
        self.torch = FramePath(torch_module(read_graph(files, precision, pictures=True)).to(device), spec.size, device)

    def opencv(self, draw: Callable[[np.ndarray], np.ndarray], i420: np.ndarray, places: Sequence) -> np.ndarray:
        """As the pipeline does it: on one thread, one face after another."""
        import cv2

        from faces.align import crops
        from faces.paste import paste

        rgb = cv2.cvtColor(i420, cv2.COLOR_YUV2RGB_I420)
        cut = crops(rgb, [place.matrix for place in places], self.size)
        for crop, place in zip(cut, places, strict=True):
            paste(rgb, draw(crop[None])[0], place.matrix, place.outline, place.strength)
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)

    def exact(self, crops: np.ndarray) -> np.ndarray:
        """float32 on the processor: what the torch way is compared with."""
        import torch

        with torch.no_grad():
            return self._exact(torch.from_numpy(crops)).numpy()


def _rows(ways: _Ways, size: str, count: int, effort: timing.Effort) -> list[dict[str, object]]:
    i420, places = scene(*SIZES[size], count, ways.size)
    calls = {
        "OpenCV and engine": lambda: ways.opencv(ways.runner, i420, places),
        "torch": lambda: ways.torch(i420, places),
    }
    measuring = {
        name: lambda most, seconds, warm_up, call=call: timing.timed(call, most, seconds, warm_up)
        for name, call in calls.items()
    }
    found = timing.interleaved(measuring, effort)
    apart = np.abs(ways.torch(i420, places).astype(np.float64) - ways.opencv(ways.exact, i420, places))
    psnr = 10 * float(np.log10(255**2 / max(np.square(apart).mean(), 1e-6)))
    kinds = {
        "OpenCV and engine": {"device": ways.runner.spec.device, "precision": ways.runner.spec.precision},
        "torch": {
            "device": ways.device,
            "precision": ways.precision,
            "largest": int(apart.max()),
            "psnr_db": round(psnr, 1),
        },
    }
    first = found["OpenCV and engine"].p50_ms
    titles = {"size": size, "faces": count}
    return [
        {**titles, "way": name, **kinds[name], **asdict(took), "ratio": round(took.p50_ms / first, 2)}
        for name, took in found.items()
    ]


def scene(width: int, height: int, count: int, crop: int) -> tuple[np.ndarray, list]:
    """An I420 frame with the astronaut's face `count` times, side by side, and their places for crops of `crop` px."""
    import cv2

    from engine.proof import FACE, PICTURE, SIDE
    from engine.torch_frame import Place

    portrait = cv2.cvtColor(cv2.imread(str(PICTURE)), cv2.COLOR_BGR2RGB)
    rgb, places = np.full((height, width, 3), 120, np.uint8), []
    tile = width // count
    scale = min(FACE_SHARE * height, tile) / SIDE
    around = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    outline = (np.stack([0.5 + 0.25 * np.cos(around), 0.55 + 0.3 * np.sin(around)], 1) * crop).astype(np.float32)
    for place in range(count):
        turn = cv2.getRotationMatrix2D(FACE, 4.0 * place, scale)
        turn[:, 2] += (tile / 2 - FACE[0], height / 2 - FACE[1])
        rgb[:, place * tile : (place + 1) * tile] = cv2.warpAffine(
            portrait, turn, (tile, height), borderMode=cv2.BORDER_REPLICATE
        )
        to_crop = cv2.getRotationMatrix2D((0, 0), 0, crop / (SIDE * scale))
        middle = np.array([place * tile + tile / 2, height / 2])
        to_crop[:, 2] = crop / 2 - to_crop[:, :2] @ middle
        places.append(Place(to_crop, outline))
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), places


if __name__ == "__main__":
    raise SystemExit(main())
