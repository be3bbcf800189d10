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
    assert readme.main(["--check", "--readme", str(copy)]) == 1
    assert readme.main(["--readme", str(copy)]) == 0
    assert "| m | white | 0.5000 |" in copy.read_text()
    assert copy.read_text().endswith("<!-- /figures -->\nb\n")
    assert readme.main(["--check", "--readme", str(copy)]) == 0


def test_marks_that_are_missing_are_named():
    with pytest.raises(DataError, match="no marks"):
        readme.replaced("no figures here", "x")


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)\)", TEXT))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize(
    "command", sorted(set(re.findall(r"python -m [a-z.]+|python benchmarks/\w+\.py|^livetoon", TEXT, re.M)))
)
def test_commands_have_help_with_an_example(command):
    words = ["-m", "streamer"] if command == "livetoon" else command.split()[1:]
    result = subprocess.run([sys.executable, *words, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "example:" in result.stdout
