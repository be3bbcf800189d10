"""Writes files of recorded training steps, laid out as the reference numbers of the public systems are, of any size.

The published orders of work, written plainly on our networks: no line of trainer/step.py or trainer/replay.py is used.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from trainer.identity import FaceIdentity
from trainer.networks import build
from trainer.networks.branches import Drawing
from trainer.networks.discriminators import Verdict
from trainer.networks.layers import clamp
from trainer.public_keys import public_names, public_state

FAMILY = {"lr": 1e-4, "betas": [0.5, 0.999], "eps": 1e-8, "weight_decay": 1e-4}
NAMES = {"recon": "cycle_weight", "identity": "identity_weight", "id": "faceid_weight"}  # of a term's weight
CYCLEGAN = {"lr": 2e-4, "betas": [0.5, 0.999], "eps": 1e-8, "weight_decay": 0}


def shaken(name: str, seed: int, **settings) -> nn.Module:
    """A network in which nothing that starts as a constant still is one; mixing weights lie at 0 and 1, too."""
    torch.manual_seed(seed)
    network = build(name, **settings)
    for key, parameter in network.named_parameters():
        last = key.rpartition(".")[2]
        if last in ("rho", "w_gamma", "w_beta"):
            parameter.data.uniform_(-0.3, 1.3).clamp_(0, 1)
        elif last in ("gamma", "beta"):
            parameter.data += torch.randn_like(parameter) * 0.2
    return network.train()


def smooth(count: int, side: int, seed: int) -> Tensor:
    """Smooth random colour fields, (N, 3, S, S) in (-1, 1)."""
    small = torch.randn(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return torch.tanh(F.interpolate(small, size=(side, side), mode="bicubic"))


class Recorder:
    """What a file will hold: the networks as they are now, then what the steps leave."""

    def __init__(self, system: str, nets: dict[str, nn.Module], real: tuple[Tensor, Tensor], arguments: dict):
        self.nets, self.step, self.phase = nets, "step1", ""
        self.names = {name: public_names(net) for name, net in nets.items()}
        self.tensors = {"input/real_A": real[0], "input/real_B": real[1]}
        self.metadata = {"system": system, "network": "training step", "arguments": json.dumps(arguments)}
        for name, net in nets.items():
            self.tensors |= {f"weights/{name}/{key}": value.clone() for key, value in public_state(net).items()}
            self.metadata[f"params/{name}"] = json.dumps([key for key, _ in self._parameters(name)])

    def adam(self, label: str, parameters: list[nn.Parameter], settings: dict) -> torch.optim.Adam:
        self.metadata[f"optimizer/{label}"] = json.dumps(settings)
        return torch.optim.Adam(parameters, settings["lr"], tuple(settings["betas"]), settings["eps"],
                                settings["weight_decay"])  # fmt: skip

    def losses(self, **terms: Tensor | float) -> None:
        self.tensors |= {f"loss/{self.step}/{self.phase}/{k}": torch.as_tensor(v).detach() for k, v in terms.items()}

    def outputs(self, **values: Tensor | None) -> None:
        if self.step == "step1":
            kept = {name: value.detach() for name, value in values.items() if value is not None}
            self.tensors |= {f"output/{self.step}/{self.phase}/{name}": value for name, value in kept.items()}

    def gradients(self, names: Sequence[str], phase: str | None = None) -> None:
        for name in names:
            rows = [p.grad for _, p in self._parameters(name)]
            self.tensors[f"grad/{self.step}/{phase or self.phase}/{name}"] = _table(rows)

    def after(self) -> None:
        for name, net in self.nets.items():
            self.tensors[f"after/{self.step}/{name}"] = _table([p for _, p in self._parameters(name)])
            if self.step == "step1":
                norms = {key: value.clone() for key, value in net.state_dict().items() if key.endswith("weight_u")}
                self.tensors |= {f"after/step1_u/{name}/{key}": value for key, value in norms.items()}

    def write(self, path: Path) -> Path:
        save_file({key: value.clone().contiguous() for key, value in self.tensors.items()}, path, self.metadata)
        return path

    def _parameters(self, name: str) -> list[tuple[str, nn.Parameter]]:
        return [(self.names[name][key], parameter) for key, parameter in self.nets[name].named_parameters()]


def _table(values: Sequence[Tensor | None]) -> Tensor:
    table = torch.zeros(len(values), 17)
    for row, value in zip(table, values, strict=True):
        if value is not None:
            flat = value.detach().flatten()
            row[0] = flat.norm()
            row[1 : 1 + min(16, len(flat))] = flat[:16].clone()
    return table


def _parameters(nets: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [p for net in nets for p in net.parameters() if p.requires_grad]


def _mean(values: Tensor) -> Tensor:
    return values.flatten(1).mean(dim=1)


def _square(values: Tensor, target: float) -> Tensor:
    return _mean((values - target) ** 2)


def _entropy(logits: Tensor, target: float) -> Tensor:
    return _mean(F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target), reduction="none"))


class Family:
    """Steps of U-GAT-IT, or of the few-shot release where the generator has branches (a picture of each group).

    layers: of the global and the local discriminators; weights: adv_weight, cycle_weight and so on.
    """

    def __init__(
        self,
        generator: tuple[str, dict],
        layers: tuple[int, int],
        batch: int,
        side: int,
        seed: int,
        weights: dict[str, float],
        face_id: FaceIdentity | None = None,
    ):
        name, settings = generator
        self.groups, self.few_shot = list(settings["groups"]), "own" in settings
        self.weights, self.face_id, self.labels = weights, face_id, torch.eye(len(settings["groups"]))
        head = {"head": "convolution", "groups": len(self.groups)} if self.few_shot else {}
        self.nets = {key: shaken(name, seed + n, size=side, **settings) for n, key in enumerate(("genA2B", "genB2A"))}
        for n, key in enumerate(("disGA", "disGB", "disLA", "disLB"), start=seed + 2):
            self.nets[key] = shaken("discriminator", n, layers=layers[key[3] == "L"], width=4, **head)
        self.real = {"A": smooth(batch, side, seed + 9), "B": smooth(batch, side, seed + 10)}
        system = "fewshot" if self.few_shot else "ugatit"
        self.file = Recorder(system, self.nets, (self.real["A"], self.real["B"]), weights)
        self._optimizers()

    def write(self, path: Path, steps: int = 2) -> Path:
        for number in range(1, steps + 1):
            self.file.step = f"step{number}"
            self._discriminators()
            self.file.phase = "G"
            made = self._terms()
            self._two_losses(made) if self.few_shot else self._one_loss(made)
            for name in ("genA2B", "genB2A"):
                clamp(self.nets[name])
            self.file.after()
        return self.file.write(path)

    def _optimizers(self) -> None:
        generators = [self.nets["genA2B"], self.nets["genB2A"]]
        judges = [net for key, net in self.nets.items() if key.startswith("dis")]
        self.own = [p for net in generators for p in net.branches.parameters() if p.requires_grad]
        apart = {id(parameter) for parameter in self.own}
        self.shared = [p for p in _parameters(generators) if id(p) not in apart]
        self.move_d = self.file.adam("D", _parameters(judges), FAMILY)
        self.move_shared = self.file.adam("G", self.shared, FAMILY)
        self.move_own = self.file.adam("Gspecific", self.own, FAMILY) if self.few_shot else None

    def _draw(self, net: str, x: Tensor) -> Drawing:
        return self.nets[net](x, self.groups if self.few_shot else self.groups[0])

    def _judge(self, which: str, place: str, x: Tensor) -> Verdict:
        seen = self.nets[f"dis{place}"](x)
        named = {"logit": seen.logit, "cam_logit": seen.cam, "cls": seen.groups}
        self.file.outputs(**{f"{which}_{place}_{what}": value for what, value in named.items()})
        return seen

    def _discriminators(self) -> None:
        self.file.phase, real = "D", self.real
        with torch.no_grad():
            fake = {"B": self._draw("genA2B", real["A"]).image, "A": self._draw("genB2A", real["B"]).image}
        whole = {letter: self._judged(letter, real[letter], fake[letter]) for letter in "AB"}
        total = whole["A"] + whole["B"]
        self.file.losses(D_loss_A=whole["A"], D_loss_B=whole["B"], Discriminator_loss=total)
        self.move_d.zero_grad()
        total.backward()
        self.file.gradients(["disGA", "disGB", "disLA", "disLB"])
        self.move_d.step()

    def _judged(self, letter: str, real: Tensor, fake: Tensor) -> Tensor:
        whole = torch.zeros(())
        for place in (f"G{letter}", f"L{letter}"):
            on_real, on_fake = self._judge("real", place, real), self._judge("fake", place, fake)
            ad = (_square(on_real.logit, 1) + _square(on_fake.logit, 0)).mean()
            cam = (_square(on_real.cam, 1) + _square(on_fake.cam, 0)).mean()
            self.file.losses(**{f"D_ad_loss_{place}": ad, f"D_ad_cam_loss_{place}": cam})
            whole = whole + self.weights["adv_weight"] * (ad + cam)
            if self.few_shot:
                told = F.mse_loss(on_real.groups, self.labels)
                self.file.losses(**{f"D_cls_loss_{place}": told})
                whole = whole + told
        return whole

    def _terms(self) -> dict[str, Tensor]:
        """The generators' terms, one value for each picture."""
        real, draw = self.real, self._draw
        a2b, b2a = draw("genA2B", real["A"]), draw("genB2A", real["B"])
        recon = {"A": draw("genB2A", a2b.image).image, "B": draw("genA2B", b2a.image).image}
        same = {"A": draw("genB2A", real["A"]), "B": draw("genA2B", real["B"])}
        self.file.outputs(
            fake_A2B=a2b.image, fake_A2B_cam_logit=a2b.cam, fake_B2A_cam_logit=b2a.cam, fake_A2A=same["A"].image,
            fake_B2B_cam_logit=same["B"].cam, fake_B2A2B=recon["B"],
        )  # fmt: skip
        made = {}
        for letter, fake, other in (("A", b2a, "B"), ("B", a2b, "A")):
            for place in (f"G{letter}", f"L{letter}"):
                verdict = self._judge("fake", place, fake.image)
                made[f"G_ad_loss_{place}"] = _square(verdict.logit, 1)
                made[f"G_ad_cam_loss_{place}"] = _square(verdict.cam, 1)
                if self.few_shot:
                    made[f"G_cls_loss_{place}"] = _mean((verdict.groups - self.labels) ** 2)
            made[f"G_recon_loss_{letter}"] = _mean((recon[letter] - real[letter]).abs())
            made[f"G_identity_loss_{letter}"] = _mean((same[letter].image - real[letter]).abs())
            made[f"G_cam_loss_{letter}"] = _entropy(fake.cam, 1) + _entropy(same[letter].cam, 0)
            if self.face_id is not None:
                vectors = self.face_id(fake.image), self.face_id(real[other])
                made[f"G_id_loss_{other}"] = 1 - (vectors[0] * vectors[1]).sum(dim=1)
        return made

    def _weighed(self, made: dict[str, Tensor], letter: str) -> Tensor:
        """A domain's loss without CAM and groups."""
        adversarial = (value for key, value in made.items() if key.startswith("G_ad_") and key[-1] == letter)
        whole = self.weights["adv_weight"] * sum(value.mean() for value in adversarial)
        for kind, weight in NAMES.items():
            if (key := f"G_{kind}_loss_{letter}") in made:
                whole = whole + self.weights[weight] * made[key].mean()
        return whole

    def _one_loss(self, made: dict[str, Tensor]) -> None:
        self.file.losses(**{key: value.mean() for key, value in made.items()})
        cam = self.weights["cam_weight"]
        whole = {each: self._weighed(made, each) + cam * made[f"G_cam_loss_{each}"].mean() for each in "AB"}
        total = whole["A"] + whole["B"]
        self.file.losses(G_loss_A=whole["A"], G_loss_B=whole["B"], Generator_loss=total)
        _take(self.shared, torch.autograd.grad(total, self.shared, allow_unused=True))
        self.file.gradients(["genA2B", "genB2A"])
        self.move_shared.step()

    def _two_losses(self, made: dict[str, Tensor]) -> None:
        base, new = (self._part(made, *part) for part in (("base", slice(0, 1)), ("new", slice(1, None))))
        cams = {key: value.mean() for key, value in made.items() if key.startswith("G_cam")}
        told = {key: value.mean() for key, value in made.items() if key.startswith("G_cls")}
        cam = 0.5 * self.weights["cam_weight"] * sum(cams.values())
        group = 0.25 * self.weights["cls_weight"] * sum(told.values())
        self.file.losses(**cams, **told, G_cam_loss=cam, G_cls_loss=group)
        self.file.losses(loss_shared=base + cam, loss_specific=new + group)
        everything, names = [*self.shared, *self.own], ["genA2B", "genB2A"]
        first = torch.autograd.grad(base + cam, everything, retain_graph=True, allow_unused=True)
        second = torch.autograd.grad(new + group, self.own, allow_unused=True)
        _take(everything, first)
        self.file.gradients(names)
        self.move_shared.step()
        self.move_own.step()
        _take(everything, [None] * len(everything))
        _take(self.own, second)
        if self.file.step == "step1":
            self.file.gradients(names, "Gspecific_clean")
        self.move_own.step()

    def _part(self, made: dict[str, Tensor], ending: str, cut: slice) -> Tensor:
        """The loss of some of the pictures, without CAM and groups."""
        some = {key: value[cut] for key, value in made.items() if not key.startswith(("G_cam", "G_cls"))}
        whole = {letter: self._weighed(some, letter) for letter in "AB"}
        total = whole["A"] + whole["B"]
        self.file.losses(**{f"{key}_{ending}": value.mean() for key, value in some.items()})
        named = {"G_loss_A": whole["A"], "G_loss_B": whole["B"], "Generator_loss": total}
        self.file.losses(**{f"{key}_{ending}": value for key, value in named.items()})
        return total


