"""How close generated pictures are to real ones: KID, FID, and how much a drawing changes its photo.

KID and FID compare sets of features, so a figure means nothing without the name of the network that made them:
Inception where its weights lie on this machine (LIVETOON_INCEPTION names a file, or torch hub's checkpoints folder
holds one; nothing is downloaded), EfficientNet-Lite0's last pooled features otherwise. Figures of different networks,
of different subset sizes and of different picture sizes cannot be compared.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from livetoon.errors import DataError, ModelError, UsageError
from trainer import inception
from trainer.identity import FaceIdentity

log = logging.getLogger("trainer")

NETWORKS = ("auto", "inception", "efficientnet-lite0")
# How KID is taken: {"subsets", "subset_size"} of `kid`, "side": pixels that pictures are forced to first.
PROTOCOLS = {
    "paper": {"subsets": 100, "subset_size": 1000, "side": None},  # arXiv 1801.01401, section 4
    "face2webtoon": {"subsets": None, "subset_size": None, "side": 96},  # sangyun884/Face2Webtoon
}
BATCH = 8  # pictures that pass the networks at once: what a laptop's memory bears at 256 px
ROWS = 1024  # of a kernel matrix made at once: 8 KiB for each picture of the other set
LITE0_SIDE = 224  # pixels, as EfficientNet-Lite0 was trained


def kid(
    x: np.ndarray,
    y: np.ndarray,
    subsets: int | None = 100,
    subset_size: int | None = 1000,
    rng: np.random.Generator | None = None,
) -> tuple[float, float]:
    """Kernel inception distance of features x (N, D) and y (M, D): mean and standard deviation over subsets.

    The unbiased estimate of the squared maximum mean discrepancy (arXiv 1801.01401, equation 4) under the kernel
    (x.y / D + 1)^3; about 0 for two samples of one distribution, where it may be negative. Sets smaller than
    `subset_size` are taken whole. `subset_size=None` is the smaller set and `subsets=None` larger // smaller, as
    Face2Webtoon measures. Subsets are drawn by `rng`, the same ones at every call where it is left out. DataError
    where a set has fewer than two rows; nan where a feature is no finite number.
    """
    x, y = _checked(x, y)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("nan"), float("nan")
    smaller, larger = sorted((len(x), len(y)))
    size = min(smaller, subset_size or smaller)
    if size < 2 or (subsets is not None and subsets < 1):
        raise UsageError(f"KID over {subsets} subsets of {size}: expected at least 1 of at least 2")
    count = 1 if size == larger else (subsets or larger // smaller)  # whole sets: one subset is all of them
    rng = rng or np.random.default_rng(0)
    in_x, in_y = _subsets(len(x), size, count, rng), _subsets(len(y), size, count, rng)
    pairs = size * (size - 1)
    within_x = (_sums(x, in_x, x, in_x) - in_x @ _kernel_of_itself(x)) / pairs
    within_y = (_sums(y, in_y, y, in_y) - in_y @ _kernel_of_itself(y)) / pairs
    between = _sums(x, in_x, y, in_y) / size**2
    distances = within_x + within_y - 2 * between
    return float(distances.mean()), float(distances.std())


def _checked(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise DataError(f"features {x.shape} and {y.shape}: expected (N, D) and (M, D) of one network")
    if min(len(x), len(y)) < 2:
        raise DataError(f"sets of {len(x)} and {len(y)} pictures: a distance of distributions needs 2 in each")
    return x, y


def _subsets(length: int, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, length): 1 where a picture is in the subset."""
    chosen = np.zeros((count, length))
    for row in chosen:
        row[rng.choice(length, size, replace=False)] = 1
    return chosen


def _sums(a: np.ndarray, in_a: np.ndarray, b: np.ndarray, in_b: np.ndarray) -> np.ndarray:
    """Sum of the kernel over each subset's pairs, (count,). The kernel is made once for all subsets."""
    total = np.zeros(len(in_a))
    for start in range(0, len(a), ROWS):
        rows = slice(start, start + ROWS)
        kernel = (a[rows] @ b.T / a.shape[1] + 1) ** 3
        total += ((in_a[:, rows] @ kernel) * in_b).sum(axis=1)
    return total


