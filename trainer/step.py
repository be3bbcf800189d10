"""One adversarial training step: pictures of both domains in, parameters moved, figures out. No files, no clock.

Every published system of the family takes this step; what tells them apart are the `Rules`. Each fake is made once:
the discriminators see it detached, the generators' losses go on from its graph, and backward runs in four pieces
(two cycles, two identities), so that no more than two generator passes are held at a time: 6 passes a step where
the published loops make 8.

Domains are called by what they hold: `photo` (A in the papers) and `cartoon` (B).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from livetoon.errors import TrainingError
from trainer import losses
from trainer.checkpoint import GO_ON
from trainer.networks.branches import Branched, Drawing
from trainer.networks.discriminators import Verdict
from trainer.networks.layers import clamp

DOMAINS = ("cartoon", "photo")


@dataclass
class Pictures:
    """One step's pictures: photo, cartoon (N, 3, S, S) float32 in [-1, 1]; groups: the name of each, the same for
    both domains, those of one group side by side. points: (N, 10) pixels of the photos, for the keypoint loss."""

    photo: Tensor
    cartoon: Tensor
    groups: Sequence[str]
    points: Tensor | None = None


@dataclass(frozen=True)
class Rules:
    """What tells one system of the family from another; weights as in PUBLIC_SYSTEMS' table, 0 = not computed."""

    adversarial: float = 1.0
    cycle: float = 10.0
    identity: float = 10.0
    cam: float = 1000.0
    face_id: float = 0.0
    group: float = 0.0  # of the generators; the discriminators learn the groups with weight 1 where this is not 0
    group_form: str = "square"  # square (few-shot) or entropy (Face2Webtoon)
    group_domains: tuple[str, ...] = DOMAINS  # whose discriminators tell groups apart
    keypoint: float = 0.0
    keypoint_apart: bool = False  # an optimizer of its own moves the photo -> cartoon generator (method 3)
    discriminator: float = 1.0  # scale of the discriminators' loss
    basic: str | None = None  # the group whose pictures move everything; None: all do
    constant: tuple[str, ...] = ()  # shared parts that only the basic group moves
    groups_alike: bool = True  # False: the basic group's terms count as much as those of all others together
    discriminators_first: bool = False  # published order: they move before the generators' losses are taken


@dataclass
class Networks:
    """judges: for each domain its discriminators by name; the first one drives ADA."""

    to_cartoon: Branched
    to_photo: Branched
    judges: dict[str, dict[str, nn.Module]]
    face_id: Callable[[Tensor], Tensor] | None = None
    keypoints: nn.Module | None = None
    augment: dict[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)

    def generator(self, domain: str) -> Branched:
        """The one that draws pictures of `domain`."""
        return self.to_cartoon if domain == "cartoon" else self.to_photo

    def named(self) -> Iterator[tuple[str, nn.Module]]:
        """Every network that learns by these losses, under the name of its file in a checkpoint."""
        yield "generator", self.to_cartoon
        yield "back", self.to_photo
        for domain, judges in self.judges.items():
            for name, judge in judges.items():
                yield f"{domain}_{name}", judge


