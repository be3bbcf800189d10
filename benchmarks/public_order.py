"""The public programs' order of work, written plainly on our networks: what a step of ours is measured against.

U-GAT-IT and all that is built on it: the discriminators first, on fakes whose graphs reach through the generators and
are then thrown away; the generators second, on fakes made AGAIN, everything held until one backward at the end:
8 generator passes a step. CycleGAN: the generators first, the discriminators on the same fakes, detached: 6 passes.
Faults that cost time are kept (gradients of the face-ID network, the real photo's features tracked), those that
change what is learned are not there. Norms are the library's instance norm and U-GAT-IT's formula term by term, as
the public programs have them. Terms have the names that `trainer.step` gives them.
"""

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer import losses
from trainer.networks.branches import Drawing
from trainer.networks.discriminators import Verdict
from trainer.networks.layers import EPS, LIN, AdaLIN, InstanceNorm, clamp
from trainer.step import DOMAINS, Networks, Pictures, Rules

CAM_KINDS = ("cam-translate", "cam-keep")


def publish(networks: Networks) -> None:
    """Put the public programs' norms in place of ours, with our parameters, and let gradients be taken where they take
    them: of the face-ID network's parameters too."""
    for _, network in networks.named():
        for module in list(network.modules()):
            for name, child in module.named_children():
                if type(child) in PLAIN:
                    setattr(module, name, PLAIN[type(child)](child))
    for network in (networks.face_id, networks.keypoints):
        if network is not None:
            network.requires_grad_(True)


class PlainInstanceNorm(nn.Module):
    """The library's."""

    def __init__(self, ours: InstanceNorm):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return F.instance_norm(x, eps=EPS)


class PlainLIN(nn.Module):
    """gamma (rho IN(x) + (1 - rho) LN(x)) + beta with unbiased variances (arXiv 1907.10830, equation 1)."""

    def __init__(self, ours: LIN | AdaLIN):
        super().__init__()
        self.rho, self.clamp = ours.rho, ours.clamp
        self.gamma, self.beta = getattr(ours, "gamma", None), getattr(ours, "beta", None)

    def forward(self, x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None) -> Tensor:
        if gamma is None:
            gamma, beta = self.gamma, self.beta
        else:
            gamma, beta = gamma[:, :, None, None], beta[:, :, None, None]
        mixed = self.rho * _normal(x, (2, 3)) + (1 - self.rho) * _normal(x, (1, 2, 3))
        return mixed * gamma + beta


def _normal(x: Tensor, dimensions: tuple[int, ...]) -> Tensor:
    mean, variance = (of(x, dim=dimensions, keepdim=True) for of in (torch.mean, torch.var))
    return (x - mean) / torch.sqrt(variance + EPS)


PLAIN = {InstanceNorm: PlainInstanceNorm, LIN: PlainLIN, AdaLIN: PlainLIN}


