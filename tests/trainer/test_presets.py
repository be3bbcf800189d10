"""Each preset by what it does: a check for each rule that tells it from the others, which fails when the rule is gone.

A check that takes a rule away first shows that it would notice.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from livetoon.errors import UsageError
from trainer import presets
from trainer.ada import Controller
from trainer.adversary import Adversary
from trainer.collect import Unpaired
from trainer.data import Group
from trainer.live import LiveLearner
from trainer.live_step import Trainer
from trainer.networks import build
from trainer.presets import PRESETS, resolve
from trainer.sampling import Sampler, decoded_size
from trainer.step import DOMAINS
from trainer.translation import build_generator

CHECKS: dict[str, list[Callable]] = {}


def rule(*names: str) -> Callable:
    """Decorator: a check of these presets' rules; it is called with the name and the fixtures `tiny` and `learner`."""

    def register(check: Callable) -> Callable:
        for name in names:
            CHECKS.setdefault(name, []).append(check)
        return check

    return register


def weights(module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def moved(before: dict[str, torch.Tensor], module) -> bool:
    return not all(torch.equal(before[name], value) for name, value in module.named_parameters())


def taken(made, stage: int, steps: int = 1, first: int = 0) -> dict[str, float]:
    """Enter a stage as the loop does and take steps; the last one's figures."""
    if stage == 2 and first == 0:
        made.begin(2)
    made.enter(stage)
    for step in range(first, first + steps):
        figures = made.step(stage, step, made.batches(stage, step))
    return figures


def seen(preset) -> dict[int, set[str]]:
    """The groups whose pictures the steps of each stage show, told by their colours."""
    side, data = decoded_size(preset), {}
    for number, group in enumerate(preset.groups):
        photo, cartoon = (np.full((side, side, 3), 40 * number + plus, np.uint8) for plus in (10, 20))
        data[group] = Unpaired([photo], [cartoon], [np.zeros(10, np.float32)])
    sampler, found = Sampler(data, preset), {}
    for stage, steps in ((1, preset.stage1_steps), (2, preset.stage2_steps)):
        for step in range(steps):
            for batch in sampler.micro_batches(stage, step):
                for photo, cartoon in zip(batch.photo, batch.cartoon, strict=True):
                    numbers = [((x.mean().item() + 1) * 127.5 - plus) / 40 for x, plus in ((photo, 10), (cartoon, 20))]
                    found.setdefault(stage, set()).update(preset.groups[round(number)] for number in numbers)
    return found


ALL = {"many", "few", "other"}
SEEN = {
    "fewshot": {1: {"many"}, 2: ALL},
    "fewshot-no-selective": {1: {"many"}, 2: ALL},
    "basic": {1: {"many"}},
    "baseline1": {1: ALL},
    "baseline2": {1: {"many"}, 2: {"few", "other"}},
    "baseline3": {1: {"many"}, 2: {"few"}},
    "photo2cartoon": {1: {"many"}},
    "ugatit": {1: {"many"}},
    "face2webtoon-finetune": {1: {"many"}, 2: ALL},
    "face2webtoon-group": {1: ALL},
    "face2webtoon-ada": {1: ALL},
}


@rule(*SEEN)
def each_stage_shows_its_groups(name, tiny, learner):
    stages = ["stage1_steps=30"] + (["stage2_steps=30"] if PRESETS[name].stage2_steps else [])
    assert seen(tiny(name, *stages)) == SEEN[name]


def shared_after_stage_2(preset, learner, changed=()) -> tuple[dict, dict]:
    made = learner(preset, changed)
    taken(made, 2)
    return weights(made.networks.to_cartoon.trunk), weights(made.networks.to_cartoon.branches["few"])


def rare_pictures_move_shared_parameters(preset, learner) -> bool:
    """Whether the shared parameters depend, to the bit, on what the rare groups' pictures are."""
    trunk, branch = shared_after_stage_2(preset, learner)
    other_trunk, other_branch = shared_after_stage_2(preset, learner, changed=("few", "other"))
    assert any(not torch.equal(value, other_branch[name]) for name, value in branch.items())
    return any(not torch.equal(value, other_trunk[name]) for name, value in trunk.items())


@rule("fewshot")
def a_rare_picture_moves_no_shared_parameter(name, tiny, learner):
    assert not rare_pictures_move_shared_parameters(tiny(name), learner)
    assert rare_pictures_move_shared_parameters(replace(tiny(name), selective=()), learner)


@rule("fewshot-no-selective")
def a_rare_picture_moves_every_parameter(name, tiny, learner):
    assert rare_pictures_move_shared_parameters(tiny(name), learner)


@rule("fewshot", "fewshot-no-selective")
def branches_start_as_copies_of_the_basic_one(name, tiny, learner):
    made = learner(tiny(name))
    branches = made.networks.to_cartoon.branches
    taken(made, 1)
    assert moved(weights(branches["many"]), branches["few"])
    made.begin(2)
    for network in (made.networks.to_cartoon, made.networks.to_photo, *made.ema.values()):
        assert not moved(weights(network.branches["many"]), network.branches["few"])
    taken(made, 2, first=1)
    assert moved(weights(branches["many"]), branches["few"])


def slope(preset, learner, name: str = "generator") -> dict[str, torch.Tensor]:
    """The gradient of a first step's losses, by parameter of one network."""
    made, held = learner(preset), {}
    made.parallel.average = lambda parameters: held.update({id(p): p.grad.clone() for p in parameters})
    taken(made, 1)
    network = dict(made.networks.named())[name]
    return {key: held[id(p)] for key, p in network.named_parameters() if id(p) in held}


def ratio(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    length = [math.sqrt(sum(value.square().sum().item() for value in each.values())) for each in (one, other)]
    return length[0] / length[1]


CYCLE_ALONE = {"adversarial": 0.0, "identity": 0.0, "cam": 0.0}


@rule("photo2cartoon", "photo2cartoon-full")
def the_cycle_weighs_fifty(name, tiny, learner):
    alone = replace(tiny(name), **CYCLE_ALONE)
    assert ratio(slope(alone, learner), slope(replace(alone, cycle=1.0), learner)) == pytest.approx(50, rel=1e-3)


@rule("ugatit-light", "ugatit", "cyclegan")
def the_cycle_weighs_ten(name, tiny, learner):
    alone = replace(tiny(name), **CYCLE_ALONE)
    assert ratio(slope(alone, learner), slope(replace(alone, cycle=1.0), learner)) == pytest.approx(10, rel=1e-2)


@rule("photo2cartoon", "ugatit-light")
def light_style_is_of_pooled_features(name, tiny, learner):
    assert not _style_knows_places(tiny(name, hourglasses=True))


@rule("photo2cartoon-full", "ugatit")
def full_style_is_of_all_features(name, tiny, learner):
    assert _style_knows_places(tiny(name, hourglasses=True))


def _style_knows_places(preset) -> bool:
    torch.manual_seed(0)
    style = build_generator(preset).trunk["style"]
    x = torch.rand(1, preset.width * 4, preset.size // 4, preset.size // 4)
    one, other = (style(each) for each in (x, x.flip(3)))
    if isinstance(one, tuple):
        one, other = torch.cat(one), torch.cat(other)
    return not torch.allclose(one, other, rtol=1e-4, atol=1e-5)


@rule("face2webtoon-finetune")
def the_bottleneck_is_frozen_in_stage_2(name, tiny, learner):
    for preset, frozen in ((tiny(name), True), (replace(tiny(name), frozen=()), False)):
        made = learner(preset)
        taken(made, 2)
        for network in (made.networks.to_cartoon, made.networks.to_photo):
            before = {part: weights(network.trunk[part]) for part in network.parts}
            taken(made, 2, first=1)
            still = {part for part, values in before.items() if not moved(values, network.trunk[part])}
            assert still == ({"encode"} if frozen else set())


@rule("face2webtoon-group", "face2webtoon-ada")
def the_bottleneck_is_moved_in_the_basic_groups_turn_alone(name, tiny, learner):
    for preset, selective in ((tiny(name), True), (replace(tiny(name), selective=()), False)):
        made, turns = learner(preset), {}
        network = made.networks.to_cartoon
        for step in range(3):
            before = {part: weights(network.trunk[part]) for part in network.parts}
            group = made.batches(1, step)[0].groups[0]
            taken(made, 1, first=step)
            turns[group] = {part for part, values in before.items() if not moved(values, network.trunk[part])}
        assert turns == {"many": set()} | {group: {"encode"} if selective else set() for group in ("few", "other")}


@rule("face2webtoon-group", "face2webtoon-ada")
def cartoon_discriminators_alone_learn_groups_by_cross_entropy(name, tiny, learner):
    made = learner(replace(tiny(name), ada=False))
    batch = made.batches(1, 1)[0]  # the turn of `few`, whose row is 1
    judge = made.networks.judges["cartoon"]["global"]
    judge(batch.cartoon)  # spectral norms advance with every call: take the one that the step will not
    before = {key: value.clone() for key, value in judge.state_dict().items()}
    expected = F.cross_entropy(judge(batch.cartoon).groups, torch.tensor([1])).item()
    judge.load_state_dict(before)
    figures = taken(made, 1, first=1)
    assert figures["D/cartoon/global/group"] == pytest.approx(expected, rel=1e-4)
    assert {key.split("/")[1] for key in figures if key.endswith("/group")} == {"cartoon"}
    without = taken(learner(replace(tiny(name), ada=False, group=0.0)), 1, first=1)
    assert not [key for key in without if key.endswith("/group")]


@rule("fewshot", "fewshot-no-selective")
def all_discriminators_learn_groups_by_squares(name, tiny, learner):
    made = learner(tiny(name))
    figures = taken(made, 2)
    assert {tuple(key.split("/")[:2]) for key in figures if key.endswith("/group")} == {
        (side, domain) for side in "DG" for domain in DOMAINS
    }
    assert 0.2 < figures["D/photo/local/group"] < 0.5  # of three new classes: a square of some 1/3, an entropy of 1.1


def shown(made, judge: str, stage: int, step: int) -> dict[str, list[torch.Tensor]]:
    """What the first discriminator of each domain is shown in a step: real, fake, and the fake for the generator."""
    inputs: dict[str, list[torch.Tensor]] = {domain: [] for domain in DOMAINS}
    hooks = [
        made.networks.judges[domain][judge].register_forward_pre_hook(
            lambda _m, x, domain=domain: inputs[domain].append(x[0].detach().clone())
        )
        for domain in DOMAINS
    ]
    taken(made, stage, first=step)
    for hook in hooks:
        hook.remove()
    return inputs


def one_picture_more(made, sign: int) -> None:
    """255 of the controllers' 256 pictures were seen, all of them taken for real (1) or for drawn (-1)."""
    for controller in made.ada.values():
        controller.load_state_dict(
            Controller().state_dict() | {"strength": 0.5, "signs": 255.0 * sign, "pictures": 255}
        )


@rule("face2webtoon-ada")
def strength_follows_what_the_discriminators_know_by_heart(name, tiny, learner):
    made = learner(tiny(name))
    one_picture_more(made, 1)
    taken(made, 1)
    assert all(controller.strength > 0.5 for controller in made.ada.values())
    one_picture_more(made, -1)
    taken(made, 1, first=1)
    assert all(controller.strength < 0.5 for controller in made.ada.values())


@rule("face2webtoon-ada")
def both_domains_are_augmented(name, tiny, learner):
    for preset, augmented in ((tiny(name), True), (replace(tiny(name), ada=False), False)):
        made = learner(preset)
        for controller in made.ada.values():
            controller.load_state_dict(controller.state_dict() | {"strength": 1.0})
        batch = made.batches(1, 0)[0]
        inputs = shown(made, "global", 1, 0)
        for domain, real in (("photo", batch.photo), ("cartoon", batch.cartoon)):
            on_real, fake, fake_again = inputs[domain]
            assert torch.equal(on_real, real) != augmented
            assert torch.equal(fake, fake_again) != augmented  # each look draws its own changes


@rule("cyclegan", "selfie2anime")
def the_pool_shows_older_fakes(name, tiny, learner):
    for preset, pooled in ((tiny(name, "pool=1"), True), (tiny(name, "pool=0"), False)):
        made, fresh, older = learner(preset), [], 0
        for step in range(8):
            _, fake, own = shown(made, "patch", 1, step)["cartoon"]
            older += any(torch.equal(fake, each) for each in fresh)
            fresh.append(own)
        assert (older > 0) == pooled


def fakes_until_an_older_one(preset, learner) -> int:
    made = learner(preset)
    made.enter(1)
    for number in range(1000):
        made._place = (1, number)
        fake = torch.full((1, 1), float(number))
        if not torch.equal(made._pool("photo", fake), fake):
            return number
    return 1000


@rule("cyclegan")
def its_pool_holds_fifty(name, tiny, learner):
    assert 50 <= fakes_until_an_older_one(tiny(name), learner) < 70


@rule("selfie2anime")
def its_pool_holds_a_hundred_and_its_programs_fifty(name, tiny, learner):
    assert 100 <= fakes_until_an_older_one(tiny(name), learner) < 120
    published = replace(tiny(name), **presets.AS_PUBLISHED[name])
    assert 50 <= fakes_until_an_older_one(published, learner) < 70


@rule("cyclegan", "selfie2anime")
def discriminators_learn_by_half_of_the_squares(name, tiny, learner):
    preset = tiny(name)
    whole = slope(replace(preset, discriminator=1.0), learner, "photo_patch")
    assert ratio(slope(preset, learner, "photo_patch"), whole) == pytest.approx(0.5, rel=1e-3)


def rates(name, tiny, learner) -> list[float]:
    made, found = learner(tiny(name)), []
    for step in range(4):
        taken(made, 1, first=step)
        found.append(made.optimizers["generators"].param_groups[0]["lr"])
    return found


@rule("cyclegan", "ugatit-light")
def the_rate_falls_from_the_middle_on(name, tiny, learner):
    found = rates(name, tiny, learner)
    assert found[0] == found[1] == found[2]
    assert found[3] == pytest.approx(found[0] / 2)


@rule("selfie2anime")
def the_rate_stays(name, tiny, learner):
    assert len(set(rates(name, tiny, learner))) == 1


@rule("selfie2anime")
def momentum_is_that_of_adams_default(name, tiny, learner):
    """A second step of gradient zero goes on by 0.9 of the first one's, not by half of it."""
    for preset, kept in ((tiny(name), 0.9), (tiny("cyclegan"), 0.5)):
        optimizer = learner(preset).optimizers["generators"]
        parameter = optimizer.param_groups[0]["params"][0]
        for gradient in (1.0, 0.0):
            parameter.grad = torch.full_like(parameter, gradient)
            optimizer.step()
        assert optimizer.state[parameter]["exp_avg"].max().item() == pytest.approx((1 - kept) * kept, rel=1e-3)


@rule("selfie2anime")
def discriminators_end_in_a_sigmoid(name, tiny, learner):
    x = torch.rand(1, 3, 32, 32) * 200 - 100
    for preset, bounded in ((tiny(name), True), (tiny("cyclegan"), False)):
        values = learner(preset).networks.judges["photo"]["patch"](x).logit
        assert ((values >= 0) & (values <= 1)).all().item() == bounded


KEYPOINT_ALONE = {**CYCLE_ALONE, "cycle": 0.0, "weight_decay": 0.0}


@rule("keypoint1", "keypoint2")
def the_keypoint_distance_is_one_of_the_generators_losses(name, tiny, learner):
    alone = replace(tiny(name), **KEYPOINT_ALONE)
    weight = {"keypoint1": 10, "keypoint2": 1}[name]
    for network in ("generator", "back"):  # the reconstruction passes through both
        found, plain = (slope(preset, learner, network) for preset in (alone, replace(alone, keypoint=1.0)))
        assert ratio(found, plain) == pytest.approx(weight, rel=1e-3)


@rule("keypoint3")
def an_adam_of_its_own_minimises_the_keypoint_distance(name, tiny, learner):
    for preset, apart in ((tiny(name), True), (tiny("keypoint2"), False)):
        made = learner(replace(preset, **KEYPOINT_ALONE))
        there, back = weights(made.networks.to_cartoon), weights(made.networks.to_photo)
        figures = taken(made, 1)
        assert figures["keypoint"] > 0
        assert moved(there, made.networks.to_cartoon)
        assert moved(back, made.networks.to_photo) != apart


@rule("keypoint1", "keypoint2", "keypoint3")
def the_predictor_learns_before_each_stretch_of_steps_and_never_within(name, tiny, learner):
    made, learned = learner(tiny(name, "stage1_steps=5")), []
    for step in range(5):
        before = weights(made.predictor)
        figures = taken(made, 1, first=step)
        learned.append(moved(before, made.predictor))
        assert ("predictor" in figures) == learned[-1]
        assert all(parameter.grad is None for parameter in made.predictor.parameters())
    assert learned == [True, False, True, False, False]  # one epoch before steps 0 and 2, then none


@rule("live")
def rare_pairs_move_no_shared_parameter(name, tiny, learner):
    trunks = []
    for shade in (60, 200):
        preset = replace(PRESETS[name], groups=("many", "few"), size=64, feature=0.0, stage2_steps=1)
        data, random = {}, np.random.default_rng(0)
        for group, level in (("many", 100), ("few", shade)):
            photo, cartoon = (np.full((64, 64, 3), level + plus, np.uint8) for plus in (0, 9))
            alpha = random.integers(0, 256, (64, 64), dtype=np.uint8)
            data[group] = Group([photo], [cartoon], [alpha])
        torch.manual_seed(0)
        made = LiveLearner(Trainer(build("live", groups=preset.groups), preset, None), data)
        before = weights(made.trainer.generator.branches["few"])
        made.begin(2)
        made.enter(2)
        made.step(2, 0, made.batches(2, 0))
        assert moved(before, made.trainer.generator.branches["few"])
        trunks.append(weights(made.trainer.generator.trunk))
    assert all(torch.equal(value, trunks[1][name]) for name, value in trunks[0].items())


@rule("live-style")
def drawings_without_a_photo_move_it(name, tiny, learner):
    preset = replace(PRESETS[name], size=64, feature=0.0, batch=2)
    random = np.random.default_rng(0)
    photo, cartoon = (random.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(2))
    after = []
    for level in (30, 220):
        drawings = [np.full((64, 64, 3), level, np.uint8)]
        data = {"everyone": Group([photo], [cartoon], [np.full((64, 64), 255, np.uint8)], drawings=drawings)}
        torch.manual_seed(0)
        adversary = Adversary(preset.judge_learning_rate)
        made = LiveLearner(Trainer(build("live", groups=preset.groups), preset, None, adversary=adversary), data)
        for step in range(2):  # the judge has seen drawings after the first
            figures = made.step(1, step, made.batches(1, step))
        assert figures["everyone/judge"] > 0
        after.append(weights(made.trainer.generator))
    assert any(not torch.equal(value, after[1][name]) for name, value in after[0].items())


# What the sources say, written out: the papers' and programs' weights, rates, sizes and steps.
ADAM = {"learning_rate": 1e-4, "beta1": 0.5, "weight_decay": 1e-4, "schedule": "half"}
NOT_THERE = {"pool": 0, "ada": False, "keypoint": 0, "keypoint_apart": False, "selective": (), "frozen": ()}
U_GAT_IT = {
    **ADAM, **NOT_THERE, "network": "ugatit", "size": 256, "width": 64, "blocks": 4, "judge_width": 64,
    "judge_layers": (7, 5), "batch": 1, "adversarial": 1, "cycle": 10, "identity": 10, "cam": 1000, "face_id": 0,
    "group": 0, "discriminator": 1, "jitter": True, "stage1_steps": 1_000_000, "stage2_steps": 0, "own": (),
}  # fmt: skip
PHOTO2CARTOON = {
    **U_GAT_IT, "network": "photo2cartoon", "width": 32, "judge_width": 32, "light": True, "cycle": 50, "face_id": 1,
}  # fmt: skip
BASIC = {**PHOTO2CARTOON, "stage1_steps": 100_000, "stage1_sampling": "basic"}
BASELINE = {**BASIC, "stage2_steps": 50_000}
FEW_SHOT = {
    **BASIC, "stage2_steps": 50_000, "stage2_cam": 500, "stage2_sampling": "each", "group": 0.25,
    "group_form": "square", "group_domains": ("cartoon", "photo"), "groups_alike": False,
    "own": ("stem", "hourglass1", "hourglass4", "out"),
}  # fmt: skip
FACE2WEBTOON = {
    **U_GAT_IT, "light": False, "jitter": False, "stage1_steps": 200_000, "group": 1, "group_form": "entropy",
    "group_domains": ("cartoon",), "stage1_sampling": "turns", "selective": ("encode",),
}  # fmt: skip
CYCLEGAN = {
    **NOT_THERE, "network": "cyclegan", "variant": "cyclegan", "size": 256, "width": 64, "blocks": 9,
    "judge_width": 64, "batch": 1, "adversarial": 1, "cycle": 10, "identity": 0.5 * 10, "cam": 0, "face_id": 0,
    "group": 0, "discriminator": 0.5, "learning_rate": 2e-4, "beta1": 0.5, "weight_decay": 0, "schedule": "half",
    "jitter": True, "pool": 50, "stage1_steps": 200 * 3400,  # epochs of selfie2anime's pictures
}  # fmt: skip
KEYPOINT = {
    **U_GAT_IT, "light": True, "keypoint_pads": True, "size": 178, "jitter": False, "stage1_steps": 50_000,
    "keypoint_epochs": (3, 20, 40, 20), "keypoint_every": 10_000, "keypoint_batch": 1,
}  # fmt: skip
SOURCED = {
    "fewshot": {**FEW_SHOT, "selective": ("shared",)},
    "fewshot-no-selective": FEW_SHOT,
    "basic": BASIC,
    "baseline1": {**BASIC, "stage1_sampling": "mixed"},
    "baseline2": {**BASELINE, "stage2_sampling": "mixed-rare"},
    "baseline3": {**BASELINE, "stage2_sampling": "rare"},
    "photo2cartoon": PHOTO2CARTOON,
    "photo2cartoon-full": {**PHOTO2CARTOON, "light": False},
    "ugatit-light": {**U_GAT_IT, "light": True},
    "ugatit": {**U_GAT_IT, "light": False},
    "face2webtoon-finetune": {
        **FACE2WEBTOON, "group": 0, "selective": (), "stage1_sampling": "basic", "stage2_steps": 200_000,
        "stage2_sampling": "turns", "frozen": ("encode",),
    },
    "face2webtoon-group": FACE2WEBTOON,
    "face2webtoon-ada": {**FACE2WEBTOON, "ada": True, "ada_target": 0.6, "ada_kimg": 500, "ada_interval": 256},
    "cyclegan": CYCLEGAN,
    "selfie2anime": {
        **CYCLEGAN, "variant": "ece285", "beta1": 0.9, "schedule": "constant", "jitter": False, "pool": 100,
        "stage1_steps": 90 * 3400, "seed": 1,
    },
    "keypoint1": {**KEYPOINT, "keypoint": 10},
    "keypoint2": {**KEYPOINT, "keypoint": 1},
    "keypoint3": {**KEYPOINT, "keypoint": 1, "keypoint_apart": True},
    "live-style": {"network": "live", "size": 256, "groups": ("everyone",)},  # ours as well
    "live": {"network": "live", "size": 256},  # ours: its numbers are measured, in LOG.md
}  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_its_sources_values(name):
    assert {field: getattr(PRESETS[name], field) for field in SOURCED[name]} == SOURCED[name]


@pytest.mark.parametrize(
    ("name", "published"),
    [("ugatit", {"discriminators_first": True}), ("cyclegan", {}), ("selfie2anime", {"pool": 50, "pairing": "index"})],
)
def test_as_published_has_the_programs_values(name, published):
    preset = resolve(name, [], as_published=True)
    expected = {"pool": PRESETS[name].pool, "pairing": "random", "discriminators_first": False} | published
    assert {field: getattr(preset, field) for field in expected} == expected


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_a_rule_of_its_own(name):
    assert CHECKS.get(name), f"{name}: write a check of what tells it from the others"


@pytest.mark.parametrize(
    ("name", "check"), [pytest.param(n, c, id=f"{n}: {c.__name__}") for n in PRESETS for c in CHECKS.get(n, [])]
)
def test_rule(name, check, tiny, learner):
    check(name, tiny, learner)


def test_face_id_and_the_content_of_the_photo_take_part_in_photo2cartoon(tiny, learner, face_id):
    """Soft-AdaLIN begins as AdaLIN; in the first step its mixing weights leave 0 where the content asks for it."""
    made = learner(tiny("photo2cartoon", "face_id=1", hourglasses=True), face_id=face_id)
    figures = taken(made, 1)
    assert {"G/photo/face_id", "G/cartoon/face_id"} <= figures.keys()
    assert all(0 < figures[f"G/{domain}/face_id"] < 2 for domain in DOMAINS)
    mixed = [v for name, v in made.networks.to_cartoon.named_parameters() if name.endswith(("w_gamma", "w_beta"))]
    assert len(mixed) == 16 and max(value.max().item() for value in mixed) > 0


def test_the_face_id_term_moves_the_generators(tiny, learner, face_id):
    preset = replace(tiny("photo2cartoon", "face_id=1"), **CYCLE_ALONE, cycle=0.0)
    made, held = learner(preset, face_id=face_id), []
    made.parallel.average = lambda parameters: held.extend(p.grad.abs().max().item() for p in parameters)
    taken(made, 1)
    assert max(held[: len(list(made.networks.to_cartoon.parameters()))]) > 0


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["widht=3"], "--set widht=3: expected name=value with a name of"),
        (["width"], "--set width: expected name=value"),
        (["width=0"], "--set width=0: expected at least 1"),
        (["width=6"], "--set width=6: expected a multiple of 4"),
        (["cycle=-1"], "--set cycle=-1: expected a number of at least 0"),
        (["cycle=inf"], "--set cycle=inf: expected a number of at least 0"),
        (["cycle=nan"], "--set cycle=nan: expected a number of at least 0"),
        (["ada=perhaps"], "--set ada=perhaps: expected on or off"),
        (["judge_layers=7,five"], "--set judge_layers=7,five: expected numbers"),
        (["judge_layers="], "expected numbers from 4 to 9"),
        (["judge_layers=3"], "expected numbers from 4 to 9"),
        (["size=64"], "--set size=64: expected at least 96, the least that 7 layers of a discriminator take"),
        (["size=100"], "--set size=100: expected a multiple of 16"),
        (["stage1_sampling=all"], "--set stage1_sampling=all: expected one of basic, each, turns"),
        (["network=live"], "--set network=live: expected one of photo2cartoon, ugatit, cyclegan"),
        (["heads=2"], "--set heads=2: expected 1 or the number of groups, 4"),
        (["group_domains=cartoon,drawing"], "--set group_domains=cartoon,drawing: expected cartoon, photo or both"),
        (["groups=kids"], "--groups kids: expected at least two, fewshot learns rare groups too"),
        (["groups=kids,kids"], "--groups kids,kids: expected different names"),
        (["discriminators_first=on", "accumulate=2"], "--set accumulate: the published order moves within a batch"),
    ],
)
def test_overrides_are_checked_at_the_door(overrides, sentence):
    with pytest.raises(UsageError) as caught:
        resolve("fewshot", overrides)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("name", "overrides", "sentence"),
    [
        ("cyclegan", ["light=off"], "--set light=off: network cyclegan takes no light, but groups, size"),
        ("cyclegan", ["heads=4"], "--set heads=4: network cyclegan takes no heads, but"),
        ("cyclegan", ["cam=5"], "--set cam=5: network cyclegan has no CAM to learn"),
        ("photo2cartoon", ["blocks=6"], "--set blocks=6: network photo2cartoon takes no blocks, but groups"),
        ("photo2cartoon", ["keypoint_pads=on"], "--set keypoint_pads=on: network photo2cartoon takes no keypoint_pads"),
        ("ugatit", ["variant=ece285"], "--set variant=ece285: network ugatit takes no variant, but"),
        ("basic", ["network=cyclegan", "light=on"], "--set light=on: network cyclegan takes no light, but"),
    ],
)
def test_a_field_that_the_network_does_not_take_is_refused(name, overrides, sentence):
    with pytest.raises(UsageError) as caught:
        resolve(name, overrides)
    assert str(caught.value).startswith(sentence)


