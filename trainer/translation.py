"""The learner of unpaired translation: networks, optimizers, ADA, pool and predictor of one preset, and its data."""

import copy
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from livetoon.errors import UsageError
from trainer import ada
from trainer.checkpoint import Parts
from trainer.collect import Collected
from trainer.networks import build
from trainer.networks.branches import Branched
from trainer.parallel import Parallel
from trainer.predictor import Lessons
from trainer.presets import ALL_TAKE, NETWORKS, Translation
from trainer.sampling import Sampler, network_input, stage_pools
from trainer.step import DOMAINS, Networks, Pictures, Rules, Step
from trainer.validation import NOBODY, Judges, Validation
from trainer.watch import UNPAIRED, WITH_ADA, Watch

SHOWN = 2  # photos of each group in a sample sheet


def build_networks(preset: Translation) -> Networks:
    """Generators and discriminators as the preset describes them, newly initialised."""
    generators = [build_generator(preset) for _ in DOMAINS]
    return Networks(*generators, {domain: build_judges(preset, domain) for domain in DOMAINS})


def build_generator(preset: Translation) -> Branched:
    """One generator of the preset; UsageError for parts that it does not have."""
    settings = {name: getattr(preset, name) for name in ALL_TAKE + NETWORKS[preset.network]}
    try:
        made = build(preset.network, **settings)
    except ValueError as error:  # own=...: expected parts of ...
        raise UsageError(f"--set {error}") from None
    for name, also in (("selective", ("shared",)), ("frozen", ())):
        parts = getattr(preset, name)
        if parts != also and (unknown := set(parts) - set(made.parts)):
            raise UsageError(f"--set {name}={','.join(sorted(unknown))}: expected parts of {', '.join(made.parts)}")
    return made


def build_judges(preset: Translation, domain: str) -> dict[str, nn.Module]:
    """The discriminators of one domain, by name."""
    if preset.network == "cyclegan":
        return {"patch": build("patchgan", width=preset.judge_width, variant=preset.variant)}
    head = {"square": "convolution", "entropy": "linear"}[preset.group_form]
    if not preset.group or domain not in preset.group_domains:
        head = "none"
    names = ["global", "local", *(f"layers{layers}" for layers in preset.judge_layers[2:])]
    return {
        name: build("discriminator", layers=layers, width=preset.judge_width, head=head, groups=len(preset.groups))
        for name, layers in zip(names, preset.judge_layers, strict=False)
    }


def rules(preset: Translation, stage: int) -> Rules:
    """The preset's rules in a stage. While one group alone is learned, or all are mixed, nothing tells groups apart."""
    sampling = preset.stage1_sampling if stage == 1 else preset.stage2_sampling
    several = sampling in ("each", "turns")
    return Rules(
        adversarial=preset.adversarial,
        cycle=preset.cycle,
        identity=preset.identity,
        cam=preset.cam if stage == 1 else preset.stage2_cam,
        face_id=preset.face_id,
        group=preset.group if several else 0.0,
        group_form=preset.group_form,
        group_domains=preset.group_domains,
        keypoint=preset.keypoint,
        keypoint_apart=preset.keypoint_apart,
        discriminator=preset.discriminator,
        basic=preset.groups[0] if several else None,
        constant=preset.selective if several else (),
        groups_alike=preset.groups_alike or not several,
        discriminators_first=preset.discriminators_first,
    )


