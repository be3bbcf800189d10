"""The look term: what it says of faces, and that following its gradient changes for whom a drawing is taken."""

import numpy as np
import pytest
import torch

from faces.looks import Looker
from trainer.look_term import LookTerm, recoloured, view


@pytest.fixture(scope="module")
def term() -> LookTerm:
    return LookTerm()


@pytest.fixture(scope="module")
def astronaut(portrait_crop) -> torch.Tensor:
    return torch.from_numpy(portrait_crop.astype(np.float32).transpose(2, 0, 1)[None] / 127.5 - 1)


def shown(faces: torch.Tensor) -> np.ndarray:
    return ((faces.detach()[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()


def test_it_sees_what_live_video_sees(term, astronaut, portrait_crop):
    look = Looker()(portrait_crop)
    female, ages = term.seen(astronaut)
    assert female.sigmoid().item() == pytest.approx(look.female, abs=0.01)
    np.testing.assert_allclose(ages.softmax(dim=1)[0].numpy(), look.ages, atol=5e-3)


def test_it_counts_years_and_sex(term, astronaut, monkeypatch):
    """A drawing taken for a sure man of 60 against a photo of a sure woman of 30: 30 years, and all of the sex."""

    def seen(faces):
        ages = torch.full((1, 91), -30.0)
        ages[:, 60 if faces.mean() > 0 else 30] = 30.0
        return torch.tensor([[-5.0 if faces.mean() > 0 else 5.0]]), ages

    monkeypatch.setattr(term, "seen", seen)
    old_man, young_woman = torch.full((1, 3, 256, 256), 0.5), torch.full((1, 3, 256, 256), -0.5)
    assert term(young_woman, young_woman) == pytest.approx(0.04, abs=0.01)  # what is left of a sex that is nearly sure
    assert term(old_man, young_woman) == pytest.approx(5 + 1, abs=0.1)


def test_a_drawing_that_follows_it_is_taken_for_its_photo(term, astronaut):
    """Moved along its gradient, the astronaut looks to the network of live video more like whom the photo shows."""
    drawing, other = astronaut.clone().requires_grad_(True), astronaut.flip(2)  # upside down: of another age and sex
    before, aim = (Looker()(shown(each)) for each in (drawing, other))
    for _ in range(20):
        term(drawing, other).backward()
        with torch.no_grad():
            drawing -= 0.004 * drawing.grad.sign()
            drawing.clamp_(-1, 1)
        drawing.grad = None
    after = Looker()(shown(drawing))
    assert abs(aim.age - after.age) < 0.7 * abs(aim.age - before.age)
    assert abs(aim.female - after.female) < 0.7 * abs(aim.female - before.female)
    assert all(parameter.grad is None for parameter in term.parameters())


def test_it_stays_in_its_evaluating_state(term):
    assert not any(module.training for module in term.train().modules())


def test_every_view_is_another_one_of_the_same_person(term, astronaut):
    faces = astronaut.repeat(6, 1, 1, 1)
    views = view(faces, np.random.default_rng(3))
    assert views.shape == faces.shape and views.abs().max() <= 1
    for one in range(6):
        assert all((views[one] - views[other]).abs().mean() > 0.02 for other in range(one))
    female, ages = term.seen(views)
    own_female, own_ages = term.seen(astronaut)
    years = torch.arange(91.0)
    apart = (ages.softmax(1) @ years - own_ages.softmax(1) @ years).abs()
    assert apart.mean() < 8 and ((female > 0) == (own_female > 0)).float().mean() > 0.8
    assert torch.equal(views, view(faces, np.random.default_rng(3)))


def test_the_term_sees_views_where_there_is_chance_and_teaches_through_them(term, astronaut):
    drawing, other = astronaut.clone().requires_grad_(True), astronaut.flip(2)
    term(drawing, other, np.random.default_rng(0)).backward()
    assert drawing.grad.abs().sum() > 0
    once, again, elsewhere, still = (
        term(astronaut, other, random).item()
        for random in (np.random.default_rng(0), np.random.default_rng(0), np.random.default_rng(1), None)
    )
    assert once == again and len({once, elsewhere, still}) == 3


def test_without_its_colours_a_drawing_is_judged_by_light_and_shade(astronaut):
    """Redder paint of the same luma changes nothing, and no gradient leads to it."""
    term = LookTerm(coloured=False)
    red = torch.tensor([0.2, -0.2 * 0.299 / 0.587, 0.0])[:, None, None]
    drawing, photo = (astronaut * 0.7).requires_grad_(True), astronaut.flip(2)
    assert term(drawing, photo).item() == pytest.approx(term(drawing + red, photo).item(), abs=1e-4)
    assert LookTerm()(drawing, photo).item() != pytest.approx(LookTerm()(drawing + red, photo).item(), abs=1e-4)
    term(drawing, photo).backward()
    assert drawing.grad.abs().sum() > 0
    assert (drawing.grad * red).sum(dim=1).abs().max() < 1e-4 * drawing.grad.abs().max()
    assert torch.allclose(recoloured(drawing, photo).mean(dim=(2, 3)).diff(), photo.mean(dim=(2, 3)).diff(), atol=1e-5)
