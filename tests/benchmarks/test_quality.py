"""What benchmarks/quality.py measures: every figure fails for a wrong value, and the command runs on one known face."""

import csv
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from benchmarks import quality, quality_figures, quality_judges, quality_motion, quality_pairs, quality_people
from benchmarks.faces_groups import Guess
from benchmarks.quality_figures import AT_LEAST, AT_MOST, OVER, UNDER, Figure
from benchmarks.quality_judges import Seen, Sight
from engine.manifest import find
from faces.groups import TOLD_APART
from faces.landmarks import OVAL
from faces.looks import AGES, Look
from faces.tables import Person, held_out
from livetoon.errors import UsageError
from streamer.pipeline import Settings

FACE = data.astronaut()[:260, 90:350]


angles = np.linspace(-np.pi / 2, 3 * np.pi / 2, len(OVAL), endpoint=False)
OVAL_POINTS = np.random.default_rng(1).uniform(90, 180, (468, 2)).astype(np.float32)
OVAL_POINTS[OVAL] = np.stack([128 + 60 * np.cos(angles), 140 + 80 * np.sin(angles)], axis=1)


def case(group="young-men", ethnicity=None, glasses=False, name="a.png"):
    look = Look(0.5, np.eye(len(AGES), dtype=np.float32)[30], 0.0)
    person = Person(name, name, None, None, glasses, "young" if group.startswith("young") else group, ethnicity)
    crop = np.full((256, 256, 3), 128, np.uint8)
    points = np.zeros((5, 2), np.float32)
    return quality_people.Case(person, "utkface", group, crop, np.eye(2, 3), points, OVAL_POINTS, look, group)


def sights(seen, cases, photo=None):
    """One sight for each of `seen`, drawn alike at both tones; photos all of `photo` or as drawn."""
    return [Sight(one, photo or each, each, each, each.features) for each, one in zip(seen, cases, strict=True)]


def values(figures):
    return {figure.name: (figure.value, figure.holds) for figure in figures}


@pytest.mark.parametrize(
    ("sense", "value", "holds"),
    [(AT_MOST, 2, True), (AT_MOST, 2.1, False), (AT_LEAST, 2, True), (AT_LEAST, 1.9, False), (UNDER, 2, False),
     (UNDER, 1.9, True), (OVER, 2, False), (OVER, 2.1, True)],
)  # fmt: skip
def test_a_bar_holds_or_not(sense, value, holds):
    assert Figure("x", "m", value, 2, sense).holds is holds
    assert Figure("x", "m", value, 2, sense, counts=False).holds is False
    assert Figure("x", "m", value).holds is None
    said = Figure("x", "m", value, 2, sense).as_json()
    assert said["holds"] is holds and said["bar"] == 2 and "counts" not in said


def test_likeness_counts_only_of_a_cartoon_and_only_of_the_same_person():
    vectors = np.eye(3, dtype=np.float32)
    people = [case(name=str(number)) for number in range(3)]
    bars = {
        f"identity {what} of the network alone, utkface/young-men": bar for what, bar in (("same", 0.5), ("found", 0.9))
    }
    alike = sights([Seen(vector=vector, change=0.3) for vector in vectors], people)
    said = values(quality_figures.identity(alike, "m", bars))
    assert said["identity same, utkface/young-men"] == (1, True)
    assert said["identity found, utkface/young-men"] == (1, True)
    assert said["identity others, utkface/young-men"][0] == 0
    unchanged = [replace(sight, shown=replace(sight.shown, change=0.01)) for sight in alike]
    assert values(quality_figures.identity(unchanged, "photo", bars))["identity same, utkface/young-men"] == (1, False)
    swapped = [replace(sight, shown=Seen(vector=vectors[(n + 1) % 3], change=0.3)) for n, sight in enumerate(alike)]
    said = values(quality_figures.identity(swapped, "m", bars))
    assert said["identity same, utkface/young-men"] == (0, False)
    assert said["identity found, utkface/young-men"] == (0, False)


@pytest.mark.parametrize(
    ("group", "right", "wrong", "name"),
    [
        ("young-men", Guess(30, 0.1), Guess(30, 0.9), "kind young-men called so %, utkface"),
        ("young-women", Guess(30, 0.9), Guess(30, 0.1), "kind young-women called so %, utkface"),
        ("kids", Guess(7, 0.5), Guess(14, 0.5), "kind kids, median age, utkface"),
        ("elderly", Guess(65, 0.5), Guess(50, 0.5), "kind elderly, median age, utkface"),
    ],
)
def test_kind_is_what_the_network_sees(group, right, wrong, name):
    for guess, holds in ((right, True), (wrong, False)):
        said = values(quality_figures.kinds(sights([Seen(guess=guess)] * 4, [case(group)] * 4), "m"))
        assert said[name][1] is holds