def _kernel_of_itself(a: np.ndarray) -> np.ndarray:
    return ((a * a).sum(axis=1) / a.shape[1] + 1) ** 3


def fid(x: np.ndarray, y: np.ndarray) -> float:
    """Frechet inception distance (arXiv 1706.08500, equation 6) of features x (N, D) and y (M, D); 0 or more.

    With centred features X and Y, so that X'X and Y'Y are the covariances, tr sqrt(X'X Y'Y) is the sum of the singular
    values of X Y': no root of a D x D matrix is taken, and N < D costs no accuracy. (FID itself is biased for few
    pictures: compare only figures of equally large sets.) Errors and nan as in `kid`.
    """
    x, y = _checked(x, y)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return float("nan")
    a, b = _centred(x), _centred(y)
    common = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    means = x.mean(axis=0) - y.mean(axis=0)
    return float(max(0.0, means @ means + (a * a).sum() + (b * b).sum() - 2 * common))


def _centred(x: np.ndarray) -> np.ndarray:
    """A with A'A = the covariance of x, of at most D rows."""
    a = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    return np.linalg.qr(a, mode="r") if len(a) > a.shape[1] else a


def change(x: Tensor, y: Tensor) -> float:
    """Mean absolute distance of pictures (N, 3, S, S) in [-1, 1], as a share of the range: 0 equal, 1 opposite.

    Of input and output it shows the collapse in which nothing changes.

    >>> change(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2))
    0.5
    """
    return (x.float() - y.float()).abs().mean().item() / 2


class FeatureExtractor:
    """Pictures (N, 3, S, S) float32 RGB in [-1, 1] -> features (N, D) float32; `name` belongs beside every figure."""

    def __init__(self, name: str, network: Callable[[Tensor], Tensor], device: str | torch.device = "cpu"):
        self.name, self.device, self._network = name, torch.device(device), network

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> np.ndarray:
        if pictures.ndim != 4 or pictures.shape[1] != 3:
            raise DataError(f"pictures {tuple(pictures.shape)}: expected (N, 3, S, S) in [-1, 1]")
        features = [self._network(part.to(self.device).float().clamp(-1, 1)) for part in pictures.split(BATCH)]
        return torch.cat(features).float().cpu().numpy()


def open_features(network: str = "auto", device: str | torch.device = "cpu") -> FeatureExtractor:
    """Open one of NETWORKS; "auto" is Inception where its weights lie on this machine, else EfficientNet-Lite0.

    UsageError for another name; ModelError where Inception was asked for, or named by LIVETOON_INCEPTION, and cannot be
    read; TrainingError where EfficientNet-Lite0's package is missing.
    """
    if network not in NETWORKS:
        raise UsageError(f"features {network!r}: expected one of {', '.join(NETWORKS)}")
    weights = inception.installed() if network != "efficientnet-lite0" else None
    if weights is not None:
        model = inception.load(weights).to(device)
        side = inception.SIDE  # resized without antialiasing, as the figures of the papers were

        def pooled(x: Tensor) -> Tensor:
            return model(F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False))

        return FeatureExtractor(model.name, pooled, device)
    if network == "inception":
        raise ModelError(
            f"Inception's weights are not on this machine: set {inception.VARIABLE} to a file {inception.FILES[0]}, "
            "or measure with efficientnet-lite0"
        )
    return FeatureExtractor("efficientnet-lite0", _lite0(device), device)


def _lite0(device: str | torch.device) -> Callable[[Tensor], Tensor]:
    from trainer.features import efficientnet_lite0

    model = efficientnet_lite0().requires_grad_(False).eval().to(device)

    def pooled(x: Tensor) -> Tensor:
        x = F.interpolate(x, size=(LITE0_SIDE, LITE0_SIDE), mode="bilinear", align_corners=False, antialias=True)
        return model.extract_features((x * 127.5 + 0.5) / 128).mean(dim=(2, 3))  # its range: (value - 127) / 128

    return pooled


