"""What is measured of one cartoon: whose face, which age and sex, which skin, glasses, holes, and features for KID.

Each network is opened only for the parts that need it, and judges photo and cartoon alike.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks import faces_groups
from benchmarks.faces_groups import Guess
from benchmarks.quality_people import PLAIN, Case, Cutter, Model, Photo, finished, laid
from faces.align import CROP, align_matrix, crop
from faces.looks import Looker
from faces.pictures import pictures, read
from faces.still import FaceFinder
from faces.tables import Person, people_held_out, read_people
from livetoon.errors import UsageError

IDENTITY = "mobilefacenet_128d.onnx"  # of the folder of public networks
KIND = "agegender_xception112"
BASIC = "young-women"  # the group whose cartoons the pairs have
JUDGED_BY = {
    "identity": {"identity", "hard", "paper"},
    "kind": {"kind", "paper"},
    "glasses": {"glasses", "hard"},
    "features": {"kid"},
}
CHEEKS = (50, 205, 280, 425)  # of the 468 points: under each eye and beside each corner of the mouth
CHEEK_PX = 4  # radius around them in a 256 px crop: between lines, moles and the shade of the nose
HOLE_BELOW = 128  # alpha under which more of the camera than of the drawing is seen


@dataclass(frozen=True)
class Seen:
    """One picture as the judges see it, None where nobody was asked. vector: (128,) unit; guess: age and sex; skin:
    (3,) CIELAB of the cheeks; glasses: probability; features: (D,) for KID; change: mean distance to the photo inside
    the face, 0 to 1; holes: share of the face that is not drawn."""

    vector: np.ndarray | None = None
    guess: Guess | None = None
    skin: np.ndarray | None = None
    glasses: float | None = None
    features: np.ndarray | None = None
    change: float = 0.0
    holes: float = 0.0


@dataclass(frozen=True)
class Sight:
    """A case: its photo, its cartoon by the network alone and as it is shown; first: features of the first branch's."""

    case: Case
    photo: Seen
    plain: Seen
    shown: Seen
    first: np.ndarray | None = None


class Judges:
    """models: folder of public networks, with `faces/` in it; UsageError where one that a part needs is missing."""

    def __init__(self, parts: Collection[str], models: Path | None):
        needed = {judge for judge, of in JUDGED_BY.items() if of & set(parts)}
        self._identity = _identity(models) if "identity" in needed else None
        self._guess = _guess(models) if "kind" in needed else None
        self._looker = Looker() if "glasses" in needed else None
        self._features, self.features_name = None, None
        if "features" in needed:
            from trainer.metrics import open_features

            self._features = open_features()
            self.features_name = self._features.name

    def __call__(self, picture: np.ndarray, case: Case, alpha: np.ndarray | None = None) -> Seen:
        """picture: (256, 256, 3) uint8 RGB, the case's photo or a cartoon of it on white; alpha: (256, 256) uint8."""
        oval = case.oval
        difference = np.abs(picture.astype(np.int16) - case.crop)[oval]
        return Seen(
            None if self._identity is None else self._identity(picture),
            None if self._guess is None else self._guess(faces_groups.tight(picture, case.points)),
            skin(picture, case.landmarks),
            None if self._looker is None else self._looker(picture).glasses,
            self.features(picture),
            float(difference.mean()) / 255 if difference.size else 0.0,
            0.0 if alpha is None or not oval.any() else float((alpha[oval] < HOLE_BELOW).mean()),
        )

    def features(self, picture: np.ndarray) -> np.ndarray | None:
        """(D,) for KID, of any (S, S, 3) uint8 RGB; None where no part asks for it."""
        if self._features is None:
            return None
        from trainer.sampling import network_input

        return self._features(network_input([picture], picture.shape[0]))[0]

    def sight(self, case: Case, drawing: np.ndarray) -> Sight:
        """Of somebody else's drawing, (256, 256, 3) uint8 RGB, as good alone as it is shown."""
        seen = self(drawing, case)
        return Sight(case, self(case.crop, case), seen, seen)

    def look(
        self, model: Model | Photo, cases: Sequence[Case], shown: tuple[float, float], photos: dict[int, Seen]
    ) -> list[Sight]:
        """What `model` makes of every case; shown: shares of own colours and lines; photos: what was seen
        of a case's photo before, by id, filled here."""
        sights = []
        for case in cases:
            photo = photos.get(id(case)) or photos.setdefault(id(case), self(case.crop, case))
            if not model.groups:
                sights.append(Sight(case, photo, photo, photo, photo.features))
                continue
            plain, taken = (self(laid(drawn), case, drawn[..., 3]) for drawn in finished(model, case, (PLAIN, shown)))
            first = plain.features
            if self._features is not None and case.group in model.groups[1:]:
                first = self.features(laid(finished(model, case, (PLAIN,), model.groups[0])[0]))
            sights.append(Sight(case, photo, plain, taken, first))
        return sights


