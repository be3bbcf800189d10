"""The model that the tests of live video run, and where their pictures go."""

import os
from pathlib import Path

import pytest

from engine import manifest


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> str:
    """The model that ships with livetoon; where it was not made yet, a small one with random weights."""
    if "live" in manifest.zoo_names():
        return "live"
    from engine.export import export
    from trainer.networks import build

    generator = build("live", groups=["young-women", "kids"], widths=(8, 16, 16, 32), blocks=(1, 1, 1))
    folder: Path = tmp_path_factory.mktemp("models") / "small"
    export(generator.eval(), folder, report=lambda line: None)
    return str(folder)


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory) -> Path:
    """Where screenshots go: LIVETOON_SCREENSHOTS, or a folder that pytest keeps for a while."""
    wanted = os.environ.get("LIVETOON_SCREENSHOTS")
    folder = Path(wanted) if wanted else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
