"""The people of a quality run and what draws them: crops found once, models opened once, finished as live video does.

picture -> largest face -> 256 px crop -> 468 points, one look -> a model's branch -> own colours (faces/finish.py)
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from engine.from_run import playable
from engine.manifest import WEIGHTS, open_files
from engine.runner import open_runner
from faces.align import CROP, align_matrix, crop, move
from faces.finish import Finish
from faces.groups import RULES, TOLD_APART, shares
from faces.judge import truth_of
from faces.landmarks import MARGIN, OVAL, FaceMesh
from faces.looks import Look, Looker
from faces.matte import on_white
from faces.pictures import read
from faces.still import FACE_PER_EYES, FaceFinder
from faces.tables import Person, lines, people_held_out, read_people
from livetoon.errors import ModelError, UsageError

PHOTO = "photo"  # the input left as it is: the opponent that no figure may crown
TABLES = ("all_age_faces", "utkface")
GLASSES = Path(__file__).with_name("quality_glasses.csv")  # by eye, of every held-out photo: 1, glasses are worn
OPAQUE = 255
PLAIN = (0.0, 0.0)  # shares of a person's own colours and own lines in a cartoon: the network alone


@dataclass(frozen=True)
class Case:
    """One picture of a person. source: the table or list it is from; kind: what is shown of it there; crop: (256, 256,
    3) uint8 RGB, aligned; matrix: (2, 3) picture -> crop; points: (5, 2) and landmarks: (468, 2) px of the crop; look:
    at the photo; group: that draws it."""

    person: Person
    source: str
    kind: str
    crop: np.ndarray
    matrix: np.ndarray
    points: np.ndarray
    landmarks: np.ndarray
    look: Look
    group: str

    @property
    def oval(self) -> np.ndarray:
        """(256, 256) bool: inside the face's outline."""
        mask = np.zeros(self.crop.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(self.landmarks[OVAL]).astype(np.int32)], 1)
        return mask.astype(bool)

    @property
    def wears_glasses(self) -> bool:
        """As somebody wrote down, or else as one look at the photo says."""
        return self.look.glasses > 0.5 if self.person.glasses is None else self.person.glasses


class Cutter:
    """Finds and cuts; a person of no known group is drawn as one look says."""

    def __init__(self):
        self._finder, self._mesh, self._looker = FaceFinder("photo"), FaceMesh(), Looker()

    def __call__(self, person: Person, source: str, kind: str = "") -> Case | None:
        """None where no face is found."""
        picture = read(person.path)
        found = self._finder(picture)
        if found is None:
            return None
        matrix = align_matrix(found.points)
        cut, points = crop(picture, matrix), move(matrix, found.points)
        # Eyes in the crop lie at known places: a face of that size around the five points, fitted again from itself.
        side = MARGIN * FACE_PER_EYES * float(np.linalg.norm(points[1] - points[0]))
        x, y = points.mean(axis=0)
        landmarks = self._mesh(cut, points[:2], (float(x), float(y)), side).points[:, :2]
        look = self._looker(cut)
        group = truth_of(person) or TOLD_APART[int(shares(look, TOLD_APART, RULES).argmax())]
        return Case(person, source, kind or group, cut, matrix, points, landmarks, look, group)


def tables(data: Path, pictures: int | None) -> dict[str, list[Person]]:
    """Held-out rows of the tables that lie in `data`, at most `pictures` of each group. Who wears glasses is known of
    those who were looked at (quality_glasses.csv), and of those in `glasses.csv` beside a table."""
    found, by_eye = {}, {person.file: person for person in read_people(GLASSES)}
    for name in TABLES:
        if not (data / name / "table.csv").is_file():
            continue
        people = people_held_out(read_people(data / name / "table.csv"))
        said = {}
        if (data / name / "glasses.csv").is_file():
            said = {person.file: person for person in read_people(data / name / "glasses.csv")}
        kept, seen = [], Counter()
        for person in people:
            looked_at = by_eye.get(f"{name}/{person.file}")
            if looked_at is not None:
                person = replace(person, glasses=looked_at.glasses)
            person = person.completed(said.get(person.file))
            group = (person.group, person.female)
            seen[group] += 1
            if pictures is None or seen[group] <= pictures:
                kept.append(person)
        found[name] = kept
    return found


