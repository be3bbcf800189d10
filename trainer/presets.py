"""Presets: frozen configurations with their source. `--set name=value` overrides any field by name.

Two methods learn: `translation` from unpaired photos and drawings (every published system of the family) and `pairs`
from photos with their drawings (the live generator). A preset is a value of its method's class.
"""

import dataclasses
from dataclasses import dataclass, field, replace

from livetoon.errors import UsageError
from trainer.group_names import NAME

GROUPS = ("young-women", "young-men", "kids", "elderly")
VALIDATE_EVERY = "steps between validations, each ending with the best checkpoint; 0: never"


def _help(text: str, default):
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Preset:
    """What every recipe has."""

    name: str
    source: str
    groups: tuple[str, ...] = _help("groups of people; the first is the basic one", GROUPS)
    size: int = _help("side of a crop, pixels", 256)
    seed: int = _help("every random choice follows from it", 0)


@dataclass(frozen=True)
class Live(Preset):
    """The live generator from pairs. The loss is a weighted sum: a term of weight 0 is logged, but teaches nothing
    (and `feature`, `looks`, `adversarial` and `unrounded`, which cost most, are then not even computed)."""

    qat: bool = _help("draw in int8 steps while learning (--qat)", False)
    network: str = _help("network family (trainer/networks)", "live")
    own: tuple[str, ...] = _help(
        "parts that each group has to itself", ("e1", "e2", "d3", "m2", "refine", "d2", "m1", "out")
    )
    stage1_steps: int = _help("steps on the basic group alone", 4000)
    stage2_steps: int = _help("steps on all groups, the trunk moved by the basic one only", 320)
    batch: int = _help("stage 1: pairs a step", 7)
    basic_unpaired: int = _help("stage 1: photos without a drawing a step, where there are some", 2)
    basic_batch: int = _help("stage 2: pairs of the basic group a step; 0: neither it nor the trunk moves", 3)
    rare_batch: int = _help("stage 2: pictures of each other group a step", 6)
    unpaired_share: float = _help("stage 2: share of a rare group's pictures that are photos without a drawing", 0.34)
    learning_rate: float = _help("AdamW, after 100 steps of warm-up", 2e-3)
    stage2_learning_rate: float = _help("the same in stage 2", 5e-4)
    decay_share: float = _help("last share of a stage in which the rate falls to zero", 0.55)
    weight_decay: float = _help("AdamW", 1e-4)
    ema: float = _help("decay of the averaged weights that are kept and shipped", 0.998)
    pixel: float = _help("L1 inside the person's mask", 1.0)
    outside: float = _help("L1 outside of it, lightly: alpha hides it", 0.05)
    composed: float = _help("L1 of the drawing laid on white by its own alpha", 1.0)
    structure: float = _help("1 - SSIM of the same (Wang et al. 2004)", 0.2)
    alpha: float = _help("cross-entropy of the alpha", 0.5)
    feature: float = _help("feature distance in a frozen EfficientNet-Lite0, of the basic group's drawings", 0.04)
    rare_feature: float = _help("the same of rare groups' drawings, where `feature` is not 0", 0.08)
    looks: float = _help(
        "rare groups: sex and age that our own network sees in a drawing, against those of its photo", 0.04
    )
    looks_coloured: bool = _help("in its own colours; off: light and shade in its photo's mean colour", False)
    adversarial: float = _help("what a discriminator says of the faces drawn, 0: there is none", 0.0)
    judge_learning_rate: float = _help("Adam, of that discriminator", 2e-4)
    unrounded: float = _help("with --qat: squared distance to what the averaged weights draw without rounding", 0.0)
    validate_every: int = _help(VALIDATE_EVERY, 500)


SAMPLINGS = ("basic", "each", "turns", "mixed", "mixed-rare", "rare")


