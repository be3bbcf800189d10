"""Reading generators: every way in, and files that are no generators."""

import pytest
import torch
from safetensors.torch import save_file

from livetoon.errors import ModelError
from trainer import checkpoint
from trainer.networks import build, names


@pytest.mark.parametrize("name", names())
def test_every_network_comes_back_the_same(name, tmp_path):
    made = build(name, groups=["many", "few"]).eval()
    checkpoint.save_generator(tmp_path / "g.safetensors", made)
    loaded = checkpoint.load_generator(tmp_path / "g.safetensors")
    x = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        drawn = loaded(x, "few")
        assert torch.equal(drawn, made(x, "few"))
    assert drawn.shape == (1, 4, 64, 64)
    assert drawn[:, 3].min() >= 0


def test_the_published_baseline_file_is_read(shared):
    generator = checkpoint.load_generator(shared / "models" / "live_baseline.safetensors")
    assert generator.network_name == "live-dense"


def test_files_that_are_no_generators_are_named(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    made = build("live", groups=["many"])
    checkpoint.save_generator(tmp_path / "g.safetensors", made)
    for path, words in [
        ("cut.safetensors", "not a safetensors file"),
        ("other.safetensors", "names no network"),
        ("none.safetensors", "not a safetensors file"),
        (".", "no checkpoint in it"),
    ]:
        with pytest.raises(ModelError, match=words):
            checkpoint.load_generator(tmp_path / path)