def test_teens_have_no_kind():
    teen = case("young-men")
    teen = replace(teen, person=replace(teen.person, group="teens"))
    assert quality_figures.kinds(sights([Seen(guess=Guess(15, 0.1))], [teen]), "m") == []


def test_skin_is_near_and_for_everybody_alike():
    def found(black):
        seen = [Seen(skin=np.array([60.0, 0, 0])), Seen(skin=np.array([50.0 + black, 0, 0]))]
        people = [case(ethnicity="White"), case(ethnicity="Black")]
        return values(quality_figures.colours(sights(seen, people, Seen(skin=np.array([50.0, 0, 0]))), "m"))

    assert found(9)["skin CIELAB, White"] == (10, True)
    assert found(9)["skin CIELAB, spread"] == (1, True)
    assert found(20)["skin CIELAB, Black"] == (20, False)
    assert found(20)["skin CIELAB, spread"] == (10, False)
    assert found(9)["skin CIELAB of the network alone, White"] == (10, None)


def test_skin_is_measured_on_the_cheeks_alone():
    picture = np.zeros((256, 256, 3), np.uint8)
    for x, y in OVAL_POINTS[list(quality_judges.CHEEKS)]:
        cv2.circle(picture, (round(x), round(y)), 9, (255, 255, 255), -1)
    assert quality_judges.skin(picture, OVAL_POINTS)[0] == pytest.approx(100, abs=0.1)
    assert quality_judges.skin(255 - picture, OVAL_POINTS)[0] == pytest.approx(0, abs=0.1)


def test_glasses_are_kept_and_not_gained():
    wearing, bare = case(glasses=True), case()
    drawn, none = Seen(glasses=0.9), Seen(glasses=0.1)

    def said(worn, gained, unseen):
        """unseen: drawings of two people whose glasses the judge does not see in the photo."""
        seen = [*sights([worn] * 4, [wearing] * 4, drawn), *sights([gained] * 4, [bare] * 4, none)]
        return values(quality_figures.glasses([*seen, *sights([unseen] * 2, [wearing] * 2, none)], "m", ""))

    for unseen in (drawn, none):
        assert said(drawn, none, unseen) == {"glasses kept %": (100, True), "glasses gained %": (0, True)}
        assert said(none, drawn, unseen) == {"glasses kept %": (0, False), "glasses gained %": (100, False)}


@pytest.mark.parametrize(("own", "first", "holds"), [(0.0, 1.0, True), (1.0, 0.0, False)])
def test_a_branch_must_come_nearer_to_its_group_than_the_first_one(own, first, holds):
    random = np.random.default_rng(0)
    real, others = random.normal(0, 1, (6, 8)), random.normal(0, 0.1, (12, 8))
    seen = [Seen(features=row + 2 * own) for row in others]
    drawn = [
        replace(each, first=row + 2 * first) for each, row in zip(sights(seen, [case()] * 12), others, strict=True)
    ]
    (figure,) = quality_figures.kid(drawn, {"young-men": real}, "m", ("young-women", "young-men"))
    assert figure.holds is holds and figure.error >= 0
    (figure,) = quality_figures.kid(drawn, {"young-men": real}, "m", ("young-men",))
    assert figure.bar is None


def test_holes_and_lost_glasses_of_hard_pictures_are_seen():
    worn = replace(case(glasses=True), kind="glasses")
    whole, holed = (Seen(np.eye(2)[0], glasses=0.9, holes=0), Seen(np.eye(2)[0], glasses=0.1, holes=0.5))
    said = values(quality_figures.hard(sights([whole], [worn]), "m"))
    assert said["hard holes in the face %, glasses"][0] == 0
    assert said["hard glasses kept %, glasses"] == (100, True)
    said = values(quality_figures.hard(sights([holed], [worn], whole), "m"))
    assert said["hard holes in the face %, glasses"][0] == 50
    assert said["hard glasses kept %, glasses"] == (0, False)


def test_the_alpha_of_the_face_is_looked_at_and_no_other():
    judges, one = quality_judges.Judges((), None), case()
    alpha = np.where(one.oval, 255, 0).astype(np.uint8)
    assert judges(one.crop, one, alpha).holes == 0
    alpha[:140] = 0
    assert judges(one.crop, one, alpha).holes == pytest.approx(0.5, abs=0.02)
    assert judges(one.crop, one).change == 0
    assert judges(255 - one.crop, one).change == pytest.approx(1 / 255, abs=1e-6)


def test_the_papers_drawings_are_judged_as_ours():
    seen = [Seen(np.eye(2)[0], Guess(30, 0.1)), Seen(np.eye(2)[0], Guess(30, 0.9))]
    said = values(quality_figures.paper(sights(seen, [case(), case()]), "few-shot paper"))
    assert said == {"paper identity, young-men": (1, None), "paper young-men called so %": (50, None)}


