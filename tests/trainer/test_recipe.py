"""A run as a file, through `python -m trainer.run --recipe`."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from trainer import run

SMALL = {"size": 64, "feature": 0, "batch": 2, "stage1_steps": 2, "stage2_steps": 2, "validate_every": 0}


def written(path: Path, **said: object) -> Path:
    path.write_text(json.dumps(said))
    return path


def drawing(out: Path) -> dict:
    return load_file(out / "checkpoints" / "last" / "generator.safetensors")


def test_a_recipe_makes_what_its_options_make(pairs, tmp_path):
    recipe = {"preset": "live", "groups": "many,few", "data": [pairs.name], "set": SMALL, "makes": "a test"}
    file = written(tmp_path / "small.json", **recipe)
    assert run.main(["--recipe", str(file), "--root", str(pairs.parent), "--out", str(tmp_path / "a")]) == 0
    settings = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
    options = ["--preset", "live", "--groups", "many,few", "--data", str(pairs), *settings]
    assert run.main([*options, "--out", str(tmp_path / "b")]) == 0
    first, second = (json.loads((tmp_path / name / "config.json").read_text()) for name in "ab")
    assert first == second
    first, second = drawing(tmp_path / "a"), drawing(tmp_path / "b")
    assert first.keys() == second.keys() and all((first[key] == second[key]).all() for key in first)


def test_options_beside_a_recipe_come_after_it(tmp_path, capsys):
    file = written(tmp_path / "mine.json", preset="live", set={"stage1_steps": 77, "batch": 5})
    assert run.main(["--recipe", str(file), "--set", "batch=3", "--groups", "old,new", "--dry-run"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if " " in line)
    assert (told["stage1_steps"], told["batch"], told["groups"]) == ("77", "3", "old,new")


def test_the_shipped_models_recipe_lies_with_livetoon(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run.main(["--recipe", "live", "--dry-run"]) == 0
    assert "name                   live" in capsys.readouterr().out
    assert run.main(["--recipe", "live", "--root", "mine", "--out", "run"]) == 2
    assert "mine/data/all_age_faces/table.csv: no such file" in capsys.readouterr().err
    assert run.main(["--recipe", "anime", "--root", "mine", "--out", "run"]) == 2
    assert "--init mine/engine/zoo/live/generator.safetensors: no such file" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("[1]", "expected {"),
        ("{", "is not JSON"),
        ('{"steps": 3}', "steps: no such key; expected preset, groups"),
        ('{"data": 3}', "data: 3 is no value for it"),
        ('{"masks": ["a", "b"]}', 'masks: ["a", "b"] is no value for it'),
        ('{"qat": "yes"}', 'qat: "yes" is no value for it'),
        ('{"set": "batch=3"}', 'set: "batch=3" is no value for it'),
        ('{"preset": "live", "set": {"batches": 3}}', "batches"),
        (None, "No such file or directory; livetoon's own: anime, live"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_one_sentence(tmp_path, capsys, said, sentence):
    file = tmp_path / "mine.json"
    if said is not None:
        file.write_text(said)
    assert run.main(["--recipe", str(file), "--dry-run"]) == 2
    told = capsys.readouterr().err
    assert sentence in told and told.count("\n") == 1


def test_root_alone_is_told(capsys):
    assert run.main(["--root", "data", "--dry-run"]) == 2
    assert "--root: says where the paths of a recipe begin; name one with --recipe" in capsys.readouterr().err
