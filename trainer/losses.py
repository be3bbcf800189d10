"""Loss terms: pure functions of tensors. Pictures are (N, 3, S, S) float32 RGB in [-1, 1], alphas (N, 1, S, S)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def on_white(picture: Tensor, alpha: Tensor) -> Tensor:
    """`picture` laid on white (+1) by `alpha` in [0, 1]."""
    return alpha * picture + (1 - alpha)


def masked_l1(picture: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference where `mask` in [0, 1] holds."""
    return ((picture - target).abs() * mask).sum() / (mask.sum() * picture.shape[1]).clamp(min=1)


def ssim(x: Tensor, y: Tensor, value_range: float = 2.0) -> Tensor:
    """Structural similarity, mean over pictures; 1 = equal.

    Wang et al. 2004 (equation 13): Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03.
    """
    channels = x.shape[1]
    position = torch.arange(11, dtype=x.dtype, device=x.device) - 5
    line = torch.exp(-(position**2) / (2 * 1.5**2))
    line = (line / line.sum()).repeat(channels, 1)

    def mean(z: Tensor) -> Tensor:
        z = F.conv2d(z, line[:, None, None, :], groups=channels)
        return F.conv2d(z, line[:, None, :, None], groups=channels)

    mu_x, mu_y = mean(x), mean(y)
    variance_x, variance_y = mean(x * x) - mu_x**2, mean(y * y) - mu_y**2
    covariance = mean(x * y) - mu_x * mu_y
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    top = (2 * mu_x * mu_y + c1) * (2 * covariance + c2)
    return (top / ((mu_x**2 + mu_y**2 + c1) * (variance_x + variance_y + c2))).mean()


def luminance(picture: Tensor) -> Tensor:
    """Rec. 601 luma: (N, 3, S, S) -> (N, 1, S, S), same range."""
    weights = picture.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (picture * weights).sum(1, keepdim=True)


def feature_distance(features: Callable[[Tensor], Sequence[Tensor]], picture: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of channel-normalized features, mean over layers (Zhang et al. 2018, equation 1,
    with L1 and without learned weights)."""
    with torch.no_grad():
        wanted = [F.normalize(layer, dim=1) for layer in features(target)]
    pairs = zip(features(picture), wanted, strict=True)
    return torch.stack([(F.normalize(f, dim=1) - w).abs().sum(1).mean() for f, w in pairs]).mean()


def live_terms(logits: Tensor, cartoon: Tensor, alpha: Tensor) -> dict[str, Tensor]:
    """The supervised terms of the live generator.

    logits: (N, 4, S, S) as the generator gives them before tanh and sigmoid; cartoon: on white; alpha in [0, 1].
    """
    picture = torch.tanh(logits[:, :3])
    laid = on_white(picture, torch.sigmoid(logits[:, 3:]))
    return {
        "pixel": masked_l1(picture, cartoon, alpha),
        "outside": masked_l1(picture, cartoon, 1 - alpha),
        "composed": (laid - cartoon).abs().mean(),
        "structure": 1 - ssim(luminance(laid), luminance(cartoon)),
        "alpha": F.binary_cross_entropy_with_logits(logits[:, 3:], alpha),
    }


# The terms of unpaired translation: one value for each picture, (N,), so that every group can be weighed by itself.


def per_picture(values: Tensor) -> Tensor:
    """Mean over everything but the batch: (N, ...) -> (N,) float32."""
    return values.float().flatten(1).mean(dim=1)


def distance(picture: Tensor, target: Tensor) -> Tensor:
    """L1 of each picture: the cycle and the identity term (CycleGAN, arXiv 1703.10593, equation 2 and section 5.2)."""
    return per_picture((picture.float() - target.float()).abs())


def least_squares(values: Tensor, target: float) -> Tensor:
    """LSGAN (arXiv 1611.04076, equation 9 with a = 0, b = c = 1), not halved: discriminator values against 1 or 0."""
    return per_picture((values.float() - target).square())


def attention(logits: Tensor, target: float) -> Tensor:
    """CAM term of a generator (U-GAT-IT, arXiv 1907.10830, equation 6): cross-entropy of its auxiliary classifier
    against 1 (a photo that is to be translated) or 0 (a picture of its own domain)."""
    logits = logits.float()
    return per_picture(F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target), reduction="none"))


def group_square(values: Tensor, rows: Tensor) -> Tensor:
    """Few-shot group term: squared distance of the class values (N, G) to the one-hot group, rows (N,)."""
    return per_picture((values.float() - F.one_hot(rows, values.shape[1]).float()).square())


def group_entropy(values: Tensor, rows: Tensor) -> Tensor:
    """Face2Webtoon's group term: cross-entropy of the class values (N, G) against the group, rows (N,)."""
    return F.cross_entropy(values.float(), rows, reduction="none")


def face_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """photo2cartoon's face-ID term: 1 - cosine of each pair of unit vectors (N, D), in [0, 2]."""
    return 1 - (found * wanted).sum(dim=1)


def keypoint_square(found: Tensor, points: Tensor) -> Tensor:
    """Mean squared distance of ten coordinates (N, 10), pixels squared."""
    return per_picture((found.float() - points.float()).square())