class Drawer:
    """A model whose every second drawing is brighter by `flicker` grey levels."""

    name, groups, arithmetic, weights_mb, own_lines = "drawer", ("young-women",), "none", None, True

    def __init__(self, flicker):
        self._flicker, self._calls = flicker, 0

    def runner(self, group):
        return self

    def __call__(self, crops):
        self._calls += 1
        grey = 100 + self._flicker * (self._calls % 2)
        return np.dstack([np.full((256, 256, 3), grey, np.uint8), np.full((256, 256), 255, np.uint8)])[None]


@pytest.mark.parametrize(("flicker", "holds"), [(0, True), (100, False)])
def test_a_flickering_drawing_is_told_from_a_steady_one(flicker, holds):
    still = quality_motion.still(Drawer(flicker), 4)
    assert [figure.holds for figure in quality_motion.figures("noise", "m", still)] == [holds, holds, None]
    assert still.frames >= 3 and still.source / still.frames == pytest.approx(3.4, abs=1)


def test_motion_is_not_boiling():
    """Of a face that is moved, what moves with it does not count, and what flickers does."""
    frames = [np.ascontiguousarray(np.roll(FACE, shift, axis=1)) for shift in (0, 4)]
    face = type("Face", (), {"landmarks": OVAL_POINTS * 0.8 + (20, 0)})()
    with_it = quality_motion.warped((frames[0], frames[0]), (frames[1], frames[1]), face)
    assert with_it[0] == with_it[1]
    plain = quality_motion._difference(frames[0], frames[1], np.ones(FACE.shape[:2], bool))
    assert with_it[0] < plain / 3
    boiling = quality_motion.warped((frames[0], frames[0]), (frames[1], cv2.add(frames[1], (30.0,) * 3)), face)
    assert boiling[0] > boiling[1] + 15


