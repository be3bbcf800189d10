"""Validation while training: by which networks, when it is due, and the score that tells the best checkpoint.

What measures never teaches: neither the features of a loss nor the network of its face-ID term are asked here.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from faces.pictures import resized
from livetoon.errors import UsageError
from trainer import inception
from trainer.collect import VALIDATION_FROM, VALIDATION_MOST, Unpaired
from trainer.identity import FaceIdentity
from trainer.identity_files import load_face_id
from trainer.layout import DOMAINS
from trainer.metrics import Draw, FeatureExtractor, Validator, open_features
from trainer.presets import Live, Translation

log = logging.getLogger("trainer")

SAME_NETWORK = 0.9999  # cosine of two networks' vectors of one noise picture; float32 in another order costs 1e-6


@dataclass(frozen=True)
class Judges:
    """Frozen networks that measure. features: of KID and FID; without them pairs are judged by their L1."""

    features: FeatureExtractor | None = None
    identity: FaceIdentity | None = None


NOBODY = Judges()


def open_judges(
    preset: Live | Translation,
    identity: Path | None = None,
    face_id: FaceIdentity | None = None,
    device: str | torch.device = "cpu",
) -> Judges:
    """The judges of a run of `preset`, whose face-ID loss (if any) is `face_id`; none where it is never validated.

    Where EfficientNet-Lite0 is in the loss and Inception is not on this machine there are no features. UsageError where
    `identity` computes what `face_id` does; ModelError for a file that cannot be read.
    """
    if not preset.validate_every:
        return NOBODY
    judge = None
    if identity is not None:
        judge = load_face_id(identity).to(device)
        if face_id is not None and _same(judge, face_id):
            raise UsageError(
                f"--identity {identity}: computes what the network of --face-id does, and what teaches must not judge; "
                "name another one, or leave it out"
            )
    if getattr(preset, "feature", 0.0) and inception.installed() is None:
        log.info(
            "validation: EfficientNet-Lite0 is in the loss and must not judge it, so the best checkpoint is the one "
            "whose drawings have the smallest L1 to their pairs; Inception's weights (%s) add KID and FID",
            inception.VARIABLE,
        )
        return Judges(None, judge)
    # A network draws its first weights before it reads its file: what learns starts alike, however it is judged.
    with torch.random.fork_rng(devices=[]):
        return Judges(open_features(device=device), judge)


def _same(one: FaceIdentity, other: FaceIdentity) -> bool:
    if one.size != other.size:
        return False
    noise = torch.rand((1, 3, one.size, one.size), generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        vectors = [network.embed(noise.to(network.scale.device)).cpu() for network in (one, other)]
    return vectors[0].shape == vectors[1].shape and (vectors[0] * vectors[1]).sum().item() > SAME_NETWORK


class Validation:
    """Pictures kept to validate by, and what judges them.

    kept: by group; spared: the domains of each group whose kept pictures do not train. paired: the n-th cartoon is the
    n-th photo's.
    """

    def __init__(
        self,
        preset: Live | Translation,
        kept: Mapping[str, Unpaired],
        spared: Mapping[str, Collection[str]] | None = None,
        judges: Judges = NOBODY,
        paired: bool = False,
    ):
        self._preset, self._kept, self._spared, self._paired = preset, kept, spared or {}, paired
        self._judges, self._validator = judges, None
        self.score = "kid" if judges.features is not None else "l1" if paired else None

    @property
    def judge(self) -> str | None:
        """What the score is made of; scores of different judges cannot be compared."""
        if not self._preset.validate_every or self.score is None:
            return None
        return f"kid of every group by {self._judges.features.name}" if self.score == "kid" else "l1 of every group"

    @property
    def metric_features(self) -> str | None:
        """Whose features the figures are made of, as config.json tells it."""
        if self.judge and self.score == "l1":
            return "none: efficientnet-lite0 is in the loss, so the L1 to paired drawings judges"
        return self._judges.features.name if self.judge else None

    def due(self, stage: int, step: int) -> bool:
        """Whether to validate after `step` steps of a stage: every so often, and at its end."""
        every = self._preset.validate_every
        steps = self._preset.stage1_steps if stage == 1 else self._preset.stage2_steps
        return self.judge is not None and (step % every == 0 or step == steps)

    def tell(self, learned: Sequence[str]) -> None:
        """Log which of the pictures that judge the groups `learned` train as well: their figures flatter."""
        if self.judge is None:
            return
        also = {}
        for group in learned:
            kept, spared = self._kept.get(group, Unpaired()), self._spared.get(group, ())
            if kept.photo and kept.cartoon and (both := [name for name in DOMAINS if name not in spared]):
                also[group] = f"{group} ({', '.join(both)})"
        if also:
            told = "validation by pictures that train as well: %s; sets of %d and more can spare some"
            log.info(told, ", ".join(also.values()), VALIDATION_FROM)

    def __call__(
        self,
        learned: Sequence[str],
        to_cartoon: Draw,
        to_photo: Draw | None = None,
        groups: Sequence[str] | None = None,
    ) -> dict[str, float]:
        """Figures of `groups` (default: all), and the `score`: the mean over all groups that this stage has `learned`.
        One that cannot spare pictures counts as well: stage 2 is there for those that have few."""
        found = self._opened()(to_cartoon, to_photo, groups)
        values = [found[name] for group in learned if (name := f"{self.score}/{group}/photo-cartoon") in found]
        return found | ({"score": sum(values) / len(values)} if values else {})

    def _opened(self) -> Validator:
        if self._validator is None:
            size, used = self._preset.size, [g for g, kept in self._kept.items() if kept.photo and kept.cartoon]
            sets = [
                {g: [resized(p, size) for p in getattr(self._kept[g], domain)[:VALIDATION_MOST]] for g in used}
                for domain in DOMAINS
            ]
            features, identity = self._judges.features, self._judges.identity
            self._validator = Validator(*sets, features, identity=identity, paired=self._paired)
        return self._validator