def skin(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(3,) CIELAB, L 0 to 100: the median of four places of the cheeks of (S, S, 3) uint8 RGB."""
    mask = np.zeros(picture.shape[:2], np.uint8)
    for x, y in landmarks[list(CHEEKS)]:
        cv2.circle(mask, (round(float(x)), round(float(y))), CHEEK_PX, 1, -1)
    colours = picture[mask.astype(bool)]
    if not len(colours):
        return np.full(3, np.nan)
    lab = cv2.cvtColor(colours[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    return np.median(lab, axis=0)


def _identity(models: Path | None) -> Callable[[np.ndarray], np.ndarray]:
    """(256, 256, 3) uint8 RGB crop -> (128,) unit vector."""
    import torch

    from trainer.identity_files import load_face_id
    from trainer.sampling import network_input

    face_id = load_face_id(_file(models, IDENTITY))

    def embed(picture: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return face_id(network_input([picture], picture.shape[0]))[0].numpy()

    return embed


def _guess(models: Path | None) -> Callable[[np.ndarray], Guess]:
    return faces_groups.opponents(_file(models, f"faces/{KIND}.onnx").parent)[KIND]


def _file(models: Path | None, name: str) -> Path:
    path = Path(models or "") / name
    if models is None or not path.is_file():
        raise UsageError(f"--models {models or 'DIR'}: {name} is missing there; give the folder of public networks")
    return path


def check(parts: Collection[str], models: Path | None) -> None:
    """UsageError where a network that a part needs is not in the folder."""
    for judge, name in (("identity", IDENTITY), ("kind", f"faces/{KIND}.onnx")):
        if JUDGED_BY[judge] & set(parts):
            _file(models, name)


def cartoons_of(data: Path, judges: Judges) -> dict[str, np.ndarray]:
    """Features (N, D) of the cartoons of each group: fewshot_groups, and the held-out ones of the pairs."""
    found = {}
    for folder in sorted((data / "fewshot_groups").iterdir()):
        paths = pictures(folder / "cartoon") + pictures(folder / "drawn")
        if folder.name == BASIC:
            paths += pictures(data / "pairs" / "test" / "cartoon")
        if paths:
            found[folder.name] = np.stack([judges.features(read(path, CROP)) for path in paths])
    return found


def error_on_drawings(data: Path) -> str:
    """How often the judge of glasses is wrong on the drawings of cartoons/glasses.csv that did not teach it."""
    listed = data / "cartoons" / "glasses.csv"
    if not listed.is_file():
        return "the judge was not tried on drawings: cartoons/glasses.csv is missing"
    finder, looker = FaceFinder("cartoon"), Looker()
    wrong: dict[bool, list[bool]] = {True: [], False: []}
    for person in people_held_out(read_people(listed)):
        if not person.file.startswith("anime"):
            continue
        picture = read(person.path)
        if (found := finder(picture)) is not None:
            says = looker(crop(picture, align_matrix(found.points))).glasses > 0.5
            wrong[bool(person.glasses)].append(says != person.glasses)
    missed, seen = ([sum(of), len(of)] for of in (wrong[True], wrong[False]))
    return (
        f"the judge misses {missed[0]} of {missed[1]} drawn glasses and sees some in {seen[0]} of {seen[1]} drawings "
        "without (held-out anime)"
    )


def published(data: Path, cutter: Cutter) -> list[tuple[Case, np.ndarray]]:
    """The few-shot paper's photos with its own drawings of them, (256, 256, 3) uint8 RGB, cut by the photo's matrix."""
    found = []
    for folder in sorted((data / "fewshot_groups").iterdir()):
        for path in pictures(folder / "photo"):
            case = cutter(Person(path.name, path, group=folder.name), "fewshot_groups", folder.name)
            drawing = folder / "cartoon" / path.name
            if case is not None and drawing.is_file():
                found.append((case, crop(read(drawing), case.matrix)))
    return found
