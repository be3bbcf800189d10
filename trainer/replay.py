"""Replays the training steps that published programs left behind, tensor by tensor, through our own step.

A file of `losses_*` layout holds networks, pictures and, for one or two steps, every loss term, the outputs, tables of
the gradients and of the parameters after the step. The published order (discriminators move first) is an option of
`Step`; the few-shot program's two losses (one for everything, one for the branches alone) are `TwoLosses` below.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from livetoon.errors import ModelError
from trainer.networks import build
from trainer.networks.branches import Drawing
from trainer.networks.discriminators import Verdict
from trainer.public_keys import any_groups, discriminator_settings, fill, generator_settings, public_names
from trainer.published_terms import CALLS, FIELDS, PARTS, published_term
from trainer.step import DOMAINS, Networks, Pictures, Rules, Step

Row = tuple[str, float, float | None]  # name, largest difference, tolerance; None: a published fault, left out

JUDGES = {
    "disGA": ("photo", "global"), "disLA": ("photo", "local"), "disGB": ("cartoon", "global"),
    "disLB": ("cartoon", "local"), "D_A": ("cartoon", "patch"), "D_B": ("photo", "patch"), "D_1": ("photo", "patch"),
    "D_2": ("cartoon", "patch"),
}  # fmt: skip
GENERATORS = {
    "genA2B": "cartoon", "genB2A": "photo", "G_A": "cartoon", "G_B": "photo", "G_12": "cartoon", "G_21": "photo",
}  # fmt: skip
RELATIVE = {"photo2cartoon": 1e-4, "fewshot": 1e-4}  # of a term; 1e-5 elsewhere: hourglasses end in tiny variances
MOVED = 1e-4  # adversarial terms of G stand behind one step of D
SECOND = 1e-3  # values of the second step stand behind one step of everything
GRADIENT = 5e-3  # of the norm of the gradient
LATER = 0.1  # the same in the second step: Adam's first move is a sign, and where a gradient is nothing so is the sign
PICTURES = re.compile(r"input/(step\d+/)?(real_[AB]|images_[12])")
NOISE, MOST = 3.0, 5.0  # a tolerance grows to so many times our own rounding, and by no more than so many times
STALE = "grad/step{n}/Gspecific/"  # taken on a graph whose weights had moved: a published fault


def check_reference(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], folder: Path) -> list[Row]:
    """Replay one file; every tensor of it is loaded or compared.

    folder: where the face-ID (`mobilefacenet_512.safetensors`) or keypoint network (`keypoint_predictor.safetensors`)
    lies that the file does not carry itself. ModelError names what is missing or left over.
    """
    replay = _Replay(dict(tensors), metadata, folder)
    rows = replay.rows()
    if all(allowed is None or difference <= allowed for _, difference, allowed in rows):
        return rows
    # What one rounding of the pictures moves in our own step says how much of a difference is chance.
    nudged = {key: _nudged(value) if PICTURES.fullmatch(key) else value for key, value in tensors.items()}
    noise = {name: moved for name, moved, _ in _Replay(nudged | replay.found, metadata, folder).rows()}
    return [
        (name, difference, None if allowed is None else max(allowed, min(NOISE * noise[name], MOST * allowed)))
        for name, difference, allowed in rows
    ]


def _nudged(picture: Tensor) -> Tensor:
    sign = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0)).sign()
    return picture * (1 + torch.finfo(torch.float32).eps * sign)


class TwoLosses(Step):
    """The few-shot release's losses: one of the basic picture and of the CAM of all, one of the other pictures and of
    the group terms. The first moves everything, the second the branches alone."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.later: dict[nn.Parameter, Tensor] = {}

    def _backward(self, what, terms, pictures, share, inputs) -> None:
        if what == "discriminators":
            return super()._backward(what, terms, pictures, share, inputs)
        self.values(terms)
        own = [p for domain in DOMAINS for p in self.networks.generator(domain).branches.parameters()]
        own = [p for p in own if p.requires_grad]
        first, second = 0.0, 0.0
        for name, values in terms.items():
            weight, kind = self.weight(name), name.rpartition("/")[2]
            if kind.startswith("cam"):
                first = first + weight * values.mean()
            elif kind == "group":
                second = second + weight * values.mean()
            else:
                first, second = first + weight * values[0], second + weight * values[1:].mean()
        torch.autograd.backward(first, inputs=inputs, retain_graph=True)
        slopes = torch.autograd.grad(second, own, allow_unused=True)
        for parameter, slope in zip(own, slopes, strict=True):
            if slope is not None:
                self.later[parameter] = self.later.get(parameter, 0) + slope
        return None


