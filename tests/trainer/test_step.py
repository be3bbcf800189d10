"""One training step, against the same losses written down plainly: who moves what, by how much, and how often."""

import weakref
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livetoon.errors import TrainingError
from trainer.losses import least_squares
from trainer.networks.branches import Branched
from trainer.step import Networks, Pictures, Rules, Step
from trainer.translation import build_networks

SELECTIVE = Rules(group=0.25, basic="many", constant=("shared",), groups_alike=False)
JOINT = ["many", "few", "other"]


@pytest.fixture
def networks(tiny) -> Networks:
    """Two generators with branches, two discriminators for each domain; spectral norms stand still."""
    torch.manual_seed(0)
    made = build_networks(tiny("fewshot"))
    for _, network in made.named():
        if not isinstance(network, Branched):
            for _ in range(3):
                network(torch.rand(1, 3, 32, 32))  # a few power iterations, so that norms are norms
        network.eval()
        for name, value in network.named_parameters():
            if name.endswith("rho"):
                nn.init.uniform_(value, 0.2, 0.8)
    return made


def pictures(groups: list[str], seed: int = 0) -> Pictures:
    random = torch.Generator().manual_seed(seed)
    photo, cartoon = (torch.rand(len(groups), 3, 32, 32, generator=random) * 2 - 1 for _ in range(2))
    return Pictures(photo, cartoon, groups)


def part(whole: Pictures, *indices: int) -> Pictures:
    chosen = list(indices)
    return Pictures(whole.photo[chosen], whole.cartoon[chosen], [whole.groups[i] for i in chosen])


def generators(networks: Networks) -> list[nn.Parameter]:
    return [p for network in (networks.to_cartoon, networks.to_photo) for p in network.parameters()]


def judges(networks: Networks) -> list[nn.Parameter]:
    return [p for each in networks.judges.values() for judge in each.values() for p in judge.parameters()]


def still(networks: Networks) -> dict[str, torch.optim.Optimizer]:
    """Optimizers that move nothing."""
    return {
        "generators": torch.optim.SGD(generators(networks), 0.0),
        "discriminators": torch.optim.SGD(judges(networks), 0.0),
    }


def moving(networks: Networks, rate: float = 1e-3, decay: float = 0.0) -> dict[str, torch.optim.Optimizer]:
    return {
        "generators": torch.optim.Adam(generators(networks), rate, weight_decay=decay),
        "discriminators": torch.optim.Adam(judges(networks), rate, weight_decay=decay),
    }


def gradients(networks: Networks, rules: Rules, *batches: Pictures) -> dict[str, Tensor]:
    """What a step would move by, under the names of the parameters; what it would not touch is left out."""
    held: dict[int, Tensor] = {}

    def hold(parameters) -> None:
        held.update({id(p): p.grad.clone() for p in parameters})

    Step(networks, rules, still(networks), reduce=hold)(batches)
    named = ((f"{net}.{name}", p) for net, module in networks.named() for name, p in module.named_parameters())
    return {name: held[id(p)] for name, p in named if id(p) in held}


def shared(found: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in found.items() if ".trunk." in name}


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = max(value.abs().max().item(), 1e-3)
        assert (found[name] - value).abs().max().item() < 1e-3 * scale, name