class TranslationLearner:
    """See learner.Learner.

    face_id: pictures -> unit vectors, where the preset weighs it. judges: what validates (validation.open_judges).
    learned: groups whose branches had learned before this run.
    """

    def __init__(
        self,
        preset: Translation,
        data: Collected,
        face_id: Callable[[Tensor], Tensor] | None = None,
        judges: Judges = NOBODY,
        parallel: Parallel | None = None,
        learned: Sequence[str] = (),
    ):
        self.preset, self.data, self.parallel = preset, data, parallel or Parallel()
        self.learned = list(learned)
        self.device = self.parallel.device
        self.networks = build_networks(preset)
        self.networks.face_id = face_id
        self.sampler = Sampler(data.train, preset, self.parallel.rank, self.parallel.processes)
        self.ema = self._averages()
        self.ada = {
            domain: ada.Controller(preset.ada_target, preset.ada_interval, preset.ada_kimg)
            for domain in DOMAINS
            if preset.ada
        }
        self.pooled: dict[str, list[Tensor]] = {domain: [] for domain in DOMAINS}
        self.predictor = build("keypoints", size=preset.size).to(self.device) if preset.keypoint else None
        self.networks.keypoints = self.predictor
        basic = data.train[preset.groups[0]]
        self.lessons = Lessons(self.predictor, basic, preset, self.device) if preset.keypoint else None
        self.watch, self._advice = Watch(tries=WITH_ADA if preset.ada else UNPAIRED), []
        self.validation = Validation(preset, data.validation, data.spared, judges)
        self._place, self._asked = (0, 0), 0  # of the pool's random choices
        self._prepare()
        self.optimizers = self._optimizers()

    def _averages(self) -> dict[str, Branched]:
        if not self.preset.ema:
            return {"ema": self.networks.to_cartoon, "ema_back": self.networks.to_photo}
        pairs = {"ema": self.networks.to_cartoon, "ema_back": self.networks.to_photo}
        return {name: copy.deepcopy(net).eval().requires_grad_(False) for name, net in pairs.items()}

    def _prepare(self) -> None:
        everything = [net for _, net in self.networks.named()] + list(self.ema.values())
        for network in everything:
            network.to(self.device)
            if self.device.type == "cuda":  # on CPUs reflection pads are several times slower in this layout
                network.to(memory_format=torch.channels_last)
        for generator in (self.networks.to_cartoon, self.networks.to_photo):
            generator.checkpointing = self.preset.checkpointing
            if self.preset.compile:
                for part in [*generator.trunk.values(), *(p for b in generator.branches.values() for p in b.values())]:
                    part.compile()

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        nets = self.networks
        both = [p for net in (nets.to_cartoon, nets.to_photo) for p in net.parameters() if p.requires_grad]
        judges = [p for judges in nets.judges.values() for judge in judges.values() for p in judge.parameters()]
        made = {"generators": self._adam(both), "discriminators": self._adam(judges)}
        if self.preset.keypoint_apart:
            made["keypoint"] = self._adam([p for p in nets.to_cartoon.parameters() if p.requires_grad])
        if self.predictor is not None:
            made["predictor"] = self._adam(list(self.predictor.parameters()))
        return made

    def _adam(self, parameters: list[nn.Parameter]) -> torch.optim.Adam:
        preset = self.preset
        betas = (preset.beta1, 0.999)
        return torch.optim.Adam(parameters, preset.learning_rate, betas, weight_decay=preset.weight_decay, fused=True)

    # The stages.

    def stages(self) -> list[tuple[int, int]]:
        return [(1, self.preset.stage1_steps), (2, self.preset.stage2_steps)]

    def begin(self, stage: int) -> None:
        """Every rare branch that has not learned before becomes a copy of the basic one; the optimizers' moments start
        anew."""
        basic = self.preset.groups[0]
        for generator in {id(g): g for g in (*self._generators(), *self.ema.values())}.values():
            generator.copy_branches(basic, self.learned)
        self.optimizers = self._optimizers()

    def enter(self, stage: int) -> None:
        if stage == 2:
            for generator in self._generators():
                for name in self.preset.frozen:
                    for parts in (generator.trunk, *generator.branches.values()):
                        if name in parts:
                            parts[name].requires_grad_(False)
        if self.parallel.rank == 0:
            self.validation.tell(self._learned_in(stage))
        stepping = {name: optimizer for name, optimizer in self.optimizers.items() if name != "predictor"}
        self._step = Step(
            self.networks, rules(self.preset, stage), stepping, self.preset.bf16, self.parallel.average, self._pool
        )

    def _generators(self) -> tuple[Branched, Branched]:
        return self.networks.to_cartoon, self.networks.to_photo

    def batches(self, stage: int, step: int) -> list[Pictures]:
        return self.sampler.micro_batches(stage, step)

    def prepare(self, stage: int, step: int) -> bool:
        """The predictor's lessons, which are taken in stage 1."""
        return stage == 1 and self.lessons is not None and self.lessons.piece(step, self.optimizers["predictor"])

    def step(self, stage: int, step: int, batches: list[Pictures]) -> dict[str, float]:
        while self.prepare(stage, step):
            pass
        self._place, self._asked = (stage, step), 0
        self._set_rate(stage, step)
        figures = self.lessons.figures(step) if self.lessons is not None and stage == 1 else {}
        self._augmentation(stage, step)
        figures |= self._step([self._moved(pictures) for pictures in batches])
        for domain, controller in self.ada.items():
            controller.feed(self.parallel.gather(self._step.seen[domain]))
            figures[f"{domain}/ada_strength"] = controller.strength
        self._average(stage, step)
        figures = self.parallel.mean(figures)
        self._look(figures)
        return figures

    def _moved(self, pictures: Pictures) -> Pictures:
        pictures.photo, pictures.cartoon = pictures.photo.to(self.device), pictures.cartoon.to(self.device)
        if pictures.points is not None:
            pictures.points = pictures.points.to(self.device)
        return pictures

    def _set_rate(self, stage: int, step: int) -> None:
        """Constant for the first half of a stage, then linearly to zero; or constant."""
        steps = dict(self.stages())[stage]
        share = min(1.0, 2 * (steps - step) / steps) if self.preset.schedule == "half" else 1.0
        for name, optimizer in self.optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self.preset.learning_rate * (1.0 if name == "predictor" else share)

    def _augmentation(self, stage: int, step: int) -> None:
        for number, (domain, controller) in enumerate(self.ada.items()):
            seed = np.random.SeedSequence((self.preset.seed, stage, step, number, self.parallel.rank))
            generator = torch.Generator().manual_seed(int(seed.generate_state(1)[0]))
            families = {name: getattr(self.preset, f"ada_{name}") for name in ("blit", "geometry", "colour")}
            self.networks.augment[domain] = partial(
                ada.augment, strength=controller.strength, generator=generator, **families
            )

    def _pool(self, domain: str, fakes: Tensor) -> Tensor:
        """Experience replay (Shrivastava et al. 2017): a fake or, at even odds, an earlier one in its place."""
        if not self.preset.pool:
            return fakes
        self._asked += 1
        random = np.random.default_rng((self.preset.seed, *self._place, self._asked, 1 << 21))
        kept, shown = self.pooled[domain], []
        for fake in fakes:
            if len(kept) < self.preset.pool:
                kept.append(fake.clone())
                shown.append(fake)
            elif random.random() < 0.5:
                index = int(random.integers(len(kept)))
                shown.append(kept[index])
                kept[index] = fake.clone()
            else:
                shown.append(fake)
        return torch.stack(shown)

    @torch.no_grad()
    def _average(self, stage: int, step: int) -> None:
        if not self.preset.ema:
            return
        decay = min(self.preset.ema, (step + 1) / (step + 10)) if stage == 1 else self.preset.ema
        for average, network in zip(self.ema.values(), self._generators(), strict=True):
            for kept, value in zip(average.parameters(), network.parameters(), strict=True):
                kept.lerp_(value, 1 - decay)

    def _look(self, figures: dict[str, float]) -> None:
        def mean(name: str) -> float | None:
            values = [figures[f"{domain}/{name}"] for domain in DOMAINS if f"{domain}/{name}" in figures]
            return sum(values) / len(values) if values else None

        losses = {name: value for name, value in figures.items() if name.startswith(("G/", "D/"))}
        self._advice = self.watch.step(
            losses,
            d_real_accuracy=mean("d_real_accuracy"),
            d_fake_accuracy=mean("d_fake_accuracy"),
            output_variance=figures.get("output_variance"),
            change=figures.get("change"),
        )

    def advice(self) -> list[str]:
        return self._advice if self.parallel.rank == 0 else []

    # What is kept, and what is looked at.

    def parts(self) -> Parts:
        networks = dict(self.networks.named()) | self.ema
        if self.predictor is not None:
            networks["keypoints"] = self.predictor
        extra = {f"pool.{domain}": torch.stack(kept).cpu() for domain, kept in self.pooled.items() if kept}
        return Parts(networks, self.optimizers, extra)

    def state(self) -> dict:
        return {
            "ada": {domain: each.state_dict() for domain, each in self.ada.items()},
            "watch": self.watch.state_dict(),
            "judge": self.validation.judge,
        } | ({"lessons": self.lessons.state_dict()} if self.lessons is not None else {})

    def resume(self, parts: Parts, state: dict) -> None:
        for domain in DOMAINS:
            self.pooled[domain] = list(parts.extra.get(f"pool.{domain}", torch.empty(0)).to(self.device))
        for domain, controller in self.ada.items():
            controller.load_state_dict(state["ada"][domain])
        self.watch.load_state_dict(state["watch"])
        if self.lessons is not None and "lessons" in state:  # older runs stopped between their steps only
            self.lessons.load_state_dict(state["lessons"])

    @torch.no_grad()
    def sheet(self, stage: int, step: int) -> np.ndarray:
        """A column for each photo: photo, cartoon, reconstruction, and where the attention lies."""
        columns = []
        for group in self._trained(stage):
            photos = self.data.validation[group].photo[:SHOWN]
            if not photos:
                continue
            x = network_input(photos, self.preset.size).to(self.device)
            drawn = self.ema["ema"].eval()(x, group)
            back = self.ema["ema_back"].eval()(drawn.image, group).image
            rows = [x, drawn.image, back] + ([_heat(x, drawn.heatmap)] if drawn.heatmap is not None else [])
            columns.append(torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1))
        for network in self._generators():
            network.train()
        whole = torch.cat(columns, dim=2).float().clamp(-1, 1).cpu()
        return ((whole + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()

    def _trained(self, stage: int) -> tuple[str, ...]:
        """The groups that have learned by this stage."""
        first = self._learned_in(1)
        return first if stage == 1 else tuple(dict.fromkeys([*first, *self._learned_in(2)]))

    def _learned_in(self, stage: int) -> list[str]:
        pools = stage_pools(self.preset, stage)
        return [group for group in self.preset.groups if any(group in pool for pool in pools)]

    @torch.no_grad()
    def validate(self, stage: int, step: int) -> dict[str, float]:
        """Only the groups that have learned by this stage are drawn: the others would cost time and say nothing yet."""
        if not self.validation.due(stage, step):
            return {}
        for network in self.ema.values():
            network.eval()
        found = self.validation(
            self._learned_in(stage),
            lambda x, group: self.ema["ema"](x.to(self.device), group).image,
            lambda x, group: self.ema["ema_back"](x.to(self.device), group).image,
            self._trained(stage),
        )
        for network in self._generators():
            network.train()
        return found


def _heat(x: Tensor, heatmap: Tensor) -> Tensor:
    """The heatmap (N, 1, h, w) as colours over the grey photo (N, 3, S, S), both scaled picture by picture."""
    large = nn.functional.interpolate(heatmap.float(), size=x.shape[-2:], mode="bilinear", align_corners=False)
    low, high = large.amin(dim=(1, 2, 3), keepdim=True), large.amax(dim=(1, 2, 3), keepdim=True)
    scaled = ((large - low) / (high - low).clamp(min=1e-6) * 255).byte().cpu().numpy()
    colours = np.stack([cv2.applyColorMap(each[0], cv2.COLORMAP_JET)[..., ::-1] for each in scaled])
    painted = torch.from_numpy(np.ascontiguousarray(colours)).permute(0, 3, 1, 2).to(x.device).float() / 127.5 - 1
    return 0.5 * painted + 0.5 * x.mean(dim=1, keepdim=True)
