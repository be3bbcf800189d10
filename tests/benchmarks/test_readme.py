"""The README shows what was measured, names commands that exist and pictures that lie there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import readme
from livetoon.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_figures_are_those_of_the_results():
    assert readme.main(["--check"]) == 0


def test_a_changed_result_is_noticed(tmp_path, monkeypatch):
    row = {"model": "m", "background": "white", "pairs": 2, "l1": 0.5, "ssim": 0.5, "psnr_db": 5, "alpha_accuracy": 0.5}
    (tmp_path / "quality.json").write_text(json.dumps({"rows": [row]}))
    copy = tmp_path / "README.md"
    copy.write_text("a\n<!-- figures: here -->\n<!-- /figures -->\nb\n")
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    assert readme.main(["--check", "--page", str(copy)]) == 1
    assert readme.main(["--page", str(copy)]) == 0
    assert "| m | white | 0.5000 |" in copy.read_text()
    assert copy.read_text().endswith("<!-- /figures -->\nb\n")
    assert readme.main(["--check", "--page", str(copy)]) == 0


def test_figures_of_training_have_their_own_marks(tmp_path, monkeypatch):
    figures = {"kid": {"many": 0.1, "style": 0.2}, "kid_error": {"many": None, "style": 0.01}, "change": {"many": 0}}
    row = {"preset": "photo unchanged", "steps": {"stage1": 0}, "pictures": 0, **figures}
    machine = {"cores": 2, "processor": "P"}
    said = {"machine": machine, "steps": 7, "features": "f", "rows": [row], "findings": ["it draws."]}
    (tmp_path / "comparison.json").write_text(json.dumps(said))
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    text = readme.replaced("a\n<!-- training figures: here -->\nold\n<!-- /figures -->\nb\n")
    assert "| photo unchanged | 0 | 0 | 100 | 200 ± 10 |" in text and "\n- it draws.\n" in text
    assert text.endswith("<!-- /figures -->\nb\n") and "old" not in text


def test_what_a_judge_sees_in_drawings_stands_beside_the_photo(tmp_path, monkeypatch):
    def figure(name, model, value, bar=None, holds=None):
        return {"name": name, "model": model, "value": value, "bar": bar, "holds": holds}

    men, alone = "kind young-men called so %, faces", "kind young-men called so % of the network alone, faces"
    figures = [
        figure(men, "photo", 93.2, 80, False),
        figure(men, "m", 81.04, 80, True),
        figure(alone, "m", 20, 80, False),
    ]
    said = {"figures": figures, "tone": 1.0, "detail": 0.8}
    (tmp_path / "box-quality.json").write_text(json.dumps(said))
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    text = readme.replaced("a\n<!-- figures: here -->\n<!-- /figures -->\n")
    assert f"| {men} | 80 | 93.2 | 81 |" in text and alone not in text and "1 of 2 bars hold for m" in text


def test_marks_that_are_missing_are_named():
    with pytest.raises(DataError, match="no marks"):
        readme.replaced("no figures here")
    with pytest.raises(DataError, match="no mark `<!-- /figures -->` after"):
        readme.replaced("<!-- figures: x -->")


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", TEXT))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"python -m [a-z_.]+|python benchmarks/\w+\.py|^livetoon", TEXT, re.M)))
)
def test_commands_have_help_with_an_example(command):
    words = ["-m", "streamer"] if command == "livetoon" else command.split()[1:]
    result = subprocess.run([sys.executable, *words, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "example:" in result.stdout