def plainly(networks: Networks, rules: Rules, whole: Pictures) -> dict[str, Tensor]:
    """The same gradients by the published way: every pass and every sum written out, and two backward passes. The
    basic group's pictures move everything, the others' their own branches."""
    alone = [name == rules.basic for name in whole.groups]
    count, own, everything = len(alone), [], []
    totals: dict[bool, Tensor] = {True: torch.zeros(()), False: torch.zeros(())}
    for index, basic in enumerate(alone):
        one = part(whole, index)
        even, apart = 1 / count, 1.0 if basic else 1 / alone.count(False)  # shares of the joint means
        for domain, real, other in (("cartoon", one.cartoon, one.photo), ("photo", one.photo, one.cartoon)):
            there, back = networks.generator(domain), networks.generator("photo" if domain == "cartoon" else "cartoon")
            drawn, kept = there(other, one.groups), there(real, one.groups)
            loss = apart * rules.cycle * (back(drawn.image, one.groups).image - other).abs().mean()
            loss = loss + apart * rules.identity * (kept.image - real).abs().mean()
            for logits, target in ((drawn.cam, torch.ones(1, 2)), (kept.cam, torch.zeros(1, 2))):
                loss = loss + even * rules.cam * F.binary_cross_entropy_with_logits(logits, target)
            for judge in networks.judges[domain].values():
                said = judge(drawn.image)
                loss = loss + apart * ((said.logit - 1).square().mean() + (said.cam - 1).square().mean())
                wanted = torch.eye(3)[JOINT.index(one.groups[0])]
                loss = loss + even * rules.group * (said.groups[0] - wanted).square().mean()
            totals[basic] = totals[basic] + loss
    for net in (networks.to_cartoon, networks.to_photo):
        everything += [p for p in net.parameters() if p.requires_grad]
        own += [p for p in net.branches.parameters() if p.requires_grad]
    slopes = dict(zip(everything, torch.autograd.grad(totals[True], everything, allow_unused=True), strict=True))
    rare = torch.autograd.grad(totals[False], own, allow_unused=True)
    for parameter, slope in zip(own, rare, strict=True):
        if slope is not None:
            slopes[parameter] = slope if slopes[parameter] is None else slopes[parameter] + slope
    for parameter, slope in zip(judges(networks), _judged(networks, whole), strict=True):
        slopes[parameter] = slope
    named = ((f"{net}.{name}", p) for net, module in networks.named() for name, p in module.named_parameters())
    return {name: slopes[p] for name, p in named if slopes.get(p) is not None}


def _judged(networks: Networks, whole: Pictures) -> tuple[Tensor, ...]:
    """Gradients of the discriminators' loss, the fakes being constants of it."""
    total = torch.zeros(())
    for domain, real, other in (("cartoon", whole.cartoon, whole.photo), ("photo", whole.photo, whole.cartoon)):
        with torch.no_grad():
            fake = networks.generator(domain)(other, whole.groups).image
        for judge in networks.judges[domain].values():
            for picture, target in ((real, 1), (fake, 0)):
                said = judge(picture)
                total = total + (said.logit - target).square().mean() + (said.cam - target).square().mean()
                if target:
                    wanted = torch.eye(3)[[JOINT.index(name) for name in whole.groups]]
                    total = total + (said.groups - wanted).square().mean()
    return torch.autograd.grad(total, judges(networks), allow_unused=True)


def test_one_backward_over_the_joint_batch_gives_what_two_written_out_give(networks):
    whole = pictures(JOINT)
    close(gradients(networks, SELECTIVE, whole), plainly(networks, SELECTIVE, whole))


def test_rare_pictures_reach_no_shared_parameter_to_the_bit(networks):
    one, other = pictures(JOINT, 0), pictures(JOINT, 0)
    other.photo[1:], other.cartoon[1:] = pictures(JOINT, 1).photo[1:], pictures(JOINT, 1).cartoon[1:]
    before, after = (shared(gradients(networks, SELECTIVE, whole)) for whole in (one, other))
    assert before and all(torch.equal(value, after[name]) for name, value in before.items())
    everything = replace(SELECTIVE, constant=())
    before, after = (shared(gradients(networks, everything, whole)) for whole in (one, other))
    moved = [name for name, value in before.items() if not torch.equal(value, after[name])]
    assert len(moved) > 0.9 * len(before)


def test_only_the_named_parts_are_constants_to_rare_pictures(networks):
    found = gradients(networks, replace(SELECTIVE, constant=("encode",)), part(pictures(JOINT), 1))
    touched = {name.split(".")[2] for name in shared(found)}
    assert "encode" not in touched
    assert touched == set(networks.to_cartoon.trunk) - {"encode"}


def test_the_basic_group_counts_as_much_as_all_others_or_every_picture_alike(networks):
    whole = pictures(JOINT)

    def figures(rules: Rules, batch: Pictures) -> dict[str, float]:
        return Step(networks, rules, still(networks))([batch])

    single = [figures(SELECTIVE, part(whole, index)) for index in range(3)]
    joint, alike = figures(SELECTIVE, whole), figures(replace(SELECTIVE, groups_alike=True), whole)
    for name in ("G/photo/cycle", "G/cartoon/identity", "G/cartoon/local/adversarial"):
        many, few, other = (each[name] for each in single)
        assert joint[name] == pytest.approx(many + (few + other) / 2, rel=1e-4)
        assert alike[name] == pytest.approx((many + few + other) / 3, rel=1e-4)
    for name in ("G/photo/cam-keep", "G/cartoon/global/group", "D/photo/global/adversarial"):
        assert joint[name] == pytest.approx(sum(each[name] for each in single) / 3, rel=1e-4)


