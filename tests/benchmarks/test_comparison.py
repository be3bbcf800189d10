"""The comparison of the papers' methods: what it holds out, how it counts steps, what it says; and two tiny runs."""

import csv
import json

import cv2
import numpy as np
import pytest

from benchmarks import comparison, comparison_data, comparison_findings, comparison_judge
from faces.align import COORDINATES, TEMPLATE
from faces.pictures import pictures
from livetoon.errors import DataError, UsageError
from trainer import metrics
from trainer.points import read_points

GROUPS = ("many", "few")


def fill(folder, count, size=48, seed=0):
    """`count` smooth pictures, all different."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        small = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{seed}-{number}.png"), cv2.resize(small, (size, size)))


@pytest.fixture
def data(tmp_path):
    """Two groups: ten pictures of the one, five and four of the other."""
    root = tmp_path / "data"
    counts = {("many", "photo"): 10, ("many", "cartoon"): 10, ("few", "photo"): 5, ("few", "cartoon"): 4}
    for seed, ((group, domain), count) in enumerate(counts.items()):
        fill(root / group / domain, count, seed=seed)
    return root


def sources(data, **more):
    return comparison_data.Sources(**{"data": (data,), "groups": GROUPS} | more)


def bytes_of(folder):
    return {path.read_bytes() for path in pictures(folder)}


def plan(**more):
    usual = {
        "groups": GROUPS, "full": False, "steps": 11, "size": None, "seed": 0, "face_id": None, "identity": None,
        "most": None,
    }  # fmt: skip
    return comparison.Plan(**usual | more)


# The pictures.


def test_what_judges_never_trains_and_nothing_is_lost(data, tmp_path):
    comparison_data.gather(sources(data), tmp_path / "work", None)
    for group in GROUPS:
        for domain in ("photo", "cartoon"):
            judges = bytes_of(tmp_path / "work" / "held-out" / group / domain)
            learns = bytes_of(tmp_path / "work" / "groups" / group / domain)
            assert len(judges) == 2
            assert not judges & learns
            assert judges | learns == bytes_of(data / group / domain)


def test_the_style_is_drawn_from_its_own_folder_and_its_pictures_are_held_out_too(data, tmp_path):
    fill(tmp_path / "anime", 20, seed=9)
    work = tmp_path / "work"
    comparison_data.gather(sources(data, drawings=tmp_path / "anime"), work, 8)
    judges, learns = (bytes_of(place / "cartoon") for place in (work / "held-out" / "style", work / "style"))
    assert (len(judges), len(learns)) == (4, 8)
    assert not judges & learns and judges | learns < bytes_of(tmp_path / "anime")
    assert bytes_of(work / "style" / "photo") == bytes_of(work / "groups" / "many" / "photo")
    counted = comparison_data.counts(work, GROUPS)["style"]
    assert counted == {"photos": 8, "cartoons": 8, "judging_photos": 2, "judging_cartoons": 4}


def test_a_second_sorting_leaves_nothing_of_the_first(data, tmp_path):
    work = tmp_path / "work"
    comparison_data.gather(sources(data), work, None)
    comparison_data.gather(sources(data), work, 3)
    assert len(pictures(work / "groups" / "many" / "photo")) == 3


@pytest.fixture
def people(tmp_path):
    """A table of twenty young women and twenty young men, turned and shifted; the last woman is black-and-white."""
    folder = tmp_path / "people"
    fill(folder / "images", 40, size=200, seed=7)
    random = np.random.default_rng(1)
    with open(folder / "table.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "age", "sex", "gray", *COORDINATES])
        for number in range(40):
            points = TEMPLATE @ np.array([[0.5, 0.1], [-0.1, 0.5]]) + 30 + random.normal(0, 1, (5, 2))
            writer.writerow(
                [f"images/7-{number}.png", 30, "F" if number < 20 else "M", int(number == 19), *points.ravel()]
            )
    return folder / "table.csv"


def test_photos_of_a_table_are_aligned_and_their_points_go_along(data, people, tmp_path):
    root = tmp_path / "drawn"
    for group, source in (("young-women", "many"), ("young-men", "few")):
        (root / group).mkdir(parents=True)
        (root / group / "cartoon").symlink_to(data / source / "cartoon")
    (root / "young-women" / "photo").symlink_to(data / "many" / "photo")
    work = tmp_path / "work"
    groups = ("young-women", "young-men")
    comparison_data.gather(comparison_data.Sources((root,), groups, (people,)), work, None)
    learns, judges = (
        [path for group in groups for path in pictures(place / group / "photo")]
        for place in (work / "groups", work / "held-out")
    )
    assert len(learns) + len(judges) == 39, "the black-and-white one and the photos of --data are left out"
    assert len(judges) == 8, "a fifth of the table's photos"
    assert all(cv2.imread(str(path)).shape == (256, 256, 3) for path in learns)
    points = read_points(work / "points.csv")
    assert {path.name for path in pictures(work / "style" / "photo")} <= set(points)
    for found in points.values():
        assert np.abs(found.reshape(5, 2) - TEMPLATE).max() < 6


def test_points_of_a_folders_photos_stay_in_their_pixels(data, tmp_path):
    given = {f"0-{number}.png": np.arange(10) + number for number in range(10)}
    path = tmp_path / "given.csv"
    lines = ["file," + ",".join(COORDINATES)]
    path.write_text("\n".join(lines + [f"{name}," + ",".join(map(str, values)) for name, values in given.items()]))
    comparison_data.gather(sources(data, points=path), tmp_path / "work", None)
    found = read_points(tmp_path / "work" / "points.csv")
    assert len(found) == 10
    for name, values in found.items():
        np.testing.assert_array_equal(values, given[name.split("-", 1)[1]])


def test_a_group_without_drawings_is_named(data, tmp_path):
    with pytest.raises(DataError, match="photo of nobody: none in"):
        comparison_data.gather(sources(data, groups=("many", "nobody")), tmp_path / "work", None)


def test_a_missing_folder_and_an_empty_folder_of_drawings_are_named(data, tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        comparison_data.gather(sources(tmp_path / "none"), tmp_path / "work", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"--drawings .*empty: no pictures"):
        comparison_data.gather(sources(data, drawings=tmp_path / "empty"), tmp_path / "work", None)


# The steps.


@pytest.mark.parametrize("full", (False, True))
@pytest.mark.parametrize("name", comparison.METHODS)
def test_every_method_takes_as_many_steps(name, full):
    preset = plan(full=full).preset(name)
    shared = plan(full=full).preset(comparison.START).stage1_steps if comparison.METHODS[name] == "shared" else 0
    assert shared + preset.stage1_steps + preset.stage2_steps == 11


def test_small_sizes_keep_what_distinguishes_a_method():
    small = {name: plan().preset(name) for name in comparison.METHODS}
    assert small["fewshot"].selective and not small["fewshot-no-selective"].selective
    assert small["face2webtoon-ada"].ada and not small["face2webtoon-group"].ada
    assert {small[name].size for name in comparison.METHODS if not name.startswith("keypoint")} == {64}
    assert plan(size=96).preset("keypoint2").size == 98


def test_the_face_id_loss_is_left_out_where_no_network_is_given():
    assert plan().preset("fewshot").face_id == 0
    assert plan(face_id="some.onnx").preset("fewshot").face_id > 0


# The figures.


def test_kid_over_whole_sets_is_the_published_one_where_sets_are_equally_large():
    x, y = np.random.default_rng(0).normal(size=(2, 12, 6))
    found, folds = comparison_judge.kid_with_folds(x, y + 0.5)
    assert found == pytest.approx(metrics.kid(x, y + 0.5)[0])
    assert len(folds) == 10


def test_kid_takes_sets_of_unequal_size_and_is_unbiased():
    random = np.random.default_rng(1)
    same = [comparison_judge.kid_with_folds(random.normal(size=(9, 5)), random.normal(size=(2, 5))) for _ in range(400)]
    values = [value for value, _ in same]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(2).normal(size=10)
    left_out = [float(np.delete(values, index).mean()) for index in range(10)]
    assert comparison_judge.jackknife_error(left_out) == pytest.approx(values.std(ddof=1) / 10**0.5)
    assert comparison_judge.jackknife_error([]) is None


def row(name, kid, spread=0.001):
    folds = {group: [value + spread * sign for sign in (-1, 1) * 5] for group, value in kid.items()}
    return {"preset": name, "kid": kid, "kid_error": dict.fromkeys(kid, 0.001), "folds": folds}


def test_findings_say_lower_higher_or_no_difference():
    ours = row("fewshot", {"many": 0.3, "few": 0.1})
    other = row("fewshot-no-selective", {"many": 0.2, "few": 0.2}, spread=-0.001)
    rare, basic = comparison_findings.findings([ours, other], "many")
    assert "the rare groups: KID x 1000 100.0 against 200.0" in rare and "lower, as arXiv" in rare
    assert "the basic group: KID x 1000 300.0 against 200.0" in basic and "higher, against" in basic
    noisy = row("fewshot-no-selective", {"many": 0.3, "few": 0.1005}, spread=-0.001)
    assert all("no difference" in said for said in comparison_findings.findings([ours, noisy], "many"))


def test_the_error_of_a_difference_is_of_the_same_photos():
    alike = [row(name, {"many": 0.3, "few": kid}, 0.05) for name, kid in (("fewshot", 0.1), ("baseline1", 0.11))]
    assert "-10.0 ± 0.0: lower" in comparison_findings.findings(alike, "many")[0], "what moves both is no error"


def test_findings_say_first_whether_the_methods_draw_at_all():
    photo = row(comparison_findings.UNCHANGED, {"many": 0.2, "few": 0.2, "style": 0.3})
    learned = [row("basic", {"many": 0.3, "few": 0.1}), row("cyclegan", {"style": 0.4})]
    (said,) = comparison_findings.findings([photo, *learned], "many")
    assert "0 of 2 methods are nearer" in said and "do not draw yet" in said
    (said,) = comparison_findings.findings([photo, row("basic", {"many": 0.1, "few": 0.3})], "many")
    assert "1 of 1 methods (basic) are nearer to the drawings of many than" in said
    assert "0 in every group: most of them draw" in said


def test_findings_tell_the_strength_of_ada():
    ada = row("face2webtoon-ada", {"many": 0.1}) | {"ada_strength": {"photo": 0.25, "cartoon": 0.5}}
    assert comparison_findings.findings([ada], "many") == [
        "face2webtoon-ada: ADA's strength at the end is 0.250 on photos, 0.500 on cartoons, of at most 1."
    ]


def test_a_table_shows_the_columns_that_a_method_fills():
    def column(*rows) -> str:
        return comparison.table(list(rows), ("many", "few")).splitlines()[0]

    def found(name: str, *groups: str) -> dict:
        kid = dict.fromkeys(groups, 0.1)
        return {"preset": name, "steps": {"stage1": 5}, "pictures": 5, "kid": kid, "kid_error": dict.fromkeys(kid)}

    photo = found(comparison.UNCHANGED, "many", "few", "style")
    assert "| pictures | KID style | FID" in column(photo, found("cyclegan", "style"))
    assert "| pictures | KID many | KID few | FID" in column(photo, found("basic", "many", "few"))


# The command.


def command(data, out, *more):
    return ["--data", str(data), "--groups", "many,few", "--size", "32", "--steps", "5", "--out", str(out), *more]


def test_a_small_comparison_from_pictures_to_table_and_sheets(data, tmp_path, capsys, monkeypatch):
    work, result = tmp_path / "work", tmp_path / "result.json"
    options = ["--presets", "baseline2,cyclegan", "--json", str(result)]
    sheets = ["--sheet", str(tmp_path / "astronaut.jpg"), "--people", str(tmp_path / "people.png")]
    assert comparison.main(command(data, work, *options)) == 0
    said = json.loads(result.read_text())
    unchanged, baseline, cyclegan = said["rows"]
    assert set(unchanged["kid"]) == {"many", "few", "style"} and unchanged["change"]["many"] == 0
    assert set(baseline["kid"]) == {"many", "few"} and baseline["change"]["few"] > 0
    assert baseline["steps"] == {"shared": 2, "stage1": 0, "stage2": 3}
    assert set(cyclegan["kid"]) == {"style"} and cyclegan["pictures"] == 5
    assert said["features"] == "efficientnet-lite0" and said["pictures"]["few"]["cartoons"] == 2
    assert unchanged["changed"] == {} and baseline["changed"]["network"] == "ugatit", "what is not published"
    assert cyclegan["changed"]["size"] == 32 and "network" not in cyclegan["changed"]
    printed = capsys.readouterr().out
    assert "| baseline2 | 5 | 5 |" in printed

    learned = {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")}
    assert comparison.main(command(data, work, *options, *sheets)) == 2, "a second start says that --resume is missing"
    assert comparison.main(command(data, work, *options, *sheets, "--resume")) == 0
    assert json.loads(result.read_text())["rows"] == said["rows"]
    assert learned == {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")}, "nothing learned again"
    assert all(cv2.imread(path).shape[1] > 200 for path in sheets[1::2])
    assert comparison.main(command(data, work, *options, "--resume", "--seed", "3")) == 2
    assert "other pictures, steps or sizes" in capsys.readouterr().err
    monkeypatch.setitem(comparison.SMALL_FEW_SHOT, "cycle", "11")
    assert comparison.main(command(data, work, *options, "--resume")) == 2, "rows of other settings are not mixed"


def refused(*argv):
    options = comparison.arguments().parse_args([*argv, "--out", "nowhere"])
    with pytest.raises(UsageError) as error:
        comparison._checked(options)
    return str(error.value)


def test_wrong_use_is_told_before_anything_starts(tmp_path):
    network = tmp_path / "face.onnx"
    network.write_bytes(b"")
    assert "--presets live: unknown" in refused("--data", "d", "--presets", "live")
    assert "--data: no folder given" in refused()
    assert "--steps 4: expected at least 5" in refused("--data", "d", "--steps", "4")
    assert "--points: keypoint1 learns" in refused("--data", "d")
    assert "no such file" in refused("--data", "d", "--face-id", str(tmp_path / "none.onnx"))
    both = ("--face-id", str(network), "--identity", str(network))
    assert "cannot judge" in refused("--data", "d", *both)
    assert "expected a multiple of 16" in refused("--data", "d", "--size", "50")


def test_after_too_few_drawings_the_same_command_may_be_given_again(data, tmp_path, capsys):
    for path in pictures(data / "few" / "cartoon")[:2]:
        path.unlink()
    for _ in range(2):
        assert comparison.main(command(data, tmp_path / "work", "--presets", "baseline1")) == 1
        assert "cartoon of few: 2 found, which leaves too few to hold any out" in capsys.readouterr().err


def test_a_folder_with_other_files_is_left_alone(data, tmp_path, capsys):
    kept = tmp_path / "work" / "groups" / "mine.txt"
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    assert comparison.main(command(data, tmp_path / "work", "--presets", "baseline1")) == 2
    assert "holds other files" in capsys.readouterr().err
    assert kept.read_text() == "mine"


def test_folders_of_the_public_projects_are_compared_too(data, tmp_path):
    for domain, place in (("photo", "trainA"), ("cartoon", "trainB")):
        for number, group in enumerate(("many", "few")):
            (tmp_path / "public" / place).mkdir(parents=True, exist_ok=True)
            (data / group / domain).rename(tmp_path / "public" / place / str(number))
    sources = comparison_data.Sources((tmp_path / "public",), ("many", "few"))
    comparison_data.gather(sources, tmp_path / "work", None)
    assert comparison_data.counts(tmp_path / "work", ("many", "few"))["few"]["cartoons"] == 2


def test_nothing_to_resume_is_told(data, tmp_path, capsys):
    assert comparison.main(command(data, tmp_path / "work", "--presets", "baseline1", "--resume")) == 2
    assert "no comparison in" in capsys.readouterr().err