@dataclass(frozen=True)
class Translation(Preset):
    """Unpaired translation between photos and drawings: U-GAT-IT and its family (trainer/step.py takes the steps)."""

    network: str = _help("generator: photo2cartoon, ugatit or cyclegan", "photo2cartoon")
    width: int = _help("channels of the generator's stem", 32)
    blocks: int = _help("residual blocks (photo2cartoon always has 4)", 4)
    light: bool = _help("style from pooled features; off: from all, which ties the network to one size", True)
    variant: str = _help("of cyclegan: cyclegan or ece285", "cyclegan")
    keypoint_pads: bool = _help("of ugatit: the keypoint project's decoder (sizes 4k + 2)", False)
    own: tuple[str, ...] = _help("parts that each group has to itself", ())
    heads: int = _help("rows of the generator's CAM heads: 1, or one for each group as in the few-shot release", 1)
    judge_width: int = _help("channels of the discriminators' first layer", 32)
    judge_layers: tuple[int, ...] = _help("layers of each domain's discriminators; the first one drives ADA", (7, 5))

    stage1_steps: int = _help("steps of the first stage", 100_000)
    stage1_sampling: str = _help("what a step of stage 1 sees: " + ", ".join(SAMPLINGS), "basic")
    stage2_steps: int = _help("steps of the second stage, 0: there is none", 0)
    stage2_sampling: str = _help("what a step of stage 2 sees", "each")
    batch: int = _help("pictures of each domain a step; with `each`: of each group", 1)
    accumulate: int = _help("batches whose gradients make one step", 1)
    selective: tuple[str, ...] = _help("parts that only the basic group moves; `shared`: all shared ones", ())
    frozen: tuple[str, ...] = _help("parts that nothing moves in stage 2", ())

    adversarial: float = _help("weight of the adversarial terms", 1.0)
    cycle: float = _help("weight of the reconstruction's L1", 10.0)
    identity: float = _help("weight of the L1 of a picture drawn in its own domain", 10.0)
    cam: float = _help("weight of the generators' CAM cross-entropy", 1000.0)
    stage2_cam: float = _help("the same in stage 2", 1000.0)
    face_id: float = _help("weight of the face-recognition distance (needs --face-id)", 0.0)
    group: float = _help("weight of the generators' group term; the discriminators then have a group head", 0.0)
    group_form: str = _help("square: MSE on one-hot (few-shot); entropy: cross-entropy (Face2Webtoon)", "square")
    group_domains: tuple[str, ...] = _help("whose discriminators tell the groups apart", ("cartoon", "photo"))
    keypoint: float = _help("weight of the keypoint distance, pixels squared (needs --points)", 0.0)
    keypoint_apart: bool = _help("an Adam of its own minimises the keypoint loss", False)
    keypoint_epochs: tuple[int, ...] = _help("epochs of the predictor before each stretch of steps", (3, 20, 40, 20))
    keypoint_every: int = _help("steps of a stretch", 10_000)
    keypoint_batch: int = _help("photos a step of the predictor", 1)
    discriminator: float = _help("scale of the discriminators' loss", 1.0)
    groups_alike: bool = _help("every picture counts alike; off: the basic group as much as all others", True)
    discriminators_first: bool = _help("published order: they move before the generators' losses are taken", False)

    learning_rate: float = _help("Adam", 1e-4)
    beta1: float = _help("Adam", 0.5)
    weight_decay: float = _help("L2 in the gradient", 1e-4)
    schedule: str = _help("half: constant, then linearly to zero from the middle of a stage on; constant", "half")
    jitter: bool = _help("flip, and a random crop of a picture 30 px larger", True)
    pairing: str = _help("random, or index: the n-th photo with the n-th drawing", "random")
    pool: int = _help("fakes kept to show the discriminators again", 0)
    ada: bool = _help("adaptive discriminator augmentation on both domains", False)
    ada_target: float = _help("mean sign of the discriminator on real pictures that it holds", 0.6)
    ada_kimg: float = _help("thousands of real pictures for strength 0 to 1", 500.0)
    ada_interval: int = _help("real pictures between two adjustments", 256)
    ada_blit: bool = _help("flips, quarter turns and whole shifts are among what it does", True)
    ada_geometry: bool = _help("so are zooms, rotations and fractional shifts", True)
    ada_colour: bool = _help("so are brightness, contrast, hue and saturation", True)
    ema: float = _help("decay of the averaged generators, 0: none", 0.999)
    bf16: bool = _help("autocast to bfloat16; statistics stay in float32", False)
    compile: bool = _help("torch.compile the generators' parts", False)
    checkpointing: bool = _help("recompute activations in the backward pass: a third more time, far less memory", False)
    validate_every: int = _help(VALIDATE_EVERY, 2000)