def test_accumulated_batches_make_the_joint_batchs_step(networks):
    rules, whole = Rules(), pictures(["many"] * 4)
    joint = gradients(networks, rules, whole)
    close(gradients(networks, rules, part(whole, 0, 1), part(whole, 2, 3)), joint)


def test_published_order_lets_the_discriminators_move_before_they_judge_for_the_generators(networks):
    batch, judge = pictures(["many"]), networks.judges["cartoon"]["global"]
    with torch.no_grad():
        fake = networks.to_cartoon(batch.photo, "many").image
        before = least_squares(judge(fake).logit, 1).item()
    steps = {first: Step(networks, Rules(discriminators_first=first), still(networks)) for first in (False, True)}
    for first, step in steps.items():
        step.optimizers["discriminators"] = torch.optim.SGD(judges(networks), 1e-3)
        found = step([batch])["G/cartoon/global/adversarial"]
        with torch.no_grad():
            after = least_squares(judge(fake).logit, 1).item()
        assert abs(after - before) > 1e-4
        assert found == pytest.approx(after if first else before, rel=1e-5)
        before = after


def test_both_orders_make_the_same_step_where_the_discriminators_stand_still(networks):
    batch = pictures(["many", "many"])
    close(gradients(networks, Rules(discriminators_first=True), batch), gradients(networks, Rules(), batch))


def branch_state(networks: Networks, optimizer: torch.optim.Optimizer, group: str) -> list[Tensor]:
    found = []
    for network in (networks.to_cartoon, networks.to_photo):
        for parameter in network.branches[group].parameters():
            slot = optimizer.state[parameter]
            found += [parameter, slot["step"], slot["exp_avg"], slot["exp_avg_sq"]]
    return [value.detach().clone() for value in found]


def test_an_absent_group_stands_still_moments_and_weight_decay_included(networks):
    optimizers = moving(networks, decay=0.1)
    step = Step(networks, SELECTIVE, optimizers)
    step([pictures(JOINT)])
    before = {group: branch_state(networks, optimizers["generators"], group) for group in JOINT}
    step([part(pictures(JOINT, 1), 0, 2)])
    same = {
        group: all(map(torch.equal, values, branch_state(networks, optimizers["generators"], group)))
        for group, values in before.items()
    }
    assert same == {"many": False, "few": True, "other": False}


def test_a_step_of_rare_pictures_alone_leaves_the_trunk_as_it_is(networks):
    step = Step(networks, SELECTIVE, moving(networks, decay=0.1))
    step([pictures(JOINT)])
    trunk = [value.clone() for value in networks.to_cartoon.trunk.state_dict().values()]
    branch = [value.clone() for value in networks.to_cartoon.branches["few"].state_dict().values()]
    step([pictures(["few"], 1)])
    assert all(map(torch.equal, trunk, networks.to_cartoon.trunk.state_dict().values()))
    assert not all(map(torch.equal, branch, networks.to_cartoon.branches["few"].state_dict().values()))


@pytest.mark.parametrize("first", [False, True], ids=["together", "published order"])
@pytest.mark.parametrize("groups", [["many"], JOINT], ids=["one group", "all groups"])
def test_every_picture_passes_six_generators_a_step(networks, groups, first):
    passed = []
    for network in (networks.to_cartoon, networks.to_photo):
        network.register_forward_hook(lambda _m, x, _y: passed.append(len(x[0])))
    Step(networks, replace(SELECTIVE, discriminators_first=first), still(networks))([pictures(groups)])
    assert sum(passed) == 6 * len(groups)