def test_another_network_takes_its_own_fields_and_no_others():
    assert resolve("photo2cartoon", ["network=ugatit", "blocks=6"]).blocks == 6
    assert resolve("basic", ["network=cyclegan", "variant=ece285", "cam=0"]).light  # of the preset's own: passed over
    for name, taken in presets.NETWORKS.items():
        with torch.device("meta"):
            made = build(name, groups=["one"], width=4)
        assert set(made.settings) == {*presets.ALL_TAKE, *taken}


@pytest.mark.parametrize("field", ["own", "selective", "frozen"])
def test_parts_that_the_network_does_not_have_are_refused(field, tiny):
    with pytest.raises(UsageError, match=f"--set {field}=head: expected parts of stem"):
        build_generator(tiny("fewshot", f"{field}=head"))


def test_basic_comes_first_and_groups_can_be_left_out():
    assert resolve("fewshot", [], basic="kids").groups == ("kids", "young-women", "young-men", "elderly")
    assert resolve("fewshot", [], groups="elderly,kids").groups == ("elderly", "kids")
    with pytest.raises(UsageError, match="--basic dogs: not one of the groups"):
        resolve("fewshot", [], basic="dogs")


def test_as_published_follows_the_program_where_there_is_one_that_runs():
    assert resolve("ugatit", [], as_published=True).discriminators_first
    assert resolve("ugatit", ["discriminators_first=off"], as_published=True).discriminators_first is False


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("fewshot", "--as-published: fewshot follows a paper whose program does not run; leave it out"),
        ("face2webtoon-ada", "--as-published: face2webtoon-ada follows a paper whose program does not run; leave it"),
        ("live", "--as-published: live is livetoon's own, there is no other program to follow; leave it out"),
        ("basic", "--as-published: basic has no program of its own, photo2cartoon's trains such a model (--preset"),
        ("baseline2", "--as-published: baseline2 is a comparison in a paper, and no program of it was published;"),
    ],
)
def test_as_published_says_why_there_is_no_program_to_follow(name, sentence):
    with pytest.raises(UsageError) as caught:
        resolve(name, [], as_published=True)
    assert str(caught.value).startswith(sentence)