class _Replay:
    def __init__(self, tensors: dict[str, Tensor], metadata: Mapping[str, str], folder: Path):
        self.tensors, self.metadata, self.folder = tensors, metadata, folder
        self.system = metadata.get("system", "")
        self.arguments = json.loads(metadata.get("arguments", "{}"))
        self.left = set(tensors)
        self.compared: list[Row] = []
        self.found: dict[str, Tensor] = {}  # what stands at each compared key by our own step
        self.values: dict[str, Tensor] = {}  # terms of the step, one value for each picture
        self.weights: dict[str, float] = {}  # of terms that a program weighs in each domain by itself
        self.outputs: dict[str, list] = {}
        self.nets = {name: self._network(name) for name in self._names()}
        self.ours = {  # published key -> ours
            name: {theirs: ours for ours, theirs in public_names(net).items()} for name, net in self.nets.items()
        }

    def rows(self) -> list[Row]:
        steps = sorted({key.split("/")[1] for key in self.tensors if key.startswith("loss/")})
        self.step = self._step()
        for number in steps:
            self._take(number)
        if self.left:
            raise ModelError(f"{len(self.left)} tensors are neither loaded nor compared, {min(self.left)} among them")
        return self.compared

    # Building.

    def _names(self) -> list[str]:
        names = sorted({key.split("/")[1] for key in self.tensors if key.startswith("weights/")})
        if unknown := [name for name in names if name not in (*JUDGES, *GENERATORS)]:
            raise ModelError(f"weights/{unknown[0]}: no network of a training step that is known")
        return names

    def _network(self, name: str) -> nn.Module:
        prefix = f"weights/{name}/"
        keys = [key for key in self.tensors if key.startswith(prefix)]
        tensors = {key.removeprefix(prefix): self.tensors[key].float() for key in keys}
        self.left -= set(keys)
        shapes = {key: value.shape for key, value in tensors.items()}
        size = self._input("real_A", "images_1", "step1/real_A").shape[-1]
        if name in GENERATORS:
            kind, settings = generator_settings(shapes, size, any_groups(shapes))
        else:
            kind, settings = discriminator_settings(shapes)
        network = build(kind, **settings)
        fill(network, tensors, name)
        names = public_names(network)
        held = json.loads(self.metadata.get("frozen", "{}")).get(name, [])
        for ours, parameter in network.named_parameters():
            if names[ours] in held:
                parameter.requires_grad_(False)
        return network.train()

    def _input(self, *names: str) -> Tensor:
        for name in names:
            if f"input/{name}" in self.tensors:
                self.left.discard(f"input/{name}")
                return self.tensors[f"input/{name}"]
        raise ModelError(f"input/{names[0]} is missing")

    def _step(self) -> Step:
        by_domain = {GENERATORS[name]: net for name, net in self.nets.items() if name in GENERATORS}
        judges: dict[str, dict[str, nn.Module]] = {domain: {} for domain in DOMAINS}
        for name in sorted(self.nets):
            if name in JUDGES:
                domain, judge = JUDGES[name]
                judges[domain][judge] = self.nets[name]
        networks = Networks(by_domain["cartoon"], by_domain["photo"], judges)
        rules = self._rules()
        if rules.face_id:
            networks.face_id = self._face_id()
        if rules.keypoint:
            networks.keypoints = self._predictor()
        watched = dict(self.nets) | ({"keypoints": networks.keypoints} if networks.keypoints else {})
        for name, net in watched.items():
            net.register_forward_hook(lambda _m, _x, y, name=name: self.outputs.setdefault(name, []).append(_still(y)))
        return self._recording(TwoLosses if self.system == "fewshot" else Step)(networks, rules, self._optimizers())

    def _rules(self) -> Rules:
        given = self.arguments
        if self.system == "cyclegan":  # what starts with a picture of A has A's weight, a reconstruction or not
            cycles, share = {"photo": given["lambda_A"], "cartoon": given["lambda_B"]}, given["lambda_identity"]
            for domain, cycle in cycles.items():
                self.weights |= {f"G/{domain}/cycle": cycle, f"G/{domain}/identity": share * cycle}
            cycle = max(cycles.values())
            return Rules(cycle=cycle, identity=share * cycle, cam=0, discriminator=0.5)
        if self.system == "ece285":
            return Rules(cycle=given["lam"], identity=given["lam"] * 0.5, cam=0, discriminator=0.5)
        rules = {
            "adversarial": given["adv_weight"], "cycle": given["cycle_weight"], "identity": given["identity_weight"],
            "cam": given["cam_weight"], "face_id": given.get("faceid_weight", 0), "discriminators_first": True,
        }  # fmt: skip
        if self.system == "face2webtoon":
            rules |= {"group": given["group_weight"], "group_form": "entropy", "group_domains": ("cartoon",)}
        if self.system == "fewshot":
            rules |= {"group": given["cls_weight"] * 0.25, "cam": given["cam_weight"] * 0.5}
        if self.system == "keypoint":
            rules["keypoint"] = given["adv_weight"]
        return Rules(**rules)

    def _face_id(self) -> nn.Module:
        from trainer.identity_files import load_face_id

        return load_face_id(self._beside("mobilefacenet_512.safetensors"))

    def _predictor(self) -> nn.Module:
        path = self._beside("keypoint_predictor.safetensors")
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            scale = json.loads((file.metadata() or {}).get("scale", "{}"))
        tensors = {
            key.removeprefix("weights/"): value.float() * scale.get(key, 1)
            for key, value in load_file(path).items()
            if key.startswith("weights/")
        }
        network = build("keypoints", size=self._input("real_A").shape[-1])
        fill(network, tensors, path.name)
        return network.requires_grad_(False).eval()

    def _beside(self, name: str) -> Path:
        if not (self.folder / name).exists():
            raise ModelError(f"{self.folder / name} is missing: this file's step was taken with the network in it")
        return self.folder / name

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        given = {key.split("/")[1]: json.loads(value) for key, value in self.metadata.items() if "optimizer/" in key}

        def adam(names: list[str], name: str) -> torch.optim.Adam:
            parameters = [p for net in names for p in self.nets[net].parameters() if p.requires_grad]
            o = given[name]
            betas = tuple(o["betas"])
            return torch.optim.Adam(parameters, o["lr"], betas, o["eps"], o["weight_decay"])

        self.lr = given["G"]["lr"]
        generators = [name for name in self.nets if name in GENERATORS]
        judges = [name for name in self.nets if name in JUDGES]
        return {"generators": adam(generators, "G"), "discriminators": adam(judges, "D" if "D" in given else "D1")}

    def _recording(self, kind: type[Step]) -> type[Step]:
        """`kind`, with the terms of each picture and the gradients before each move written down."""
        replay = self

        class Recording(kind):
            def weight(self, name: str) -> float:
                return replay.weights[name] if name in replay.weights else super().weight(name)

            def values(self, terms: dict[str, Tensor]) -> None:
                replay.values.update({name: value.detach() for name, value in terms.items()})

            def _backward(self, what, terms, pictures, share, inputs) -> None:
                self.values(terms)
                super()._backward(what, terms, pictures, share, inputs)

            def move(self, name: str) -> None:
                replay.gradients(name, self.networks)
                super().move(name)
                if name == "generators" and kind is TwoLosses:
                    for parameter, slope in self.later.items():
                        parameter.grad = slope
                    self.later = {}
                    replay.gradients("branches", self.networks)
                    super().move(name)

        return Recording

    # One step.

    def _take(self, number: str) -> None:
        self.number, self.values, self.tables = number, {}, {}
        self.outputs.clear()
        self.step([self._pictures()])
        for key in sorted(k for k in self.left if re.match(rf"\w+/{number}(_u)?/", k)):
            self._compare(key)

    def _pictures(self) -> Pictures:
        photo, cartoon = (
            self._input(f"{self.number}/real_{letter}", f"real_{letter}", f"images_{digit}")
            for letter, digit in (("A", 1), ("B", 2))
        )
        networks = self.step.networks
        names = list(networks.to_cartoon.groups)
        if f"input/{self.number}/group" in self.tensors:
            row = int(self._input(f"{self.number}/group"))
            count = next(iter(networks.judges["cartoon"].values())).settings["groups"]
            for net in (networks.to_cartoon, networks.to_photo):
                net.groups = tuple(str(index) for index in range(count))  # the network knows no branches: names alone
            names = [str(row)] * len(photo)
        elif len(names) != len(photo):
            names = names[:1] * len(photo)
        points = self._input("keypoints") if self.step.rules.keypoint else None
        return Pictures(photo, cartoon, names, points)

    def gradients(self, move: str, networks: Networks) -> None:
        """Write down the tables of what is about to move."""
        wanted = {"generators": GENERATORS, "branches": GENERATORS, "discriminators": JUDGES}[move]
        for name in (n for n in self.nets if n in wanted):
            table = self._table(name, lambda p: p.grad)
            if move != "discriminators" or any(row[0] for row in table.tolist()):
                self.tables[move, name] = table

    def _table(self, name: str, value: Callable[[nn.Parameter], Tensor | None]) -> Tensor:
        public = self.ours[name]
        parameters = dict(self.nets[name].named_parameters())
        order = json.loads(self.metadata[f"params/{name}"])
        table = torch.zeros(len(order), 17)
        for row, key in enumerate(order):
            tensor = value(parameters[public[key]])
            if tensor is not None:
                flat = tensor.detach().flatten()
                table[row, 0] = flat.norm()
                table[row, 1 : 1 + min(16, len(flat))] = flat[:16]
        return table

    # Comparing.

    def _compare(self, key: str) -> None:
        self.left.discard(key)
        kind, _, *rest = key.split("/")
        reference = self.tensors[key].float()
        if kind == "loss":
            found = self.found[key] = torch.tensor(self._term(rest[1]))
            relative = RELATIVE.get(self.system, 1e-5) if rest[0] != "G" or "_ad_" not in rest[1] else MOVED
            relative = SECOND if self.number != "step1" else relative
            scale = max(abs(reference.item()), 1e-3)
            self.compared.append((key, abs(found - reference).item(), relative * scale))
        elif kind == "output":
            found = self.found[key] = self._output(rest[0], rest[1])
            if found.shape != reference.shape:
                raise ModelError(f"{key} is {tuple(reference.shape)}, ours {tuple(found.shape)}")
            tolerance = (1e-4 if self.system in RELATIVE else 3e-5) * max(1.0, reference.abs().max().item())
            self.compared.append((key, (found - reference).abs().max().item(), tolerance))
        elif kind == "grad":
            self._compare_gradient(key, rest, reference)
        elif kind == "after":
            self._compare_after(key, rest, reference)
        else:
            raise ModelError(f"{key}: of no kind that is known")

    def _compare_gradient(self, key: str, rest: list[str], reference: Tensor) -> None:
        phase, name = rest
        if key.startswith(STALE.format(n=self.number[-1])):
            self.compared.append((key, 0.0, None))
            return
        move = "branches" if phase.startswith("Gspecific") else "generators" if phase == "G" else "discriminators"
        found, first = self.tables[move, name], self.number == "step1"
        self.found[key] = found
        whole = ((found - reference).norm() / reference.norm().clamp(min=1e-12)).item()
        self.compared.append((key, whole, GRADIENT if first else LATER))
        # A row whose gradient is a thousandth of the largest is mostly rounding.
        size = reference[:, 0].clamp(min=1e-3 * reference[:, 0].max().clamp(min=1e-12))
        rows = (found - reference).norm(dim=1) / size
        self.compared.append((f"{key} (median parameter)", rows.median().item(), GRADIENT if first else LATER))
        if first:
            self.compared.append((f"{key} (worst parameter)", rows.max().item(), 0.05))

    def _compare_after(self, key: str, rest: list[str], reference: Tensor) -> None:
        name = rest[0]
        if len(rest) == 2:  # after/step1_u/<net>/<key>
            found = self.found[key] = self.nets[name].state_dict()[rest[1]].clone()
            self.compared.append((key, (found - reference).abs().max().item(), 1e-4))
            return
        found = self.found[key] = self._table(name, lambda p: p)
        # Adam's first move is lr in the direction of the gradient's sign, which is chance where it is nearly zero.
        reach = 2.1 * self.lr * (1 if self.number == "step1" else 2) * (2 if self.system == "fewshot" else 1)
        difference = (found[:, 1:] - reference[:, 1:]).abs()
        self.compared.append((key, difference.max().item(), reach))
        # A whole parameter of n elements moves by at most the root of n times that.
        counts = torch.tensor([self._size(name, each) for each in json.loads(self.metadata[f"params/{name}"])])
        norms = (found[:, 0] - reference[:, 0]).abs() / counts.sqrt()
        self.compared.append((f"{key} (norms, for each element)", norms.max().item(), reach))
        clear = self._clear(name)
        if clear.any():
            otherwise = (difference[clear] > 0.1 * self.lr).float().mean().item()
            self.compared.append(
                (
                    f"{key} (share of the clear elements that moved otherwise)",
                    otherwise,
                    0.02 if self.number == "step1" else 0.3,
                )
            )

    def _size(self, name: str, key: str) -> int:
        return self.nets[name].get_parameter(self.ours[name][key]).numel()

    def _clear(self, name: str) -> Tensor:
        """Elements whose gradient is no noise in this step and before it: (rows, 16) bool. The biases before an
        instance norm have none but noise."""
        clear = torch.ones(1, 1, dtype=torch.bool)
        for key, table in self.tensors.items():
            if not key.startswith("grad/"):
                continue
            _, when, *rest = key.split("/")
            if when <= self.number and rest[-1] == name and "Gspecific" not in key:
                size = table[:, 1:].abs()
                clear = clear & (size > 1e-3 * size.max())
        return clear

    def _term(self, name: str) -> float:
        """A published loss term, from ours."""
        means = {
            part: {each: values[cut].mean().item() for each, values in self.values.items()}
            for part, cut in PARTS.items()
        }
        return published_term(name, means, self.step.weight)

    def _output(self, phase: str, name: str) -> Tensor:
        """A published output, from what the networks were seen to give: each judge is called on the real picture, on
        the fake for itself and on the fake for the generator; the order of the generators' calls is in CALLS."""
        if found := re.fullmatch(r"(real|fake)_([GL][AB])_(logit|cam_logit|cls|group_logit)", name):
            which, net, value = found.groups()
            call = 0 if which == "real" else 2 if phase.startswith("G") else 1
            return getattr(self.outputs[f"dis{net}"][call], FIELDS[value])
        if found := re.fullmatch(r"(real|fake)_score_(\d)", name):
            which, digit = found.groups()
            return self.outputs[f"D_{digit}"][0 if which == "real" else 2 if phase == "G" else 1].logit
        if name == "kp_A2B2A":
            return self.outputs["keypoints"][0]
        drawing = name.removesuffix("_cam_logit")
        if drawing not in CALLS:
            raise ModelError(f"{name}: no output that is known")
        domain, call = CALLS[drawing]
        net = next(name for name in self.nets if GENERATORS.get(name) == domain)
        return getattr(self.outputs[net][call], "cam" if name.endswith("_cam_logit") else "image")


def _still(output: Drawing | Verdict | Tensor):
    if isinstance(output, Tensor):
        return output.detach()
    return type(output)(*(None if value is None else value.detach() for value in output))