_U_GAT_IT = {"network": "ugatit", "width": 64, "judge_width": 64, "stage1_steps": 1_000_000}
FEW_SHOT_OWN = ("stem", "hourglass1", "hourglass4", "out")  # of photo2cartoon, as the few-shot release has it
_PAPER = "arXiv 2007.13332"
_P2C = {"cycle": 50.0, "face_id": 1.0}
_F2W = {
    **_U_GAT_IT, "light": False, "stage1_steps": 200_000, "jitter": False, "group": 1.0, "group_form": "entropy",
    "group_domains": ("cartoon",),
}  # fmt: skip
_CYCLEGAN = {
    "network": "cyclegan", "width": 64, "blocks": 9, "judge_width": 64, "identity": 5.0, "cam": 0.0,
    "stage2_cam": 0.0,
    "discriminator": 0.5, "learning_rate": 2e-4, "weight_decay": 0.0,
}  # fmt: skip
_KEYPOINT = {
    **_U_GAT_IT, "size": 178, "keypoint_pads": True, "jitter": False, "stage1_steps": 50_000, "keypoint": 1.0,
}  # fmt: skip

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Translation(
            "fewshot", f"{_PAPER}, section 4.1: stage 1 on the basic group, stage 2 on all, selective", **_P2C,
            own=FEW_SHOT_OWN, selective=("shared",), group=0.25, groups_alike=False, stage2_steps=50_000,
            stage2_cam=500.0,
        ),
        Translation(
            "fewshot-no-selective", f"{_PAPER}: the ablation, every group moves everything", **_P2C,
            own=FEW_SHOT_OWN, group=0.25, groups_alike=False, stage2_steps=50_000,
            stage2_cam=500.0,
        ),
        Translation("basic", f"{_PAPER}: the basic model, stage 1 alone", **_P2C),
        Translation("baseline1", f"{_PAPER}: all groups mixed from the start", **_P2C, stage1_sampling="mixed"),
        Translation(
            "baseline2", f"{_PAPER}: the basic model fine-tuned on the mixed rare groups", **_P2C,
            stage2_steps=50_000, stage2_sampling="mixed-rare",
        ),
        Translation(
            "baseline3", f"{_PAPER}: the basic model fine-tuned on one rare group, the second of --groups", **_P2C,
            stage2_steps=50_000, stage2_sampling="rare",
        ),
        Translation("photo2cartoon", "minivision-ai/photo2cartoon, light", **_P2C, stage1_steps=1_000_000),
        Translation("photo2cartoon-full", "the same, full", **_P2C, light=False, stage1_steps=1_000_000),
        Translation("ugatit-light", "arXiv 1907.10830, light", **_U_GAT_IT),
        Translation("ugatit", "arXiv 1907.10830, full", **_U_GAT_IT, light=False),
        Translation(
            "face2webtoon-finetune", "sangyun884/Face2Webtoon, baseline 1: fine-tuned with the bottleneck frozen",
            **{**_F2W, "group": 0.0}, stage2_steps=200_000, stage2_sampling="turns", frozen=("encode",),
        ),
        Translation(
            "face2webtoon-group", "sangyun884/Face2Webtoon: group loss, bottleneck moved by group 0 only", **_F2W,
            stage1_sampling="turns", selective=("encode",),
        ),
        Translation(
            "face2webtoon-ada", "the same with ADA on both domains", **_F2W, stage1_sampling="turns",
            selective=("encode",), ada=True,
        ),
        Translation(
            "cyclegan", "arXiv 1703.10593 and its program: pool of 50, LSGAN, 9 blocks", **_CYCLEGAN, pool=50,
            stage1_steps=680_000,
        ),
        Translation(
            "selfie2anime", "JamesLong199/ECE285_selfie2anime, its report: pool of 100, no schedule",
            **{**_CYCLEGAN, "variant": "ece285", "beta1": 0.9, "schedule": "constant", "jitter": False}, pool=100,
            stage1_steps=306_000, seed=1,
        ),
        Translation("keypoint1", "casapmaz96/UGATIT_with_KP, method 1: with the cycle's weight",
                    **{**_KEYPOINT, "keypoint": 10.0}),
        Translation("keypoint2", "the same, method 2: with the adversarial weight (the best)", **_KEYPOINT),
        Translation("keypoint3", "the same, method 3: an Adam of its own", **_KEYPOINT, keypoint_apart=True),
        Live("live", f"ours: supervised pairs, then branches by selective backpropagation ({_PAPER}, section 4.1)"),
        Live(
            "live-style", "ours: an unpaired style; pairs that another model drew give the shape, drawings the "
            "looks (an adversary, as in AnimeGAN)", groups=("everyone",), stage1_steps=3000, stage2_steps=0, batch=5,
            basic_unpaired=0, learning_rate=5e-4, pixel=0.5, composed=0.5, structure=0.1, feature=0.02,
            looks=0.0, adversarial=0.15, validate_every=0,
        ),
    )
}  # fmt: skip

