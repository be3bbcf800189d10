"""Presets: frozen configurations with their source. `--set name=value` overrides any field by name."""

import dataclasses
import re
from dataclasses import dataclass, field

from livetoon.errors import UsageError


def _help(text: str, default):
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Preset:
    """One training recipe. The loss is a weighted sum: a term of weight 0 is logged, but teaches nothing (and
    `feature`, which costs most, is then not even computed)."""

    name: str
    source: str
    network: str = _help("network family (trainer/networks)", "live")
    groups: tuple[str, ...] = _help(
        "groups of people; the first is the basic one", ("young-women", "young-men", "kids", "elderly")
    )
    size: int = _help("side of a crop, pixels", 256)
    seed: int = _help("every random choice follows from it", 0)
    stage1_steps: int = _help("steps on the basic group alone", 4000)
    stage2_steps: int = _help("steps on all groups, the trunk moved by the basic one only", 320)
    batch: int = _help("stage 1: pairs a step", 7)
    basic_unpaired: int = _help("stage 1: photos without a drawing a step, where there are some", 2)
    basic_batch: int = _help("stage 2: pairs of the basic group a step", 3)
    rare_batch: int = _help("stage 2: pictures of each other group a step", 2)
    unpaired_share: float = _help("stage 2: share of a rare group's pictures that are photos without a drawing", 0.5)
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
    feature: float = _help("feature distance in a frozen EfficientNet-Lite0", 0.04)


PRESETS = {
    "live": Preset(
        name="live",
        source="ours: supervised pairs, then branches by selective backpropagation (arXiv 2007.13332, section 4.1)",
    ),
}


def resolve(name: str, overrides: list[str], groups: str | None = None) -> Preset:
    """The preset `name` with `name=value` overrides; unknown names and values are refused.

    >>> resolve("live", ["batch=2"]).batch
    2
    """
    if name not in PRESETS:
        raise UsageError(f"--preset {name}: unknown (there is: {', '.join(PRESETS)})")
    preset = PRESETS[name]
    fields = {f.name: f for f in dataclasses.fields(Preset) if f.name not in ("name", "source")}
    changes: dict[str, object] = {}
    for override in overrides + ([f"groups={groups}"] if groups else []):
        key, equals, value = override.partition("=")
        if not equals or key not in fields:
            raise UsageError(f"--set {override}: expected name=value with a name of {', '.join(fields)}")
        changes[key] = _parse(key, value, getattr(preset, key))
    changed = dataclasses.replace(preset, **changes)
    if len(set(changed.groups)) != len(changed.groups) or not all(re.fullmatch(r"[\w-]+", g) for g in changed.groups):
        raise UsageError(f"--groups {','.join(changed.groups)}: expected different names of letters, digits, _ and -")
    for name in ("batch", "basic_batch", "rare_batch"):
        if getattr(changed, name) < 1:
            raise UsageError(f"--set {name}={getattr(changed, name)}: expected at least 1")
    if changed.size < 32 or changed.size % 16:
        raise UsageError(f"--set size={changed.size}: expected a multiple of 16, at least 32")
    return changed


def _parse(key: str, value: str, default: object) -> object:
    try:
        if isinstance(default, tuple):
            return tuple(part.strip() for part in value.split(","))
        parsed = type(default)(value)
    except ValueError:
        raise UsageError(f"--set {key}={value}: expected a {type(default).__name__}") from None
    if not isinstance(parsed, str) and not (parsed >= 0):
        raise UsageError(f"--set {key}={value}: expected a number of at least 0")
    return parsed
