"""Adaptive discriminator augmentation: what it does to pictures, how often, and when its strength moves."""

import dataclasses
import json
import math

import pytest
import torch

from livetoon.errors import TrainingError
from trainer import ada

EIGHT_BITS = 2 / 255  # a step of an 8-bit picture in [-1, 1]
FAMILIES = {
    "blit": ("flip", "quarters", "shift"),
    "geometry": ("zoom", "turn_before", "stretch", "turn_after", "slide"),
    "colour": ("brightness", "contrast", "luma", "hue", "saturation"),
}


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(n: int = 2, size: int = 24, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(n, 3, size, size, generator=seeded(), dtype=dtype) * 2 - 1


def waves(n: int, height: int, width: int) -> torch.Tensor:
    """Smooth colours that reach into the corners, long waves only."""
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 3, width), indexing="ij")
    return torch.stack([torch.sin(x + phase) * torch.cos(1.3 * y - phase) for phase in range(3)]).repeat(n, 1, 1, 1)


def plan(n: int, **changes) -> ada.Plan:
    """A plan that does only `changes` to each of `n` pictures."""
    nothing = ada.draw(n, 0.0, seeded())
    full = {
        name: torch.as_tensor(value, dtype=torch.float64).expand(n, -1)
        for name, value in changes.items()
        if isinstance(value, tuple)
    }
    full |= {
        name: torch.full((n,), float(value), dtype=torch.float64) for name, value in changes.items() if name not in full
    }
    return dataclasses.replace(nothing, **full)


# --- blitting -----------------------------------------------------------------------------------------------------


def test_flips_and_quarter_turns_move_pixels_and_nothing_else():
    x = noise()
    torch.testing.assert_close(ada.apply(x, plan(2, flip=-1)), x.flip(3), atol=1e-4, rtol=0)
    for quarters in (1, 2, 3):
        turned = ada.apply(x, plan(2, quarters=quarters))
        torch.testing.assert_close(turned, x.rot90(quarters, (2, 3)), atol=1e-4, rtol=0)
    both = ada.apply(x, plan(2, flip=-1, quarters=1))
    torch.testing.assert_close(both, x.flip(3).rot90(1, (2, 3)), atol=1e-4, rtol=0)


def test_a_whole_shift_brings_white_in():
    x = noise(size=40)
    wanted = torch.ones_like(x)
    wanted[:, :, :-2, 4:] = x[:, :, 2:, :-4]
    torch.testing.assert_close(ada.apply(x, plan(2, shift=(0.1, -0.05))), wanted, atol=1e-4, rtol=0)


def test_a_shift_is_rounded_to_the_pixels_of_each_tensor():
    drawn = plan(1, shift=(0.1, 0.0))
    for size, pixels in ((24, 2), (32, 3)):
        x = noise(1, size)
        torch.testing.assert_close(ada.apply(x, drawn)[..., pixels:], x[..., :-pixels], atol=1e-4, rtol=0)


# --- geometry -----------------------------------------------------------------------------------------------------


def test_a_picture_is_sampled_where_the_changes_put_it():
    """Against the function behind the picture, evaluated at places computed by hand; the picture is not square."""
    height, width, angle, zoom, stretch = 48, 64, 0.5, 1.3, 1.2

    def scene(x, y):
        return torch.sin(0.35 * x) * torch.cos(0.28 * y)

    y, x = torch.meshgrid(torch.arange(height) - 23.5, torch.arange(width) - 31.5, indexing="ij")
    picture = scene(x, y).expand(1, 3, -1, -1)
    got = ada.apply(picture, plan(1, zoom=zoom, turn_before=angle, stretch=stretch, slide=(0.03, -0.02)))[0, 0]
    u, v = (x - 0.03 * width) / stretch, (y + 0.02 * height) * stretch
    u, v = math.cos(angle) * u - math.sin(angle) * v, math.sin(angle) * u + math.cos(angle) * v
    middle = (slice(10, -10), slice(16, -16))
    assert (got - scene(u / zoom, v / zoom))[middle].abs().max() < 0.02


def test_turning_back_restores_the_picture():
    x = waves(1, 64, 64)
    back = ada.apply(ada.apply(x, plan(1, turn_before=0.7)), plan(1, turn_after=-0.7))
    assert (back - x)[..., 20:-20, 20:-20].abs().max() < 0.01