@dataclass
class PublicStep:
    """One step in the public order, float32; called with the step's pictures it returns the unweighted terms."""

    networks: Networks
    rules: Rules
    optimizers: dict[str, torch.optim.Optimizer]
    cyclegan: bool = False

    def __call__(self, pictures: Pictures) -> dict[str, float]:
        terms = self._cyclegan(pictures) if self.cyclegan else self._ugatit(pictures)
        return {name: values.detach().mean().item() for name, values in terms.items()}

    # The two orders.

    def _ugatit(self, pictures: Pictures) -> dict[str, Tensor]:
        self.optimizers["discriminators"].zero_grad()
        fakes = {domain: self._fake(domain, pictures) for domain in DOMAINS}
        judged = {}
        for domain in DOMAINS:
            judged |= self._judged(domain, pictures, fakes[domain].image)
        self._weighed(judged).backward()
        self.optimizers["discriminators"].step()

        self.optimizers["generators"].zero_grad()
        drawn = self._drawn(pictures, {domain: self._fake(domain, pictures) for domain in DOMAINS})
        if self.rules.constant == ("shared",) and len(set(pictures.groups)) > 1:
            self._two_backwards(drawn, pictures)
        else:
            self._weighed(drawn).backward()
        self._move_generators()
        return judged | drawn

    def _cyclegan(self, pictures: Pictures) -> dict[str, Tensor]:
        fakes = {domain: self._fake(domain, pictures) for domain in DOMAINS}
        self._judges_learn(False)
        self.optimizers["generators"].zero_grad()
        drawn = self._drawn(pictures, fakes)
        self._weighed(drawn).backward()
        self._move_generators()

        self._judges_learn(True)
        self.optimizers["discriminators"].zero_grad()
        judged = {}
        for domain in DOMAINS:
            of_domain = self._judged(domain, pictures, fakes[domain].image.detach())
            self._weighed(of_domain).backward()
            judged |= of_domain
        self.optimizers["discriminators"].step()
        return judged | drawn

    def _two_backwards(self, drawn: dict[str, Tensor], pictures: Pictures) -> None:
        """The few-shot release's two losses: the basic picture and all CAM for everything, the other pictures and the
        groups for the branches alone. (Its optimizer moved between the two, which torch refuses.)"""
        basic = torch.tensor([name == self.rules.basic for name in pictures.groups])
        kinds = {name: name.rpartition("/")[2] for name in drawn}
        first = {n: v if kinds[n] in CAM_KINDS else v[basic] for n, v in drawn.items() if kinds[n] != "group"}
        second = {n: v if kinds[n] == "group" else v[~basic] for n, v in drawn.items() if kinds[n] not in CAM_KINDS}
        both = (self.networks.to_cartoon, self.networks.to_photo)
        own = [p for network in both for p in network.branches.parameters() if p.requires_grad]
        self._weighed(first).backward(retain_graph=True)
        self._weighed(second).backward(inputs=own)

    # The terms.

    def _fake(self, domain: str, pictures: Pictures) -> Drawing:
        source = pictures.photo if domain == "cartoon" else pictures.cartoon
        return self.networks.generator(domain)(source, pictures.groups)

    def _judged(self, domain: str, pictures: Pictures, fake: Tensor) -> dict[str, Tensor]:
        real = pictures.cartoon if domain == "cartoon" else pictures.photo
        terms = {}
        for name, judge in self.networks.judges[domain].items():
            on_real, on_fake = judge(real), judge(fake)
            where = f"D/{domain}/{name}"
            terms[f"{where}/adversarial"] = losses.least_squares(on_real.logit, 1) + losses.least_squares(
                on_fake.logit, 0
            )
            if on_real.cam is not None:
                terms[f"{where}/cam"] = losses.least_squares(on_real.cam, 1) + losses.least_squares(on_fake.cam, 0)
            if self._tells_groups(domain):
                terms[f"{where}/group"] = self._group(on_real, pictures)
        return terms

    def _drawn(self, pictures: Pictures, fakes: dict[str, Drawing]) -> dict[str, Tensor]:
        real = {"photo": pictures.photo, "cartoon": pictures.cartoon}
        back = {
            source: self.networks.generator(source)(fakes[domain].image, pictures.groups)
            for domain, source in itertools.permutations(DOMAINS)
        }
        same = {domain: self.networks.generator(domain)(real[domain], pictures.groups) for domain in DOMAINS}
        terms = {}
        for domain, source in itertools.permutations(DOMAINS):
            for name, judge in self.networks.judges[domain].items():
                verdict = judge(fakes[domain].image)
                terms[f"G/{domain}/{name}/adversarial"] = losses.least_squares(verdict.logit, 1)
                if verdict.cam is not None:
                    terms[f"G/{domain}/{name}/adversarial-cam"] = losses.least_squares(verdict.cam, 1)
                if self._tells_groups(domain):
                    terms[f"G/{domain}/{name}/group"] = self._group(verdict, pictures)
            terms[f"G/{source}/cycle"] = losses.distance(back[source].image, real[source])
            terms[f"G/{domain}/identity"] = losses.distance(same[domain].image, real[domain])
            if self.rules.cam and fakes[domain].cam is not None:
                terms[f"G/{domain}/cam-translate"] = losses.attention(fakes[domain].cam, 1)
                terms[f"G/{domain}/cam-keep"] = losses.attention(same[domain].cam, 0)
            if self.rules.face_id:
                person, drawn = (self.networks.face_id(x) for x in (real[source], fakes[domain].image))
                terms[f"G/{source}/face_id"] = losses.face_distance(person, drawn)
        if self.rules.keypoint:
            terms["keypoint"] = losses.keypoint_square(self.networks.keypoints(back["photo"].image), pictures.points)
        return terms

    def _tells_groups(self, domain: str) -> bool:
        return bool(self.rules.group) and domain in self.rules.group_domains

    def _group(self, verdict: Verdict, pictures: Pictures) -> Tensor:
        rows = self.networks.to_cartoon.rows(pictures.groups, verdict.groups.device)
        form = losses.group_square if self.rules.group_form == "square" else losses.group_entropy
        return form(verdict.groups, rows)

    # Weights and moves.

    def _weighed(self, terms: dict[str, Tensor]) -> Tensor:
        return sum(self._weight(name) * values.mean() for name, values in terms.items())

    def _weight(self, name: str) -> float:
        rules, kind = self.rules, name.rpartition("/")[2]
        if name.startswith("D/"):
            return rules.discriminator * (1.0 if kind == "group" else rules.adversarial)
        if kind.startswith("adversarial"):
            return rules.adversarial
        return rules.cam if kind in CAM_KINDS else getattr(rules, kind)

    def _move_generators(self) -> None:
        self.optimizers["generators"].step()
        clamp(self.networks.to_cartoon)
        clamp(self.networks.to_photo)

    def _judges_learn(self, learn: bool) -> None:
        for of_domain in self.networks.judges.values():
            for judge in of_domain.values():
                judge.requires_grad_(learn)