def listed(file: Path, data: Path, pictures: int | None) -> list[tuple[Person, str, str]]:
    """(person, source, kind) of a list of hard pictures: a CSV with kind, file (in `data`) and note; at most `pictures`
    of a kind."""
    kept, seen = [], Counter()
    for _, row in lines(file, ("kind", "file", "note")):
        seen[row["kind"]] += 1
        if pictures is None or seen[row["kind"]] <= pictures:
            wears = True if row["kind"] == "glasses" else None
            kept.append((Person(row["file"], data / row["file"], glasses=wears), "hard", row["kind"]))
    return kept


class Photo:
    """Draws nothing."""

    name, groups, weights_mb, arithmetic = PHOTO, (), None, "none"

    def __call__(self, picture: np.ndarray, group: str) -> np.ndarray:
        """(256, 256, 3) uint8 RGB -> (256, 256, 4) uint8 RGBA."""
        return np.dstack([picture, np.full(picture.shape[:2], OPAQUE, np.uint8)])

    def infer(self, x: np.ndarray) -> np.ndarray:
        """x (N, 3, 256, 256) float32 in [-1, 1] -> (N, 4, 256, 256)."""
        return np.concatenate([x, np.ones_like(x[:, :1])], axis=1)


class Model:
    """A model as it is served: the engine and precision that `open_runner` takes on this machine, every branch."""

    def __init__(self, model: str, name: str | None = None):
        try:
            files = open_files(playable(model))
        except ModelError as error:
            raise UsageError(f"MODEL: {error}") from None
        if files.manifest.size != CROP or not files.manifest.alpha:
            raise UsageError(f"MODEL {model}: draws {files.manifest.size} px; expected {CROP} px with an alpha")
        self.name, self.groups = name or files.manifest.name, files.manifest.groups
        self.own_lines = files.manifest.own_lines
        self.weights_mb = (files.folder / WEIGHTS).stat().st_size / 1e6
        self._runners = {group: open_runner(files.folder, group) for group in self.groups}
        self.arithmetic = self._runners[self.groups[0]].spec.arithmetic

    def runner(self, group: str):
        """The branch of a group, or the first where the model has none."""
        return self._runners[group if group in self.groups else self.groups[0]]

    def __call__(self, picture: np.ndarray, group: str) -> np.ndarray:
        """(256, 256, 3) uint8 RGB -> (256, 256, 4) uint8 RGBA."""
        return self.runner(group)(picture[None])[0]

    def infer(self, x: np.ndarray) -> np.ndarray:
        """x (N, 3, 256, 256) float32 in [-1, 1] -> (N, 4, 256, 256) float32 by the first branch."""
        return self._runners[self.groups[0]].infer(x)


def finished(
    model: Model | Photo, case: Case, shares: Sequence[tuple[float, float]], group: str | None = None
) -> list[np.ndarray]:
    """The cartoon of `case` at each (tone, detail), (256, 256, 4) uint8 RGBA, drawn once; group: who draws."""
    drawn = model(case.crop, group or case.group)
    if model.name == PHOTO:
        return [drawn for _ in shares]
    taken = [(tone, own if model.own_lines else 0.0) for tone, own in shares]
    return [Finish()(drawn, case.crop, case.landmarks, np.eye(2, 3), 0.0, *each) for each in taken]


def laid(cartoon: np.ndarray) -> np.ndarray:
    """(S, S, 4) uint8 RGBA -> (S, S, 3) uint8 RGB on white."""
    return on_white(np.ascontiguousarray(cartoon[..., :3]), np.ascontiguousarray(cartoon[..., 3]))


def cut_all(people: Sequence[tuple[Person, str, str]], cutter: Cutter, say: Callable[[str], None]) -> list[Case]:
    """The cases of (person, source, kind) in which a face is found."""
    cases = []
    for number, (person, source, kind) in enumerate(people, 1):
        case = cutter(person, source, kind)
        cases += [] if case is None else [case]
        if number % 20 == 0:
            say(f"{number} of {len(people)} pictures cut")
    return cases