def test_outside_is_white():
    x = -torch.ones(1, 3, 32, 32)
    small = ada.apply(x, plan(1, zoom=0.5))
    assert (small[..., 10:-10, 10:-10] + 1).abs().max() < 0.15  # ringing of the filters beside the edge
    assert (small[..., 14:-14, 14:-14] + 1).abs().max() < 1e-4
    assert (small[..., :4, :] - 1).abs().max() < 1e-4
    assert (ada.apply(torch.ones(1, 3, 32, 32), plan(1, zoom=0.8, turn_before=0.3)) - 1).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("zoom", "left", "of_plain"), [(0.5, 0.01, 0.1), (0.6, 0.02, 0.1), (0.7, 0.1, 0.25), (0.8, 0.15, 0.5)]
)
def test_a_zoom_out_of_a_fine_grid_leaves_no_pattern(zoom, left, of_plain):
    """Pixels of alternating black and white cannot be shown smaller: only their mean, grey, may be left. Nearer to the
    full size the filters' slope lets a part through, still far less than plain bilinear sampling (`of_plain`)."""
    grid = (torch.arange(96)[:, None] + torch.arange(96)) % 2 * 2.0 - 1
    shift = 0.003
    small = ada.apply(grid.expand(1, 3, -1, -1), plan(1, zoom=zoom, slide=(shift, shift)))[0, 0]
    matrix = torch.tensor([[1 / zoom, 0, -2 * shift / zoom], [0, 1 / zoom, -2 * shift / zoom]])[None]
    places = torch.nn.functional.affine_grid(matrix, (1, 1, 96, 96), align_corners=False)
    plain = torch.nn.functional.grid_sample(grid[None, None], places, align_corners=False)[0, 0]
    inside = (slice(32, -32), slice(32, -32))
    assert small[inside].std() < min(left, of_plain * plain[inside].std())
    assert small[inside].mean().abs() < 0.01


# --- colour -------------------------------------------------------------------------------------------------------


def test_colours_change_as_defined():
    x = noise()
    grey = x.mean(1, keepdim=True)
    cases = {
        "brightness": (0.2, x + 0.2),
        "contrast": (1.5, x * 1.5),
        "luma": (-1, x - 2 * grey),
        "saturation": (0.0, grey.expand_as(x)),
        "hue": (2 * math.pi / 3, x.roll(1, 1)),  # a third of a turn: red becomes green, green blue, blue red
    }
    for name, (value, wanted) in cases.items():
        torch.testing.assert_close(ada.apply(x, plan(2, **{name: value})), wanted, atol=1e-5, rtol=0, msg=name)


def test_brightness_comes_before_contrast():
    x = noise()
    torch.testing.assert_close(ada.apply(x, plan(2, brightness=0.1, contrast=2)), (x + 0.1) * 2, atol=1e-5, rtol=0)


def test_one_channel_has_no_colour():
    x = noise()[:, :1]
    assert ada.augment(x, 1.0, seeded(), colour=False).shape == x.shape
    with pytest.raises(TrainingError, match="3 channels, got 1; switch colour off"):
        ada.augment(x, 1.0, seeded())


# --- the whole ----------------------------------------------------------------------------------------------------


def test_strength_0_keeps_every_bit():
    x = noise()
    assert torch.equal(ada.augment(x, 0.0, seeded()), x)


def test_strength_1_changes_every_picture():
    x = noise(8)
    y = ada.augment(x, 1.0, seeded())
    assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all()
    assert ((y - x).abs().amax((1, 2, 3)) > 0.1).all()


def test_a_picture_without_changes_keeps_every_bit_beside_others():
    x = noise(3)
    one_of_three = dataclasses.replace(
        plan(3),
        turn_before=torch.tensor([0.0, 0.4, 0.0], dtype=torch.float64),
        hue=torch.tensor([0.0, 0.4, 0.0], dtype=torch.float64),
    )
    y = ada.apply(x, one_of_three)
    assert torch.equal(y[0], x[0]) and torch.equal(y[2], x[2])
    torch.testing.assert_close(y[1:2], ada.apply(x[1:2], plan(1, turn_before=0.4, hue=0.4)))


def test_the_generator_alone_decides():
    x = noise(4)
    torch.manual_seed(1)
    first = ada.augment(x, 0.8, seeded(5))
    torch.manual_seed(2)
    assert torch.equal(ada.augment(x, 0.8, seeded(5)), first)
    generator = seeded(5)
    ada.augment(x, 0.8, generator)
    assert not torch.equal(ada.augment(x, 0.8, generator), first)  # real and generated pictures get their own


