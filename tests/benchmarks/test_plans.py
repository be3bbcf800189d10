import json

import pytest

from benchmarks import plans
from engine import manifest

pytest.importorskip("tensorrt_rtx")


def test_plans_are_built_twice_and_told(tmp_path, capsys):
    assert plans.main(["live", "--targets", "sm75", "--json", str(tmp_path / "plans.json")]) == 0
    told = json.loads((tmp_path / "plans.json").read_text())
    groups = list(manifest.read(manifest.find("live")).groups)
    assert [row["group"] for row in told["rows"]] == groups
    for row in told["rows"]:
        assert (row["model"], row["precision"], row["targets"], row["same_bytes"]) == ("live", "fp16", "sm75", "yes")
        assert row["seconds"] > 0
        assert row["plan_mb"] > 1
    assert "tensorrt_rtx" in told["machine"]["versions"]
    assert capsys.readouterr().out.count("\n") == 1 + len(groups)


def test_cards_together_have_every_precision_of_the_model():
    made = [(each.files.group, each.precision, each.where) for each in plans.recipes("live", plans.TOGETHER)]
    assert made[:4] == [
        ("young-women", "fp16", plans.TOGETHER),
        ("young-women", "fp32", plans.TOGETHER),
        ("young-women", "int8", plans.TOGETHER),
        ("young-women", "fp16", ("sm75",)),
    ]
    assert len(made) == 16


def test_unknown_cards_are_refused_before_anything_is_built(capsys):
    assert plans.main(["--targets", "sm86,sm90"]) == 2
    assert "does not compile for Hopper" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told_before_anything_is_built(capsys):
    assert plans.main(["--json", "nowhere/plans.json"]) == 2
    assert "--json nowhere/plans.json: its folder is not there" in capsys.readouterr().err
