"""Which pictures a step sees, told by their colours: of which groups, in which order, the same whenever it is asked."""

import numpy as np
import pytest
import torch

from trainer.collect import Unpaired
from trainer.sampling import Sampler, decoded_size, needed_pools

EACH = 4  # pictures of a group and domain


def coloured(preset) -> dict[str, Unpaired]:
    """Pictures of one colour: 80 for each group, 10 for each picture, 5 more for a cartoon."""
    side, found = decoded_size(preset), {}
    for number, group in enumerate(preset.groups):
        shades = [80 * number + 10 * index for index in range(EACH)]
        photos, cartoons = ([np.full((side, side, 3), shade + plus, np.uint8) for shade in shades] for plus in (0, 5))
        found[group] = Unpaired(photos, cartoons, [np.full(10, shade, np.float32) for shade in shades])
    return found


def shades(x: torch.Tensor) -> list[int]:
    return [round((picture.mean().item() + 1) * 127.5) for picture in x]


def groups_of(preset, x: torch.Tensor) -> list[str]:
    return [preset.groups[shade // 80] for shade in shades(x)]


def test_each_shows_every_groups_pictures_side_by_side(tiny):
    preset = tiny("fewshot", "batch=2")
    (batch,) = Sampler(coloured(preset), preset).micro_batches(2, 0)
    assert list(batch.groups) == ["many", "many", "few", "few", "other", "other"]
    assert groups_of(preset, batch.photo) == groups_of(preset, batch.cartoon) == list(batch.groups)


def test_turns_go_round(tiny):
    preset = tiny("face2webtoon-group", "batch=2")
    sampler = Sampler(coloured(preset), preset)
    for step, group in enumerate(["many", "few", "other", "many"]):
        (batch,) = sampler.micro_batches(1, step)
        assert list(batch.groups) == groups_of(preset, batch.photo) == groups_of(preset, batch.cartoon) == [group] * 2


def test_mixed_groups_pass_through_the_basic_groups_network_and_are_all_seen_alike(tiny):
    preset = tiny("baseline1", "batch=30")
    (batch,) = Sampler(coloured(preset), preset).micro_batches(1, 0)
    assert set(batch.groups) == {"many"}
    found = groups_of(preset, batch.photo)
    assert {name: found.count(name) > 4 for name in preset.groups} == dict.fromkeys(preset.groups, True)


def test_photos_and_drawings_are_drawn_apart_unless_paired_by_index(tiny):
    for pairing, paired in (("random", False), ("index", True)):
        preset = tiny("selfie2anime", f"pairing={pairing}")
        sampler = Sampler(coloured(preset), preset)
        batches = [sampler.micro_batches(1, step)[0] for step in range(12)]
        photos, cartoons = ([shades(getattr(b, side))[0] for b in batches] for side in ("photo", "cartoon"))
        assert (photos == [shade - 5 for shade in cartoons]) == paired
        if paired:
            assert photos == [10 * (step % EACH) for step in range(12)]


def test_a_step_is_the_same_whenever_it_is_asked_for_and_another_by_every_number(tiny):
    preset = tiny("fewshot", "batch=2")
    data = coloured(preset)
    for group in data.values():
        group.photo = [np.random.default_rng(len(p)).integers(0, 256, p.shape, dtype=np.uint8) for p in group.photo]
    one, other = Sampler(data, preset), Sampler(data, preset)
    other.micro_batches(2, 3)
    first = one.micro_batches(2, 7)[0]
    assert torch.equal(first.photo, other.micro_batches(2, 7)[0].photo)
    seeded = Sampler(data, tiny("fewshot", "batch=2", "seed=1"))
    for different in (one.micro_batches(2, 8), seeded.micro_batches(2, 7)):
        assert not torch.equal(first.photo, different[0].photo)


def test_processes_share_the_joint_batch_picture_by_picture(tiny):
    preset = tiny("fewshot", "batch=2")
    data = coloured(preset)
    (joint,) = Sampler(data, preset).micro_batches(2, 5)
    halves = [Sampler(data, preset, part, 2).micro_batches(2, 5)[0] for part in range(2)]
    for part, half in enumerate(halves):
        assert torch.equal(half.photo, joint.photo[part::2]) and torch.equal(half.cartoon, joint.cartoon[part::2])
        assert list(half.groups) == ["many", "few", "other"]


def test_accumulated_batches_are_different_ones(tiny):
    preset = tiny("fewshot", "accumulate=3", "batch=4")
    sampler = Sampler(coloured(preset), preset)
    batches = [*sampler.micro_batches(1, 0), *sampler.micro_batches(1, 1)]
    assert len({tuple(shades(batch.photo) + shades(batch.cartoon)) for batch in batches}) == 6


@pytest.mark.parametrize(("jitter", "several"), [("on", True), ("off", False)])
def test_jitter_mirrors_and_crops(jitter, several, tiny):
    preset = tiny("basic", f"jitter={jitter}", "batch=20")
    side = decoded_size(preset)
    row = np.broadcast_to(np.arange(side, dtype=np.uint8)[None, :, None], (side, side, 3))
    data = {group: Unpaired([row], [row], [None]) for group in preset.groups}
    (batch,) = Sampler(data, preset).micro_batches(1, 0)
    found = {(round((x[0, 0, 0].item() + 1) * 127.5), bool(x[0, 0, 0] < x[0, 0, -1])) for x in batch.photo}
    assert batch.photo.shape == (20, 3, 32, 32)
    assert (len(found) > 5) == several
    assert ({rising for _, rising in found} == {True, False}) == several
    assert several or found == {(0, True)}


def test_keypoints_come_with_their_photos_and_photos_without_are_left_out(tiny):
    preset = tiny("keypoint2", "batch=12")
    data = coloured(preset)
    data["many"].points[0] = None
    sampler = Sampler(data, preset)
    (batch,) = sampler.micro_batches(1, 0)
    assert batch.points.shape == (12, 10)
    assert batch.points[:, 0].tolist() == shades(batch.photo) and 0 not in shades(batch.photo)
    assert sampler.with_points() == EACH - 1


@pytest.mark.parametrize(
    ("name", "pools"),
    [
        ("fewshot", [("many",), ("few",), ("other",)]),
        ("basic", [("many",)]),
        ("baseline1", [("many", "few", "other")]),
        ("baseline2", [("many",), ("few", "other")]),
        ("baseline3", [("many",), ("few",)]),
    ],
)
def test_what_must_have_pictures(name, pools, tiny):
    assert needed_pools(tiny(name)) == pools