def test_similarity_is_the_published_definition():
    cartoon = cv2.resize(FACE, (64, 64))
    drawn = torch.from_numpy(cartoon.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    whole = np.full((64, 64), 255, np.uint8)
    assert quality_pairs.similarity(torch.cat([drawn, torch.ones_like(drawn[:, :1])], 1), cartoon, whole) == 1
    assert quality_pairs.similarity(torch.cat([drawn, torch.zeros_like(drawn[:, :1])], 1), cartoon, whole) < 0.8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data as the command takes it: the astronaut in other light, two held-out pictures of each group."""
    root = tmp_path_factory.mktemp("quality") / "data"
    face = cv2.cvtColor(FACE, cv2.COLOR_RGB2BGR)
    names = [f"images/{number}.png" for number in range(40)]
    unseen = sorted(held_out(names))
    of = {name: TOLD_APART[number % 4] for number, name in enumerate(unseen)}
    (root / "utkface" / "images").mkdir(parents=True)
    with open(root / "utkface" / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "sex", "group", "ethnicity", "glasses"))
        for number, name in enumerate(names):
            group = of.get(name, "kids")
            sex, table = ("M" if group == "young-men" else "F"), ("young" if group.startswith("young") else group)
            writer.writerow((name, sex, table, ("White", "Black")[number % 2], int(number % 2)))
            cv2.imwrite(str(root / "utkface" / name), cv2.convertScaleAbs(face, alpha=0.7 + number / 100))
    for place in ("pairs/test", *(f"fewshot_groups/{group}" for group in TOLD_APART)):
        for domain in ("photo", "cartoon"):
            (root / place / domain).mkdir(parents=True)
            for number in range(2):
                picture = cv2.resize(face, (256, 256)) if domain == "photo" else cv2.stylization(face)
                cv2.imwrite(
                    str(root / place / domain / f"{number}.png"), cv2.convertScaleAbs(picture, alpha=1 - number / 9)
                )
    return root


def test_the_command_measures_prints_and_writes(folder, tmp_path, capsys, monkeypatch):
    """Judges of faces are stand-ins; finding, drawing, finishing and the live pipeline are real."""
    hard = tmp_path / "hard.csv"
    hard.write_text("kind,file,note\nglasses,utkface/images/3.png,\nhat,nowhere.png,\n")
    monkeypatch.setattr(quality, "HARD", hard)
    monkeypatch.setattr(quality_judges, "check", lambda parts, models: None)
    monkeypatch.setattr(quality_judges, "_identity", lambda models: lambda picture: np.eye(4)[picture[0, 0, 0] % 4])
    monkeypatch.setattr(quality_judges, "_guess", lambda models: lambda face: Guess(30, 0.2))
    out, sheet = tmp_path / "quality.json", tmp_path / "sheet.jpg"
    options = ["--data", str(folder), "--pictures", "2", "--json", str(out), "--sheet", str(sheet)]
    assert quality.main(options) == 0
    said = json.loads(out.read_text())
    assert [row["name"] for row in said["models"]] == ["photo", "live"]
    figures = {(figure["model"], figure["name"]): figure for figure in said["figures"]}
    assert figures["live", "weights MB"]["holds"] is True
    assert figures["live", "kind young-men called so %, utkface"]["value"] == 100
    assert figures["live", "kind kids, median age, utkface"]["holds"] is False
    assert figures["live", "kid x 1000, utkface/elderly"]["bar"] is not None
    assert (
        figures["live", "skin CIELAB, White"]["value"]
        < figures["live", "skin CIELAB of the network alone, White"]["value"]
    )
    assert figures["photo", "skin CIELAB, White"] | {"error": 0} == figures["photo", "skin CIELAB, White"]
    assert not figures["photo", "pairs L1, camera-like"]["holds"]
    still = {model: figures[model, "still face, grey levels"]["value"] for model in ("live", "photo")}
    assert 0 < still["live"] < still["photo"] / 2
    assert ("few-shot paper", "paper elderly, median age") in figures
    assert not any(figure["holds"] for (model, _), figure in figures.items() if model == "photo")
    printed = capsys.readouterr().out
    assert "bars hold" in printed and "1 of 2 pictures of hard.csv are not in" in printed
    assert sheet.is_file() and sheet.with_name("sheet-hard.jpg").is_file()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data", "nowhere"], "nowhere is no folder"),
        (["--data", ".", "--parts", "beauty"], "beauty is none of"),
        (["--data", ".", "--parts", "pairs"], "pairs/test is missing"),
        (["--data", ".", "--parts", "steadiness", "--pictures", "0"], "expected 1 or more"),
        (["--data", ".", "--parts", "steadiness", "--models", "nowhere"], "nowhere is no folder"),
        (["--data", ".", "--parts", "identity"], "mobilefacenet_128d.onnx is missing"),
        (["--data", "empty", "--parts", "glasses"], "empty has no table.csv in all_age_faces or utkface; add one"),
        (["--data", "empty", "--parts", "colours"], "empty/utkface/table.csv is missing; leave the part out"),
        (["nowhere", "--data", ".", "--parts", "steadiness"], "neither a folder nor one of the models"),
        (["--data", ".", "--parts", "steadiness", "--sheet", "nowhere/x.jpg"], "its folder is not there"),
    ],
)
def test_wrong_use_is_one_sentence(options, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("utkface", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "utkface" / "table.csv").write_text("file\n")
    assert quality.main(options) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said and "\n" not in said


def test_the_list_of_hard_pictures_is_whole():
    wanted = quality_people.listed(quality.HARD, quality.HARD.parent, None)
    kinds = {kind for _, _, kind in wanted}
    assert {"glasses", "beard", "wrinkles", "hat", "low light", "dark skin", "profile"} <= kinds
    assert len({person.file for person, _, _ in wanted if person.glasses}) >= 12


@pytest.mark.parametrize(
    ("field", "value", "sentence"), [("size", 128, "draws 128 px; expected 256 px"), ("alpha", False, "with an alpha")]
)
def test_a_model_of_another_size_or_without_alpha_is_refused(tmp_path, field, value, sentence):
    folder = shutil.copytree(find("live"), tmp_path / "other")
    said = json.loads((folder / "model.json").read_text())
    assert said[field] != value
    (folder / "model.json").write_text(json.dumps(said | {field: value}))
    with pytest.raises(UsageError, match=f"MODEL.*{sentence}"):
        quality_people.Model(str(folder))


def test_a_scene_without_a_face_gives_no_figure():
    assert not quality_motion.figures("noise", "m", quality_motion.Change())
    assert not quality_motion.figures("clip", "m", quality_motion.Change(drawn=1))


def test_glasses_that_were_looked_at_by_eye_are_known_before_any_table_says(tmp_path):
    """A row of quality_glasses.csv for whom the table says the contrary, and one that is not in it."""
    known = next(row for row in csv.DictReader(quality_people.GLASSES.open()) if row["glasses"] == "1")
    source, _, file = known["file"].partition("/")
    (tmp_path / source).mkdir()
    others = [f"images/{number}.jpg" for number in range(300)]
    rows = ["file,sex,group,glasses", *(f"{name},M,young,1" for name in others), f"{file},F,young,0"]
    (tmp_path / source / "table.csv").write_text("\n".join(rows))
    found = {person.file: person.glasses for person in quality_people.tables(tmp_path, None)[source]}
    assert found.pop(file) is True
    assert found and set(found.values()) == {True}


def test_the_published_figures_are_those_of_the_settings_that_are_shown():
    """Who changes a default measures anew."""
    for file in (quality.HARD.parent / "results").glob("*-quality.json"):
        said = json.loads(file.read_text())
        assert (said["tone"], said["detail"]) == (Settings().tone, Settings().detail), file.name