# Where the published program differs from its paper and runs: what `--as-published` sets.
_ORDER = {"discriminators_first": True}
AS_PUBLISHED: dict[str, dict] = {
    "cyclegan": {},
    "photo2cartoon": _ORDER,
    "photo2cartoon-full": _ORDER,
    "ugatit-light": _ORDER,
    "ugatit": _ORDER,
    "selfie2anime": {"pool": 50, "pairing": "index"},
    "keypoint1": _ORDER,
    "keypoint2": _ORDER,
    "keypoint3": _ORDER,
}

# Why there is none to follow, of the presets whose program is not merely broken.
NO_PROGRAM = {
    "live": "is livetoon's own, there is no other program to follow",
    "live-style": "is livetoon's own, there is no other program to follow",
    "basic": "has no program of its own, photo2cartoon's trains such a model (--preset photo2cartoon)",
    **dict.fromkeys(
        ("fewshot-no-selective", "baseline1", "baseline2", "baseline3"),
        "is a comparison in a paper, and no program of it was published",
    ),
}

# What `--qat` sets: a short run at a low rate in which every group learns.
QAT = {
    "qat": True, "stage1_steps": 0, "stage2_steps": 200, "stage2_learning_rate": 1e-4, "ema": 0.98, "unrounded": 100.0,
    "validate_every": 50,
}  # fmt: skip

# Of unpaired translation: fields of a preset that not every generator takes, beside ALL_TAKE.
NETWORKS = {
    "photo2cartoon": ("light", "heads"),
    "ugatit": ("blocks", "light", "heads", "keypoint_pads"),
    "cyclegan": ("blocks", "variant"),
}
ALL_TAKE = ("groups", "size", "width", "own")
CHOICES = {
    "stage1_sampling": SAMPLINGS, "stage2_sampling": SAMPLINGS, "group_form": ("square", "entropy"),
    "schedule": ("half", "constant"), "pairing": ("random", "index"), "variant": ("cyclegan", "ece285"),
}  # fmt: skip
AT_LEAST_ONE = (
    "batch", "rare_batch", "accumulate", "ada_interval", "heads", "keypoint_every", "keypoint_batch",
    "width", "judge_width",
)  # fmt: skip


LIMITS = {"ema": 0.99999, "beta1": 0.999, "ada_target": 1, "unpaired_share": 1, "decay_share": 1}


def fields(preset: Preset) -> dict[str, dataclasses.Field]:
    """What `--set` may override."""
    return {f.name: f for f in dataclasses.fields(preset) if f.name not in ("name", "source", "qat")}