def test_one_plan_for_several_tensors():
    x = noise(4)
    drawn = ada.draw(4, 1.0, seeded())
    assert torch.equal(ada.apply(x, drawn), ada.augment(x, 1.0, seeded()))
    assert ada.apply(noise(4, size=32), drawn).shape == (4, 3, 32, 32)
    with pytest.raises(TrainingError, match="a plan for 4 pictures"):
        ada.apply(x[:2], drawn)


@pytest.mark.parametrize("off", list(FAMILIES))
def test_a_family_switched_off_leaves_the_others_draws(off):
    every, some = ada.draw(20, 1.0, seeded()), ada.draw(20, 1.0, seeded(), **{off: False})
    nothing = ada.draw(20, 0.0, seeded())
    for family, names in FAMILIES.items():
        for name in names:
            wanted = nothing if family == off else every
            assert torch.equal(getattr(some, name), getattr(wanted, name)), name


def test_with_all_families_off_nothing_changes():
    x = noise()
    assert torch.equal(ada.augment(x, 1.0, seeded(), blit=False, geometry=False, colour=False), x)


def test_how_often_and_how_much():
    n, p = 20_000, 0.4
    drawn = ada.draw(n, p, seeded())
    often = {
        name: (value != (1.0 if name in ONES else 0.0)).double().mean().item() for name, value in vars(drawn).items()
    }
    turning = 1 - math.sqrt(1 - p)
    expected = {"flip": p / 2, "luma": p / 2, "quarters": p * 3 / 4, "turn_before": turning, "turn_after": turning}
    for name, share in often.items():
        assert share == pytest.approx(expected.get(name, p), abs=0.015), name
    either = ((drawn.turn_before != 0) | (drawn.turn_after != 0)).double().mean().item()
    assert either == pytest.approx(p, abs=0.015)

    sure = ada.draw(n, 1.0, seeded(2))
    assert sure.shift.abs().max() <= 0.125 < sure.shift.abs().max() + 0.001
    assert sure.turn_after.abs().max() <= math.pi < sure.turn_after.abs().max() + 0.01
    for values, deviation in (
        (sure.zoom.log(), 0.2 * math.log(2)),
        (sure.stretch.log(), 0.2 * math.log(2)),
        (sure.slide.flatten(), 0.125),
        (sure.brightness, 0.2),
        (sure.contrast.log(), 0.5 * math.log(2)),
        (sure.saturation.log(), math.log(2)),
    ):
        assert values.std().item() == pytest.approx(deviation, rel=0.03)
        assert values.mean().item() == pytest.approx(0, abs=0.03 * deviation)
    assert sure.quarters.unique(return_counts=True)[1].double().div(n).sub(0.25).abs().max() < 0.02


ONES = {"flip", "zoom", "stretch", "contrast", "luma", "saturation"}  # fields whose neutral value is 1


@pytest.mark.parametrize("strength", [-0.01, 1.01, math.nan])
def test_a_strength_outside_0_to_1_is_refused(strength):
    with pytest.raises(TrainingError, match="expected 0 to 1"):
        ada.augment(noise(), strength, seeded())


def test_gradients_are_those_of_the_function():
    x = noise(2, 8, torch.float64).requires_grad_()
    drawn = ada.draw(2, 1.0, seeded(3))
    assert torch.autograd.gradcheck(lambda pictures: ada.apply(pictures, drawn), (x,), fast_mode=True)


def test_gradients_reach_pictures_changed_and_unchanged():
    x = noise(3).requires_grad_()
    drawn = dataclasses.replace(plan(3), zoom=torch.tensor([1.0, 1.2, 1.0], dtype=torch.float64))
    ada.apply(x, drawn).sum().backward()
    assert (x.grad[0] == 1).all() and (x.grad[1].abs() > 0).any() and (x.grad[1] != 1).any()


def test_half_precision_around_it_blurs_nothing():
    x = noise()
    drawn = ada.draw(2, 1.0, seeded())
    with torch.autocast("cpu", torch.bfloat16):
        within = ada.apply(x, drawn)
        half = ada.apply(x.bfloat16(), drawn)
    assert torch.equal(within, ada.apply(x, drawn))
    assert half.dtype == torch.bfloat16
    assert (half.float() - within).abs().mean() < 2 * EIGHT_BITS


# --- the controller -----------------------------------------------------------------------------------------------


def maps(n: int, right: float) -> torch.Tensor:
    """Maps (n, 1, 6, 6) of which the share `right` of places says real."""
    flat = torch.full((n, 36), 0.2)
    flat[:, : round(36 * right)] = 0.8
    return flat.view(n, 1, 6, 6)


