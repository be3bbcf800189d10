"""`python -m trainer.run --demo`: both stages of the few-shot preset, small, with everything switched on, without data.

Two faces lie in installed packages: scikit-image's astronaut and, where matplotlib is installed, its Grace Hopper.
Moved, reshaped and recoloured copies of one stand in for a group of people, and the shipped live model draws their
cartoons. So the run shows that training works on this machine, and what it leaves; not how good a model can be.
"""

import importlib.util
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from livetoon.errors import DataError, ModelError, UsageError
from livetoon.files import replacing
from trainer.presets import PRESETS, Translation

SMOKE_RUN = "a smoke run: it shows that everything works on this machine, not how good a model can be"
BASIC, RARE = "basic", "rare"
COUNTS = {BASIC: 24, RARE: 8}  # photos and drawings; validation wants 2 at least
STEPS = (160, 80)  # of stage 1 and stage 2; with SIDE and WIDTH some minutes on two slow cores
SIDE, WIDTH = 64, 12  # px; channels of the generators' and the discriminators' first layers
LAYERS = (6, 5)  # of the discriminators: 7, the preset's, take no less than 96 px
DRAWN_AT = 256  # px, the side that the shipped model learned at
# Package, picture in it, and five points of the face, px, as trainer.prepare finds them: eyes, nose, mouth. They are
# written down, so that the demo learns at once and opens no network to find four faces.
FACES = (
    ("skimage", "data/astronaut.png", ((204, 102), (247, 105), (223, 127), (201, 139), (246, 141))),
    (
        "matplotlib",
        "mpl-data/sample_data/grace_hopper.jpg",
        ((221, 194), (309, 188), (268, 237), (232, 278), (304, 275)),
    ),
)
DRAWN_BY = {BASIC: "young-women", RARE: "elderly"}  # branches of the shipped model


def demo(out: Path | None = None, steps: tuple[int, int] = STEPS, counts: dict[str, int] | None = None) -> None:
    """Make the data in `out`/data and train on it; `out` is runs/demo, or the next free runs/demo-N, by default.

    A demo that was stopped goes on. DataError or ModelError where the faces or the shipped model are not there,
    UsageError where `out` holds another run, or a complete one.
    """
    from trainer.checkpoint import latest
    from trainer.run import Inputs, train

    out = out or free_folder(steps)
    preset = demo_preset(steps)
    going_on = _stopped(out, steps)
    if latest(out) and not going_on:
        raise UsageError(f"--out {out}: holds a run already; name another folder for the demo")
    print(
        f"{out}: {SMOKE_RUN}. Changed copies of one or two faces stand in for two groups of people, {BASIC} and "
        f"{RARE}; the shipped model draws their cartoons. {steps[0]} steps on {BASIC}, then {steps[1]} on both"
        f"{', from where it was stopped' if going_on else ''}.",
        flush=True,
    )
    if not going_on:
        make_data(out / "data", counts or COUNTS)
    train(preset, Inputs(data=(str(out / "data"),)), out, resume=going_on, loggers=["tensorboard"])
    if _stopped(out, steps):
        print(f"stopped: python -m trainer.run --demo --out {out} goes on")
        return
    print(
        f"done: open {out / 'summary.html'} (curves, samples, figures). That was {SMOKE_RUN}.\n"
        "With your own pictures:\n"
        "  python -m trainer.prepare my-photos DATA --group mine --white --masks selfie.onnx\n"
        "  python -m trainer.prepare my-drawings DATA --group mine --domain cartoon\n"
        "  python -m trainer.run --preset basic --data DATA --groups mine --no-face-id --out runs/mine\n"
        "and with more groups than one: --preset fewshot --groups mine,others"
    )