def resolve(
    name: str,
    overrides: list[str],
    groups: str | None = None,
    basic: str | None = None,
    as_published: bool = False,
    qat: bool = False,
) -> Preset:
    """The preset `name` with `name=value` overrides; unknown names and values are refused.

    >>> resolve("fewshot", ["cycle=5"], groups="woman,man,kid", basic="kid").groups
    ('kid', 'woman', 'man')
    """
    if name not in PRESETS:
        raise UsageError(f"--preset {name}: unknown (there is: {', '.join(PRESETS)})")
    preset = PRESETS[name]
    if as_published:
        if name not in AS_PUBLISHED:
            why = NO_PROGRAM.get(name, "follows a paper whose program does not run")
            raise UsageError(f"--as-published: {name} {why}; leave it out")
        preset = replace(preset, **AS_PUBLISHED[name])
    if qat:
        if not isinstance(preset, Live) or preset.adversarial:
            raise UsageError(f"--qat: preset {name} has no INT8 form that it could learn; it is for --preset live")
        preset = replace(preset, **QAT)
    known, changes, given = fields(preset), {}, {}
    for override in overrides + ([f"groups={groups}"] if groups is not None else []):
        key, equals, value = override.partition("=")
        if not equals or key not in known:
            raise UsageError(f"--set {override}: expected name=value with a name of {', '.join(known)}")
        changes[key], given[key] = _parse(key, value, getattr(preset, key)), override
    changed = replace(preset, **changes)
    _check_taken(changed, given)
    if changes.get("group") and not _apart(changed):
        raise UsageError(f"--group-loss, --set group: no step of preset {name} knows the groups apart; leave it out")
    if basic is not None:
        if basic not in changed.groups:
            raise UsageError(f"--basic {basic}: not one of the groups {', '.join(changed.groups)}")
        changed = replace(changed, groups=(basic, *(group for group in changed.groups if group != basic)))
    _check(changed)
    return changed


def _check_taken(changed: Preset, given: dict[str, str]) -> None:
    """UsageError for an override of a field that the network does not take: it would change nothing."""
    taken = NETWORKS.get(changed.network) if isinstance(changed, Translation) else None
    if taken is None:
        return
    untaken = {name for names in NETWORKS.values() for name in names} - set(taken)
    for key, override in given.items():
        if key in untaken:
            fields_taken = ", ".join(ALL_TAKE + taken)
            raise UsageError(f"--set {override}: network {changed.network} takes no {key}, but {fields_taken}")
        if key in ("cam", "stage2_cam") and changed.network == "cyclegan" and getattr(changed, key):
            raise UsageError(f"--set {override}: network cyclegan has no CAM to learn; leave it out")


def _parse(key: str, value: str, default: object) -> object:
    kind = type(default)
    try:
        if isinstance(default, bool):
            return {"on": True, "true": True, "1": True, "off": False, "false": False, "0": False}[value.lower()]
        if isinstance(default, tuple):
            parts = [part.strip() for part in value.split(",") if part.strip()]
            return tuple(int(part) if key in ("keypoint_epochs", "judge_layers") else part for part in parts)
        parsed = kind(value)
    except (KeyError, ValueError):
        expected = "on or off" if kind is bool else "numbers" if kind is tuple else f"a {kind.__name__}"
        raise UsageError(f"--set {key}={value}: expected {expected}") from None
    if not isinstance(parsed, str) and not (0 <= parsed < float("inf")):
        raise UsageError(f"--set {key}={value}: expected a number of at least 0")
    return parsed


def _apart(preset: Preset) -> bool:
    """Whether some step sees groups by themselves."""
    kinds = [preset.stage1_sampling] + ([preset.stage2_sampling] if preset.stage2_steps else [])
    return bool({"each", "turns"} & set(kinds))