def test_overfitting_raises_and_the_contrary_lowers():
    controller = ada.Controller(target=0.6, interval=8, ramp_kimg=0.1)
    for _ in range(4):
        controller.feed(maps(2, 1.0))
    assert controller.strength == pytest.approx(0.08) and controller.heuristic == 1
    for _ in range(4):
        controller.feed(maps(2, 0.5))
    assert controller.strength == 0 and controller.heuristic == pytest.approx(0)
    controller.feed(maps(8, 5 / 6))  # r_t = 2/3, just above the target
    assert controller.strength == pytest.approx(0.08)
    controller.feed(maps(8, 7 / 9))  # r_t = 5/9, just below
    assert controller.strength == 0


def test_strength_stays_between_0_and_1():
    controller = ada.Controller(interval=4, ramp_kimg=0.01)
    for outputs, limit in ((maps(4, 1.0), 1.0), (maps(4, 0.0), 0.0)):
        for _ in range(10):
            assert 0 <= controller.feed(outputs) <= 1
        assert controller.strength == limit


def test_the_ramp_is_counted_in_pictures_not_in_places_or_steps():
    """500 pictures take the strength from 0 to 1, in batches of any size and with maps of any size."""
    for batch, places in ((1, 1), (5, 36), (25, 4)):
        controller = ada.Controller(interval=10, ramp_kimg=0.5)
        for _ in range(250 // batch):
            controller.feed(torch.ones(batch, places))
        assert controller.strength == pytest.approx(0.5)


def test_a_picture_counts_once_however_sure_its_map():
    controller = ada.Controller(interval=4)
    for right in (1.0, 0.5, 0.5, 0.75):
        controller.feed(maps(1, right) * 100 - 49.5)
    assert controller.heuristic == pytest.approx((1 + 0 + 0 + 0.5) / 4)


def test_outputs_with_gradients_are_taken_as_they_are():
    outputs = maps(2, 1.0).requires_grad_()
    assert ada.Controller(interval=2, ramp_kimg=0.02).feed(outputs) == pytest.approx(0.1)


def test_it_goes_on_from_its_saved_state_to_the_bit():
    whole, first = ada.Controller(interval=7, ramp_kimg=0.3), ada.Controller(interval=7, ramp_kimg=0.3)
    outputs = torch.rand(60, 3, 1, 5, 5, generator=seeded()) + 0.35
    for step in outputs[:31]:
        whole.feed(step)
        first.feed(step)
    second = ada.Controller(interval=7, ramp_kimg=0.3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert 0 < second.strength < 1
    for step in outputs[31:]:
        assert second.feed(step) == whole.feed(step)
    assert second.state_dict() == whole.state_dict()


@pytest.mark.parametrize(
    "state", [{}, None, {"strength": 2.0}, {"strength": math.nan}, {"strength": "much"}, {"pictures": -1}, {"more": 1}]
)
def test_a_state_of_something_else_is_refused(state):
    controller = ada.Controller()
    before = controller.state_dict()
    with pytest.raises(TrainingError, match="controller's state"):
        controller.load_state_dict(before | state if state else state)
    assert controller.state_dict() == before


@pytest.mark.parametrize(
    "settings", [{"target": 1.5}, {"interval": 0}, {"ramp_kimg": 0}, {"ceiling": -1}, {"target": math.nan}]
)
def test_settings_without_sense_are_refused(settings):
    with pytest.raises(TrainingError, match="expected a target"):
        ada.Controller(**settings)


@pytest.mark.parametrize("bad", [torch.tensor(1.0), torch.zeros(0, 1, 6, 6), torch.tensor([0.7, math.nan])])
def test_outputs_that_say_nothing_are_refused(bad):
    controller = ada.Controller()
    with pytest.raises(TrainingError, match=r"expected \(N, ...\)|not finite"):
        controller.feed(bad)
    assert controller.state_dict()["pictures"] == 0


def test_the_published_rule_floors_and_takes_a_half_as_wrong():
    published, ours = ada.Controller(interval=4, published=True), ada.Controller(interval=4)
    published.feed(torch.tensor([0.5, 0.1, 0.9, 0.2]))
    ours.feed(torch.tensor([0.5, 0.1, 0.9, 0.2]))
    assert (published.heuristic, ours.heuristic) == (0, -0.25)
    published.feed(torch.tensor([0.5, 0.9, 0.9, 0.9]))
    assert published.heuristic == 0.5
    endless = ada.Controller(interval=1, ramp_kimg=0.001, published=True, ceiling=math.inf)
    assert [endless.feed(torch.ones(1)) for _ in range(3)] == [1, 2, 3]