def _take(parameters: Sequence[nn.Parameter], slopes: Sequence[Tensor | None]) -> None:
    for parameter, slope in zip(parameters, slopes, strict=True):
        parameter.grad = slope


def cyclegan(path: Path, width: int, blocks: int, side: int, seed: int, lambdas: tuple[float, float, float]) -> Path:
    """Two steps of CycleGAN. lambdas: of A, of B, and the identity's share of them."""
    settings = {"groups": ["one"], "width": width, "blocks": blocks, "size": side}
    nets = {name: shaken("cyclegan", seed + n, **settings) for n, name in enumerate(("G_A", "G_B"))}
    nets |= {name: shaken("patchgan", seed + n, width=width) for n, name in enumerate(("D_A", "D_B"), start=2)}
    real_a, real_b = smooth(1, side, seed + 9), smooth(1, side, seed + 10)
    of_a, of_b, share = lambdas
    arguments = {"lambda_A": of_a, "lambda_B": of_b, "lambda_identity": share, "netG": f"resnet_{blocks}blocks"}
    file = Recorder("cyclegan", nets, (real_a, real_b), arguments)
    generators, judges = [nets["G_A"], nets["G_B"]], [nets["D_A"], nets["D_B"]]
    move_g, move_d = file.adam("G", _parameters(generators), CYCLEGAN), file.adam("D", _parameters(judges), CYCLEGAN)

    def draw(net: str, x: Tensor) -> Tensor:
        return nets[net](x, "one").image

    for number in ("step1", "step2"):
        file.step, file.phase = number, "G"
        fake_b, fake_a = draw("G_A", real_a), draw("G_B", real_b)
        rec_a, rec_b = draw("G_B", fake_b), draw("G_A", fake_a)
        idt_a, idt_b = draw("G_A", real_b), draw("G_B", real_a)
        file.outputs(fake_B=fake_b, rec_A=rec_a, idt_A=idt_a, fake_A=fake_a, rec_B=rec_b, idt_B=idt_b)
        made = {
            "loss_G_A": (nets["D_A"](fake_b).logit - 1).square().mean(),
            "loss_G_B": (nets["D_B"](fake_a).logit - 1).square().mean(),
            "loss_cycle_A": F.l1_loss(rec_a, real_a) * of_a,
            "loss_cycle_B": F.l1_loss(rec_b, real_b) * of_b,
            "loss_idt_A": F.l1_loss(idt_a, real_b) * of_b * share,
            "loss_idt_B": F.l1_loss(idt_b, real_a) * of_a * share,
        }
        file.losses(**made, loss_G=sum(made.values()))
        move_g.zero_grad()
        sum(made.values()).backward(inputs=_parameters(generators))
        file.gradients(["G_A", "G_B"])
        move_g.step()
        file.phase, total = "D", 0.0
        for name, real, fake in (("D_A", real_b, fake_b), ("D_B", real_a, fake_a)):
            seen = nets[name](real).logit, nets[name](fake.detach()).logit
            halved = 0.5 * ((seen[0] - 1).square().mean() + seen[1].square().mean())
            file.losses(**{f"loss_{name}": halved})
            total = total + halved
        move_d.zero_grad()
        total.backward()
        file.gradients(["D_A", "D_B"])
        move_d.step()
        file.after()
    return file.write(path)