Draw = Callable[[Tensor, str], Tensor]  # (N, 3, S, S) in [-1, 1] and a group -> (N, 3, S, S)


@dataclass
class _Drawn:
    """What is measured of drawings while they exist. features: (N, D) float32; faces: (N, D) unit vectors."""

    change: float
    l1: float | None
    features: np.ndarray | None
    faces: Tensor | None


class Validator:
    """Held-out pictures of each group, and what drawing functions make of them; equal at every call.

    photos, cartoons: per group, (S, S, 3) uint8 RGB of one size; paired: the n-th cartoon is the n-th photo's.
    features: without them KID and FID are left out; their name (with the protocol's picture size) stands in `network`,
    which belongs beside the figures. identity: pictures (N, 3, S, S) in [-1, 1] -> unit vectors of their faces.
    """

    def __init__(
        self,
        photos: Mapping[str, Sequence[np.ndarray]],
        cartoons: Mapping[str, Sequence[np.ndarray]],
        features: FeatureExtractor | None,
        protocol: str = "paper",
        identity: FaceIdentity | None = None,
        paired: bool = False,
    ):
        if protocol not in PROTOCOLS:
            raise UsageError(f"KID protocol {protocol!r}: expected one of {', '.join(PROTOCOLS)}")
        self._protocol, self._features = PROTOCOLS[protocol], features
        self._identity, self._paired = identity, paired
        side, name = self._protocol["side"], features.name if features is not None else "no features"
        self.network = f"{name} at {side} px" if side else name
        self.groups = tuple(dict.fromkeys([*photos, *cartoons]))
        self._real = {"photo": {}, "cartoon": {}}
        self._real_features: dict[tuple[str, str], np.ndarray] = {}
        self._real_faces: dict[str, Tensor] = {}
        for kind, sets in (("photo", photos), ("cartoon", cartoons)):
            for group in self.groups:
                self._real[kind][group] = _stacked(sets.get(group, ()), f"{kind}s of {group}")
        for group in self.groups:
            counts = [len(self._real[kind][group]) for kind in ("photo", "cartoon")]
            if paired and counts[0] != counts[1]:
                raise DataError(f"validation of {group}: {counts[0]} photos, {counts[1]} cartoons; expected pairs")
            for kind, count in zip(("photo", "cartoon"), counts, strict=True):
                if count < 2:
                    log.warning("validation: %d %s(s) of %s, 2 are needed to measure them", count, kind, group)

    def __call__(
        self, to_cartoon: Draw, to_photo: Draw | None = None, groups: Sequence[str] | None = None
    ) -> dict[str, float]:
        """`{"kid/GROUP/DIRECTION": ..., "fid/...": ..., "change/...": ...}` of what the functions draw.

        Directions: photo-cartoon (drawn cartoons against real ones), cartoon-photo, and photo-reconstruction (a photo
        drawn and brought back, against the photos); the last two need `to_photo`. `change` is the distance of output
        and input in [0, 1]; `l1/GROUP/photo-cartoon`, of pairs, that of a drawing and its photo's cartoon;
        `identity`, of what is made of photos, the mean cosine of its face and the photo's. A direction is left out
        where a set that it compares has fewer than 2 pictures. `groups`: only these.
        """
        figures: dict[str, float] = {}
        for group in self.groups if groups is None else [name for name in self.groups if name in groups]:
            photos, cartoons = self._real["photo"][group], self._real["cartoon"][group]
            ways: dict[str, tuple[Tensor, str, Draw]] = {}
            if min(len(photos), len(cartoons)) >= 2:
                ways["photo-cartoon"] = photos, "cartoon", to_cartoon
                if to_photo is not None:
                    ways["cartoon-photo"] = cartoons, "photo", to_photo
            if len(photos) >= 2 and to_photo is not None:
                ways["photo-reconstruction"] = photos, "photo", lambda x, name: to_photo(to_cartoon(x, name), name)
            for direction, (inputs, kind, draw) in ways.items():
                drawn = self._drawn(inputs, group, draw, cartoons if direction == "photo-cartoon" else None)
                for name, value in self._figures(drawn, group, kind, direction).items():
                    figures[f"{name}/{group}/{direction}"] = value
        return figures

    def _figures(self, drawn: "_Drawn", group: str, kind: str, direction: str) -> dict[str, float]:
        figures = {"change": drawn.change}
        if drawn.features is not None:
            real = self._features_of(kind, group)
            options = {name: self._protocol[name] for name in ("subsets", "subset_size")}
            figures["kid"], figures["fid"] = kid(drawn.features, real, **options)[0], fid(drawn.features, real)
        if drawn.l1 is not None:
            figures["l1"] = drawn.l1
        if drawn.faces is not None and direction != "cartoon-photo":
            figures["identity"] = (drawn.faces * self._faces_of(group)).sum(dim=1).mean().item()
        return figures

    @torch.no_grad()
    def _drawn(self, inputs: Tensor, group: str, draw: Draw, cartoons: Tensor | None) -> "_Drawn":
        """inputs, cartoons: (N, S, S, 3) uint8; cartoons: what pairs are compared with."""
        features, faces, changed, missed = [], [], 0.0, 0.0
        for start in range(0, len(inputs), BATCH):
            part = slice(start, start + BATCH)
            x = _in_range(inputs[part])
            y = draw(x if self._features is None else x.to(self._features.device), group)
            if y.shape != x.shape:
                raise DataError(f"drawn {tuple(y.shape)} from {tuple(x.shape)}: expected the same shape")
            if self._features is not None:
                features.append(self._extract(y))
            if self._identity is not None:
                faces.append(self._face(y))
            changed += change(x.to(y.device), y) * len(x)
            if self._paired and cartoons is not None:
                missed += change(_in_range(cartoons[part]).to(y.device), y) * len(x)
        return _Drawn(
            change=changed / len(inputs),
            l1=missed / len(inputs) if self._paired and cartoons is not None else None,
            features=np.concatenate(features) if features else None,
            faces=torch.cat(faces) if faces else None,
        )

    @torch.no_grad()
    def _face(self, x: Tensor) -> Tensor:
        return self._identity(x.to(self._identity.scale.device).float().clamp(-1, 1)).cpu()

    def _faces_of(self, group: str) -> Tensor:
        if group not in self._real_faces:
            parts = self._real["photo"][group].split(BATCH)
            self._real_faces[group] = torch.cat([self._face(_in_range(part)) for part in parts])
        return self._real_faces[group]

    def _features_of(self, kind: str, group: str) -> np.ndarray:
        if (kind, group) not in self._real_features:
            parts = self._real[kind][group].split(BATCH)
            self._real_features[kind, group] = np.concatenate([self._extract(_in_range(part)) for part in parts])
        return self._real_features[kind, group]

    def _extract(self, x: Tensor) -> np.ndarray:
        if side := self._protocol["side"]:
            x = F.interpolate(x.float(), size=(side, side), mode="bilinear", align_corners=False, antialias=True)
        return self._features(x)


def _stacked(pictures: Sequence[np.ndarray], what: str) -> Tensor:
    """(N, S, S, 3) uint8: a quarter of what float32 would hold in memory for the length of a run."""
    for picture in pictures:
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape != (*pictures[0].shape[:2], 3):
            raise DataError(f"validation {what}: {picture.dtype} {picture.shape}, expected uint8 (S, S, 3) of one size")
    return torch.from_numpy(np.stack(pictures)) if len(pictures) else torch.empty((0, 1, 1, 3), dtype=torch.uint8)


def _in_range(pictures: Tensor) -> Tensor:
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