def demo_preset(steps: tuple[int, int] = STEPS) -> Translation:
    """Preset fewshot, small enough for minutes, with adaptive augmentation, group loss, validation and averages.

    Face ID is off, as no recognition network is shipped.
    """
    return replace(
        PRESETS["fewshot"],
        source=f"{SMOKE_RUN}; {PRESETS['fewshot'].source}",
        groups=(BASIC, RARE),
        size=SIDE,
        width=WIDTH,
        judge_width=WIDTH,
        judge_layers=LAYERS,
        stage1_steps=steps[0],
        stage2_steps=steps[1],
        learning_rate=4e-4,  # four times the paper's, for there are a thousand times fewer steps
        ada=True,
        ada_kimg=1.0,  # so that the strength, which moves every 256 pictures, moves at all
        face_id=0.0,
        validate_every=max(1, steps[0] // 2),
    )


def make_data(folder: Path, counts: dict[str, int]) -> None:
    """Write `folder`/GROUP/photo and cartoon, PNGs on white; the same name on both sides is a pair."""
    from trainer.prepare_face import on_white

    generator, faces = _shipped_model(), _faces()
    for number, (group, count) in enumerate(counts.items()):
        face = faces[min(number, len(faces) - 1)]
        person = largest(_drawn(generator, face, DRAWN_BY[group])[1])
        for side in ("photo", "cartoon"):
            (folder / group / side).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            photo, alpha = varied(face, person, np.random.default_rng((number, index)))
            photo = on_white(photo, alpha)
            drawing, _ = _drawn(generator, photo, DRAWN_BY[group])
            for side, picture in (("photo", photo), ("cartoon", on_white(drawing, alpha))):
                _write(folder / group / side / f"{index:02d}.png", picture)


def largest(alpha: np.ndarray) -> np.ndarray:
    """alpha: (S, S) uint8 -> the same without what does not hang together with its largest part, and with a firm edge.

    The shipped model leaves a faint flag behind one of the faces.
    """
    count, labels, sizes, _ = cv2.connectedComponentsWithStats((alpha > 127).astype(np.uint8), connectivity=4)
    if count < 2:
        return alpha
    part = (labels == 1 + int(sizes[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8) * 255
    part = cv2.morphologyEx(part, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15)))
    return cv2.GaussianBlur(part, (0, 0), 1.5)


def varied(face: np.ndarray, alpha: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Somebody like `face`: (S, S, 3) uint8 RGB and alpha (S, S) uint8 -> alike.

    Turned, scaled, shifted, mirrored at even odds, broader or narrower by some 5 %, in another light.
    """
    from trainer import augment

    middle = face.shape[0] / 2
    breadth = np.diag([np.exp(random.normal(0, 0.05)), 1.0])
    reshape = np.hstack([breadth, [[middle - breadth[0, 0] * middle], [0.0]]])
    matrix = augment.random_motion(face.shape[0], random) @ np.vstack([reshape, [0, 0, 1]])
    gamma, light = np.exp(random.normal(0, 0.2)), np.exp(random.normal(0, 0.05, 3))
    lit = ((face / 255.0) ** gamma * light).clip(0, 1) * 255
    return augment.move(lit.round().astype(np.uint8), matrix), augment.move(alpha, matrix)


def _faces() -> list[np.ndarray]:
    """Crops of the faces that installed packages hold, (256, 256, 3) uint8 RGB, at least one."""
    from faces.pictures import read
    from trainer.prepare_face import aligned

    files = {_inside(package, path): points for package, path, points in FACES}
    crops = [aligned(read(file), np.array(points), DRAWN_AT) for file, points in files.items() if file]
    if not crops:
        raise DataError('--demo: its faces lie in scikit-image, which is not installed; pip install ".[train]"')
    return crops


def _inside(package: str, path: str) -> Path | None:
    """A file of an installed package, which is not imported; None where package or file are missing."""
    spec = importlib.util.find_spec(package)
    places = [Path(place) / path for place in (spec.submodule_search_locations or [])] if spec else []
    return next((place for place in places if place.is_file()), None)


def _shipped_model():
    from trainer.checkpoint import load_generator

    file = _inside("engine", "zoo/live/generator.safetensors")
    if file is None:
        raise ModelError(
            "engine/zoo/live/generator.safetensors: not there, but --demo draws its cartoons with it; run it in "
            "livetoon's own folder or install livetoon whole"
        )
    return load_generator(file)


def _drawn(generator, photo: np.ndarray, group: str) -> tuple[np.ndarray, np.ndarray]:
    """photo: (S, S, 3) uint8 RGB -> the drawing, alike, and its alpha (S, S) uint8."""
    import torch

    from trainer.sampling import network_input

    with torch.inference_mode():
        drawn = generator(network_input([photo], photo.shape[0]), group)[0].numpy()
    colours = ((drawn[:3] + 1) * 127.5).round().astype(np.uint8).transpose(1, 2, 0)
    return colours, (drawn[3] * 255).round().astype(np.uint8)


def _write(path: Path, picture: np.ndarray) -> None:
    with replacing(path) as temporary:
        if not cv2.imwrite(str(temporary), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
            raise DataError(f"{path}: cannot be written; is the disk full?")


def free_folder(steps: tuple[int, int]) -> Path:
    """runs/demo, or the first runs/demo-N, that is free or holds a demo that was stopped."""
    number = 1
    while (folder := Path("runs") / ("demo" if number == 1 else f"demo-{number}")).exists():
        if _stopped(folder, steps):
            break
        number += 1
    return folder


def _stopped(folder: Path, steps: tuple[int, int]) -> bool:
    """Whether `folder` holds a demo with steps left to do."""
    from trainer.checkpoint import latest, read_state

    if not (folder / "data" / RARE).is_dir() or (checkpoint := latest(folder)) is None:
        return False
    state = read_state(checkpoint)
    return (state["stage"], state["step"]) < (2, steps[1])