def test_graphs_are_freed_on_the_way(networks):
    """At most some two of the six passes are held at a time; after the step no more than the spectral norms' own."""

    class Held:
        def __init__(self, value: Tensor):
            self.value, self.size = value, value.numel()

    alive: weakref.WeakSet[Held] = weakref.WeakSet()
    made, most = 0, 0

    def keep(value: Tensor) -> Held:
        nonlocal made, most
        held = Held(value)
        alive.add(held)
        made, most = made + held.size, max(most, sum(each.size for each in alive))
        return held

    step = Step(networks, Rules(), still(networks))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda held: held.value):
        step([pictures(["many"])])
    assert most < 0.6 * made
    assert sum(each.size for each in alive) < 0.1 * made


def test_what_is_frozen_collects_no_gradient(networks, face_id):
    networks.face_id = face_id
    found = gradients(networks, Rules(face_id=1.0), pictures(["many"]))
    assert found
    assert all(parameter.grad is None for parameter in face_id.parameters())
    networks.to_cartoon.trunk["encode"].requires_grad_(False)
    held = {f"generator.trunk.encode.{name}" for name, _ in networks.to_cartoon.trunk["encode"].named_parameters()}
    assert found.keys() - gradients(networks, Rules(), pictures(["many"])).keys() == held


def test_the_face_id_term_is_a_mean_over_pictures(networks, face_id):
    """Published, it is a vector, whose backward fails for more than one picture."""
    networks.face_id = face_id
    whole, rules = pictures(["many", "many"]), Rules(face_id=1.0)
    values = [Step(networks, rules, still(networks))([batch]) for batch in (part(whole, 0), part(whole, 1), whole)]
    first, second, joint = (each["G/photo/face_id"] for each in values)
    assert joint == pytest.approx((first + second) / 2, rel=1e-4)
    assert first != second


def test_mixing_weights_stay_between_zero_and_one(networks):
    Step(networks, Rules(), moving(networks, rate=0.9))([pictures(["many"])])
    mixed = [p for name, p in networks.to_cartoon.named_parameters() if name.endswith("rho") and p.numel()]
    assert min(p.min() for p in mixed) == 0 and max(p.max() for p in mixed) == 1


def test_bfloat16_learns_nearly_the_same_in_float32_weights(networks):
    batch = pictures(["many"])
    exact = Step(networks, Rules(), still(networks))([batch])
    rough = Step(networks, Rules(), moving(networks), bf16=True)([batch])
    for name in ("G/photo/cycle", "G/cartoon/identity", "D/photo/global/adversarial"):
        assert rough[name] == pytest.approx(exact[name], rel=0.05)
        assert rough[name] != exact[name]
    assert all(p.dtype == torch.float32 for p in [*generators(networks), *judges(networks)])


def test_the_discriminators_see_the_pools_fakes_and_the_generators_their_own(networks):
    batch, old = pictures(["many"]), torch.full((1, 3, 32, 32), 0.25)
    alone = gradients(networks, Rules(), batch)
    held: dict[int, Tensor] = {}
    Step(
        networks, Rules(), still(networks), pool=lambda domain, fake: old,
        reduce=lambda parameters: held.update({id(p): p.grad.clone() for p in parameters}),
    )([batch])  # fmt: skip
    named = {f"{net}.{n}": p for net, module in networks.named() for n, p in module.named_parameters()}
    same = {name: torch.equal(value, held[id(named[name])]) for name, value in alone.items()}
    assert all(kept for name, kept in same.items() if name.startswith(("generator.", "back.")))
    assert not all(kept for name, kept in same.items() if name.startswith(("cartoon_", "photo_")))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_term_that_is_no_number_is_named_before_anything_moves(networks, value):
    batch = pictures(["many"])
    step = Step(networks, Rules(), moving(networks))
    step([batch])
    weights = [p.detach().clone() for p in [*generators(networks), *judges(networks)]]
    batch.cartoon[0, 0, 0, 0] = value
    with pytest.raises(TrainingError, match=r"loss term `D/cartoon/global/adversarial` is nan: what was saved before"):
        step([batch])
    assert all(map(torch.equal, weights, [*generators(networks), *judges(networks)]))


def test_networks_are_named_as_their_files(networks):
    names = dict(networks.named())
    assert isinstance(names["generator"], Branched) and names["generator"] is networks.to_cartoon
    assert names["photo_local"] is networks.judges["photo"]["local"]
    assert len(names) == 6
