"""The collapse watch: silent on a healthy run, one piece of advice for each kind of collapse."""

import json

import numpy as np
import pytest

from trainer.watch import PAIRED, UNPAIRED, WITH_ADA, Watch

WELL = {"d_real_accuracy": 0.8, "d_fake_accuracy": 0.7, "output_variance": 0.3, "change": 0.15}


def fed(watch: Watch, steps: int, losses=None, **figures) -> list[str]:
    return [line for _ in range(steps) for line in watch.step(losses or {}, **{**WELL, **figures})]


@pytest.mark.parametrize(
    ("figures", "said", "tries"),
    [
        ({"d_real_accuracy": 0.99, "d_fake_accuracy": 0.995}, "the discriminators win", "--ada on"),
        ({"output_variance": 0.001}, "one even area", "--set learning_rate="),
        ({"change": 0.005}, "nearly unchanged", "--set identity="),
    ],
    ids=["discriminators", "flat", "unchanged"],
)
def test_a_collapse_is_told_once_with_what_to_try(figures, said, tries):
    watch = Watch(window=20)
    assert fed(watch, 19, **figures) == []
    told = fed(watch, 61, **figures)
    assert len(told) == 1 and said in told[0] and tries in told[0] and "\n" not in told[0]


def test_what_to_try_is_what_the_method_has():
    """Learning from pairs there is no cycle and no identity loss to turn down."""
    for figures, tries in (({"change": 0.0}, "cartoon/"), ({"output_variance": 0.0}, "--set learning_rate=")):
        told = fed(Watch(window=20, tries=PAIRED), 20, **{**figures, "d_real_accuracy": None})
        assert len(told) == 1 and tries in told[0] and "cycle" not in told[0] and "--set identity" not in told[0]


def test_ada_is_not_advised_where_it_is_on(tiny, learner):
    figures = {"d_real_accuracy": 0.99, "d_fake_accuracy": 0.995}
    told = fed(Watch(window=20, tries=WITH_ADA), 20, **figures)
    assert len(told) == 1 and "--ada on" not in told[0] and "--set ada_kimg=" in told[0]
    for name, tries in (("face2webtoon-ada", WITH_ADA), ("face2webtoon-group", UNPAIRED)):
        assert learner(tiny(name)).watch._tries is tries


def test_a_healthy_run_is_left_in_peace():
    watch, random = Watch(window=20), np.random.default_rng(0)
    for step in range(400):
        losses = {"cycle": 3 * 0.99**step * random.lognormal(0, 0.4), "adversarial": random.lognormal(0, 0.6)}
        figures = {name: value * random.uniform(0.8, 1.2) for name, value in WELL.items()}
        assert watch.step(losses, **figures) == []


def test_one_side_known_for_sure_is_no_victory():
    assert fed(Watch(window=20), 60, d_real_accuracy=1.0) == []


def test_single_odd_steps_say_nothing():
    watch = Watch(window=20)
    for _ in range(3):
        assert fed(watch, 18, {"cycle": 0.5}) == []
        assert fed(watch, 2, {"cycle": 500.0}, output_variance=0.0, change=0.0) == []


def test_a_loss_that_stays_far_above_its_level_has_exploded():
    watch = Watch(window=20)
    assert fed(watch, 40, {"cycle": 0.5, "cam": 1.0}) == []
    assert fed(watch, 20, {"cycle": 3.0, "cam": 1.0}) == []  # six times: bad, no explosion
    told = fed(watch, 40, {"cycle": 40.0, "cam": 1.0})
    assert len(told) == 1 and "a loss has exploded: cycle" in told[0] and "--set learning_rate=" in told[0]


def test_an_explosion_does_not_become_the_level():
    """Two windows of it would otherwise look like a run that has always been so."""
    watch = Watch(window=20)
    fed(watch, 20, {"cycle": 0.5})
    fed(watch, 20, {"cycle": 40.0})
    assert watch.state_dict()["levels"]["cycle"] == 0.5


def test_a_loss_that_is_no_number_counts_as_exploded():
    told = fed(Watch(window=20), 20, {"cycle": float("nan")})
    assert len(told) == 1 and "exploded" in told[0]


def test_tiny_losses_may_grow():
    watch = Watch(window=20)
    fed(watch, 20, {"identity": 1e-6})
    assert fed(watch, 40, {"identity": 1e-3}) == []


def test_what_a_preset_has_not_is_not_judged():
    watch = Watch(window=20)
    assert [line for _ in range(60) for line in watch.step({"pixel": 0.1})] == []


def test_a_watch_goes_on_from_its_state_as_if_it_had_not_stopped():
    random = np.random.default_rng(0)
    steps = [
        ({"cycle": float(random.lognormal()) * (1 if step < 60 else 1e4)}, {"change": float(random.uniform(0, 0.03))})
        for step in range(150)
    ]
    whole, before = Watch(window=20), Watch(window=20)
    expected = [whole.step(losses, **figures) for losses, figures in steps]
    assert sum(map(len, expected)) == 2
    told = [before.step(losses, **figures) for losses, figures in steps[:70]]
    after = Watch(window=20)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    told += [after.step(losses, **figures) for losses, figures in steps[70:]]
    assert told == expected
    assert after.state_dict() == whole.state_dict()
