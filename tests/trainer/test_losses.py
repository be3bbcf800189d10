"""Loss terms against what they are defined to be."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from trainer import losses


def pictures(seed: int, channels: int = 1) -> torch.Tensor:
    smooth = torch.rand(1, channels, 16, 16, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(smooth, size=64, mode="bicubic").clamp(0, 1) * 2 - 1


def test_ssim_is_that_of_scikit_image():
    x, y = pictures(1), 0.7 * pictures(1) + 0.3 * pictures(2)
    _, full = structural_similarity(
        x[0, 0].numpy(),
        y[0, 0].numpy(),
        data_range=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        win_size=11,
        full=True,
    )
    assert losses.ssim(x, y).item() == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-4)


def test_masked_l1_counts_the_mask_only():
    target = torch.zeros(1, 3, 4, 4)
    picture = torch.ones(1, 3, 4, 4)
    picture[..., 2:] = 9
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    assert losses.masked_l1(picture, target, mask).item() == pytest.approx(1)
    assert losses.masked_l1(picture, target, torch.zeros_like(mask)).item() == 0


def test_on_white():
    picture = -torch.ones(1, 3, 1, 2)
    alpha = torch.tensor([[[[1.0, 0.25]]]])
    assert np.allclose(losses.on_white(picture, alpha)[0, 0, 0], [-1, 0.5])


def test_live_terms_vanish_for_the_perfect_drawing():
    cartoon, alpha = pictures(3, 3) * 0.9, torch.ones(1, 1, 64, 64)
    logits = torch.cat([torch.atanh(cartoon), torch.full_like(alpha, 30.0)], dim=1)
    terms = losses.live_terms(logits, cartoon, alpha)
    assert all(term.item() < 1e-4 for term in terms.values()), terms


def test_the_face_distance_is_one_minus_the_cosine_of_each_pair():
    """The published one is such a vector, too: here every picture is weighed by itself."""
    a = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    b = torch.tensor([[1.0, 0.0], [0.6, -0.8], [-0.6, -0.8]])
    assert losses.face_distance(a, b).tolist() == pytest.approx([0, 1.8, 2])