class Step:
    """Gradients of one step, and the moves that follow from them.

    optimizers: `generators` and `discriminators`, and `keypoint` where the rules set it apart. A parameter that no
    loss reached has no gradient and stays as it is, its moments too.
    """

    def __init__(
        self,
        networks: Networks,
        rules: Rules,
        optimizers: dict[str, torch.optim.Optimizer],
        bf16: bool = False,
        reduce: Callable[[Sequence[nn.Parameter]], None] | None = None,
        pool: Callable[[str, Tensor], Tensor] | None = None,
    ):
        self.networks, self.rules, self.optimizers = networks, rules, optimizers
        self.bf16 = bf16
        self.reduce = reduce or (lambda parameters: None)
        self.pool = pool or (lambda domain, fake: fake)
        self.figures: dict[str, float] = {}
        self._apart: dict[nn.Parameter, Tensor] = {}
        self.seen: dict[str, Tensor] = {}  # each domain's first judge on the real pictures, for ADA

    def __call__(self, micro_batches: Sequence[Pictures]) -> dict[str, float]:
        """Move everything once by the mean of the micro-batches' gradients; returns the unweighted terms."""
        self.figures, self.seen = {}, {}
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        for pictures in micro_batches:
            self.gradients(pictures, 1 / len(micro_batches))
        self.move("generators")
        if not self.rules.discriminators_first:
            self.move("discriminators")
        if self.rules.keypoint_apart:
            for parameter, slope in self._apart.items():
                parameter.grad = torch.empty_like(parameter).copy_(slope)
            self._apart = {}
            self.move("keypoint")
        return dict(self.figures)

    def gradients(self, pictures: Pictures, share: float = 1.0) -> None:
        """Add this batch's gradients, times `share`; with the published order the discriminators move on the way."""
        for domain in DOMAINS:
            with self._precision():
                fake = self._draw(domain, self._of(pictures, _other(domain)), pictures.groups)
                judged = self._discriminate(domain, pictures, fake.image.detach(), share)
                if domain == "cartoon":
                    self._movement(pictures.photo, fake.image.detach().float(), share)
            self._backward("discriminators", judged, pictures, share, self._judges(domain))
            if self.rules.discriminators_first:
                self.move("discriminators")
            with self._precision():
                terms = self._cycle(domain, pictures, fake)
            apart = terms.pop("keypoint", None) if self.rules.keypoint_apart else None
            if apart is not None:
                self._hold_apart(apart, pictures, share)
            self._backward("generators", terms, pictures, share, self._generators())
            del fake, terms, judged, apart
        for domain in DOMAINS:
            with self._precision():
                terms = self._identity(domain, pictures)
            if terms:
                self._backward("generators", terms, pictures, share, self._generators())

    def move(self, name: str) -> None:
        """One optimizer's step with the gradients that are there; mixing weights are held in [0, 1]."""
        optimizer = self.optimizers[name]
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        self.reduce(parameters)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if name != "discriminators":
            clamp(self.networks.to_cartoon)
            clamp(self.networks.to_photo)

    # The terms, one value for each picture.

    def _discriminate(self, domain: str, pictures: Pictures, fake: Tensor, share: float) -> dict[str, Tensor]:
        real, fake = self._of(pictures, domain), self.pool(domain, fake)
        augment = self.networks.augment.get(domain, lambda x: x)
        terms = {}
        for index, (name, judge) in enumerate(self.networks.judges[domain].items()):
            on_real, on_fake = judge(augment(real)), judge(augment(fake))
            terms[f"D/{domain}/{name}/adversarial"] = losses.least_squares(on_real.logit, 1) + losses.least_squares(
                on_fake.logit, 0
            )
            if on_real.cam is not None:
                terms[f"D/{domain}/{name}/cam"] = losses.least_squares(on_real.cam, 1) + losses.least_squares(
                    on_fake.cam, 0
                )
            if self.rules.group and domain in self.rules.group_domains:
                terms[f"D/{domain}/{name}/group"] = self._group(on_real, pictures)
            if index == 0:
                judged = on_real.logit.detach()
                self.seen[domain] = torch.cat([self.seen[domain], judged]) if domain in self.seen else judged
                self._count(f"{domain}/d_real_accuracy", (judged > 0.5).float().mean(), share)
                self._count(f"{domain}/d_fake_accuracy", (on_fake.logit <= 0.5).float().mean(), share)
        return terms

    def _cycle(self, domain: str, pictures: Pictures, fake: Drawing) -> dict[str, Tensor]:
        """The terms of real -> fake of `domain` -> reconstruction."""
        rules, source = self.rules, _other(domain)
        real = self._of(pictures, source)
        augment = self.networks.augment.get(domain, lambda x: x)
        terms = {}
        for name, judge in self.networks.judges[domain].items():
            verdict = judge(augment(fake.image))
            terms[f"G/{domain}/{name}/adversarial"] = losses.least_squares(verdict.logit, 1)
            if verdict.cam is not None:
                terms[f"G/{domain}/{name}/adversarial-cam"] = losses.least_squares(verdict.cam, 1)
            if rules.group and domain in rules.group_domains:
                terms[f"G/{domain}/{name}/group"] = self._group(verdict, pictures)
        if rules.cam and fake.cam is not None:
            terms[f"G/{domain}/cam-translate"] = losses.attention(fake.cam, 1)
        if rules.face_id:
            terms[f"G/{source}/face_id"] = self._same_face(real, fake.image)
        if rules.cycle or (rules.keypoint and source == "photo"):
            back = self._draw(source, fake.image, pictures.groups).image
            terms[f"G/{source}/cycle"] = losses.distance(back, real)
            if rules.keypoint and source == "photo":
                with self._exact():  # bfloat16 knows pixels to the half
                    found = self.networks.keypoints(back.float())
                terms["keypoint"] = losses.keypoint_square(found, pictures.points)
        return terms

    def _identity(self, domain: str, pictures: Pictures) -> dict[str, Tensor]:
        """A picture of `domain` through the generator that draws `domain` stays what it is."""
        if not self.rules.identity and not self.rules.cam:
            return {}
        real = self._of(pictures, domain)
        same = self._draw(domain, real, pictures.groups)
        terms = {f"G/{domain}/identity": losses.distance(same.image, real)}
        if self.rules.cam and same.cam is not None:
            terms[f"G/{domain}/cam-keep"] = losses.attention(same.cam, 0)
        return terms

    def _group(self, verdict: Verdict, pictures: Pictures) -> Tensor:
        rows = self.networks.to_cartoon.rows(pictures.groups, verdict.groups.device)
        form = losses.group_square if self.rules.group_form == "square" else losses.group_entropy
        return form(verdict.groups, rows)

    def _same_face(self, real: Tensor, fake: Tensor) -> Tensor:
        with self._exact():
            with torch.no_grad():
                wanted = self.networks.face_id(real.float())
            return losses.face_distance(self.networks.face_id(fake.float()), wanted)

    # Which picture moves which parameter.

    def _draw(self, domain: str, x: Tensor, groups: Sequence[str]) -> Drawing:
        """Pictures of `domain`; the rare groups' pictures see the constant parts as constants."""
        generator, names = self.networks.generator(domain), list(groups)
        basic = [name == self.rules.basic for name in names]
        constant = self._constant(generator)
        if not constant or all(basic):
            return generator(x, names)
        if not any(basic):
            return generator(x, names, constant)
        first = basic.index(not basic[0])  # groups stand side by side, the basic one at either end
        pieces = [(slice(0, first), basic[0]), (slice(first, None), not basic[0])]
        drawn = [generator(x[cut], names[cut], () if moves else constant) for cut, moves in pieces]
        return Drawing(*(None if values[0] is None else torch.cat(values) for values in zip(*drawn, strict=True)))

    def _constant(self, generator: Branched) -> Collection[str]:
        return generator.trunk.keys() if self.rules.constant == ("shared",) else self.rules.constant

    def _weigh(self, name: str, pictures: Pictures, device: torch.device) -> Tensor:
        """Share of each picture in a term, (N,): all alike, or the basic group's mean plus the others' mean."""
        count, kind = len(pictures.groups), name.rpartition("/")[2]
        if self.rules.groups_alike or name.startswith("D/") or kind in ("cam-translate", "cam-keep", "group"):
            return torch.full((count,), 1 / count, device=device)
        basic = torch.tensor([name == self.rules.basic for name in pictures.groups], device=device)
        return torch.where(basic, 1 / max(1, int(basic.sum())), 1 / max(1, int((~basic).sum())))

    def weight(self, name: str) -> float:
        """The weight of a term in its loss."""
        rules, kind = self.rules, name.rpartition("/")[2]
        if name.startswith("D/"):
            return rules.discriminator * (1.0 if kind == "group" else rules.adversarial)
        by_kind = {
            "adversarial": rules.adversarial,
            "adversarial-cam": rules.adversarial,
            "cam-translate": rules.cam,
            "cam-keep": rules.cam,
        }
        return by_kind[kind] if kind in by_kind else getattr(rules, kind)

    def _backward(
        self, what: str, terms: dict[str, Tensor], pictures: Pictures, share: float, inputs: list[nn.Parameter]
    ) -> None:
        """Add the gradients of the weighted terms to `inputs` alone; a term that is no number stops the run first."""
        weighed = {name: self._mean(name, values, pictures) for name, values in terms.items()}
        self._note(weighed, share)
        loss = sum(self.weight(name) * value for name, value in weighed.items())
        torch.autograd.backward(loss * share, inputs=inputs)

    def _hold_apart(self, values: Tensor, pictures: Pictures, share: float) -> None:
        """Keep the keypoint loss's gradients for its own optimizer."""
        value = self._mean("keypoint", values, pictures)
        self._note({"keypoint": value}, share)
        moved = [p for group in self.optimizers["keypoint"].param_groups for p in group["params"] if p.requires_grad]
        loss = self.rules.keypoint * share * value
        slopes = torch.autograd.grad(loss, moved, retain_graph=True, allow_unused=True)
        for parameter, slope in zip(moved, slopes, strict=True):
            if slope is not None:  # another group's branch has none
                self._apart[parameter] = self._apart.get(parameter, 0) + slope

    def _mean(self, name: str, values: Tensor, pictures: Pictures) -> Tensor:
        return (values * self._weigh(name, pictures, values.device)).sum()

    def _note(self, terms: dict[str, Tensor], share: float) -> None:
        values = torch.stack([value.detach() for value in terms.values()]).tolist()
        for name, value in zip(terms, values, strict=True):
            if value != value or value in (float("inf"), float("-inf")):
                raise TrainingError(f"loss term `{name}` is {value}: {GO_ON}")
            self.figures[name] = self.figures.get(name, 0.0) + value * share

    def _count(self, name: str, value: Tensor, share: float) -> None:
        self.figures[name] = self.figures.get(name, 0.0) + value.item() * share

    def _movement(self, photo: Tensor, drawn: Tensor, share: float) -> None:
        """How far the drawings are from their photos (in [0, 1]) and from each other: both are small in a collapse."""
        self._count("change", (drawn - photo).abs().mean() / 2, share)
        self._count("output_variance", drawn.var(), share)

    def _judges(self, domain: str) -> list[nn.Parameter]:
        return [p for judge in self.networks.judges[domain].values() for p in judge.parameters() if p.requires_grad]

    def _generators(self) -> list[nn.Parameter]:
        both = (self.networks.to_cartoon, self.networks.to_photo)
        return [p for network in both for p in network.parameters() if p.requires_grad]

    def _precision(self):
        return torch.autocast(self._device(), torch.bfloat16) if self.bf16 else nullcontext()

    def _exact(self):
        return torch.autocast(self._device(), enabled=False)

    def _device(self) -> str:
        return next(self.networks.to_cartoon.parameters()).device.type

    @staticmethod
    def _of(pictures: Pictures, domain: str) -> Tensor:
        return pictures.cartoon if domain == "cartoon" else pictures.photo


def _other(domain: str) -> str:
    return DOMAINS[1 - DOMAINS.index(domain)]