def _check(preset: Preset) -> None:
    if (
        not preset.groups
        or len(set(preset.groups)) != len(preset.groups)
        or not all(NAME.fullmatch(group) for group in preset.groups)
    ):
        raise UsageError(f"--groups {','.join(preset.groups)}: expected different names of letters, digits, _ and -")
    for name in AT_LEAST_ONE:
        if getattr(preset, name, 1) < 1:
            raise UsageError(f"--set {name}={getattr(preset, name)}: expected at least 1")
    for name, choices in CHOICES.items():
        if getattr(preset, name, choices[0]) not in choices:
            raise UsageError(f"--set {name}={getattr(preset, name)}: expected one of {', '.join(choices)}")
    if getattr(preset, "keypoint_pads", False):
        if preset.size < 34 or preset.size % 4 != 2:
            raise UsageError(f"--set size={preset.size}: expected 4k + 2, at least 34, with keypoint_pads")
    elif preset.size < 32 or preset.size % 16:
        raise UsageError(f"--set size={preset.size}: expected a multiple of 16, at least 32")
    if preset.seed >= 1 << 63:
        raise UsageError(f"--set seed={preset.seed}: expected a number below 2**63")
    if preset.stage1_steps + preset.stage2_steps < 1:
        raise UsageError("--set stage1_steps=0: no step is left to take; set stage1_steps or stage2_steps")
    for name, most in LIMITS.items():
        if getattr(preset, name, 0) > most:
            raise UsageError(f"--set {name}={getattr(preset, name):g}: expected at most {most:g}")
    if not getattr(preset, "basic_batch", True) and preset.stage2_steps and len(preset.groups) < 2:
        raise UsageError("--set basic_batch=0: nothing would learn in stage 2; name a second group with --groups")
    if isinstance(preset, Translation):
        _check_translation(preset)


def _check_translation(preset: Translation) -> None:
    if preset.network not in NETWORKS:
        raise UsageError(f"--set network={preset.network}: expected one of {', '.join(NETWORKS)}")
    if preset.network == "photo2cartoon" and preset.width % 4:
        raise UsageError(f"--set width={preset.width}: expected a multiple of 4")
    if preset.network != "cyclegan":
        if not preset.judge_layers or not all(4 <= layers <= 9 for layers in preset.judge_layers):
            raise UsageError(f"--set judge_layers={preset.judge_layers}: expected numbers from 4 to 9, like 7,5")
        deepest = max(preset.judge_layers)
        if preset.size < (least := 3 * 2 ** (deepest - 2)):
            raise UsageError(
                f"--set size={preset.size}: expected at least {least}, the least that {deepest} layers of a "
                "discriminator take (judge_layers)"
            )
    if set(preset.group_domains) - {"cartoon", "photo"}:
        raise UsageError(f"--set group_domains={','.join(preset.group_domains)}: expected cartoon, photo or both")
    if preset.group and preset.network == "cyclegan":
        raise UsageError("--set network=cyclegan: its discriminators have no group head; add --group-loss off")
    if (
        preset.own
        and "mixed" in (preset.stage1_sampling, preset.stage2_sampling.partition("-")[0])
        and not _apart(preset)
    ):
        raise UsageError("--set own: mixed groups cannot have parts of their own; leave own empty")
    if preset.keypoint and (not preset.keypoint_epochs or min(preset.keypoint_epochs) < 0):
        raise UsageError("--set keypoint_epochs: expected numbers of at least 0, like 3,20,40,20")
    if preset.keypoint and preset.jitter:
        raise UsageError("--set jitter=on: a random crop would move the points of the keypoint loss; leave it off")
    if preset.keypoint_pads and preset.network != "ugatit":
        raise UsageError(f"--set keypoint_pads=on: {preset.network} has no such decoder, only ugatit")
    if preset.ada and preset.ada_kimg <= 0:
        raise UsageError("--set ada_kimg=0: expected more than 0")
    if preset.heads not in (1, len(preset.groups)):
        raise UsageError(f"--set heads={preset.heads}: expected 1 or the number of groups, {len(preset.groups)}")
    rare = {preset.stage1_sampling} | ({preset.stage2_sampling} if preset.stage2_steps else set())
    if rare & {"each", "turns", "mixed", "mixed-rare", "rare"} and len(preset.groups) < 2:
        raise UsageError(f"--groups {preset.groups[0]}: expected at least two, {preset.name} learns rare groups too")
    if preset.discriminators_first and preset.accumulate > 1:
        raise UsageError("--set accumulate: the published order moves within a batch; leave discriminators_first off")
