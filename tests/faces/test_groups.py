import json

import cv2
import numpy as np
import pytest

from faces.align import align_matrix, crop
from faces.groups import RULES, STEADY_S, Router, Rule, group_of, read_rules, shares
from faces.landmarks import five
from faces.looks import AGES, Look, Looker, network_input
from livetoon.errors import UsageError

GROUPS = ("young-women", "young-men", "kids", "elderly")
FOUR = ("women-with-glasses", "women-without-glasses", "men-with-glasses", "men-without-glasses")


def look(age: float, female: float, glasses: float = 0.0) -> Look:
    return Look(female, (age == AGES).astype(np.float32), glasses)


@pytest.mark.parametrize(
    ("age", "female", "group"),
    [
        (5, 1, "kids"),
        (12, 0, "kids"),
        (14, 0, "kids"),
        (15, 1, "young-women"),
        (17, 0, "young-men"),
        (25, 1, "young-women"),
        (40, 0, "young-men"),
        (52, 1, "young-women"),
        (53, 0, "elderly"),
        (61, 1, "elderly"),
        (90, 0, "elderly"),
    ],
)
def test_the_rule_of_ages(age, female, group):
    assert GROUPS[int(shares(look(age, female), GROUPS).argmax())] == group


@pytest.mark.parametrize(
    ("female", "glasses", "group"),
    [(0.9, 0.8, 0), (0.9, 0.1, 1), (0.2, 0.9, 2), (0.2, 0.4, 3)],
)
def test_groups_may_be_told_apart_by_glasses(female, glasses, group):
    found = shares(look(30, female, glasses), FOUR)
    assert int(found.argmax()) == group
    assert found.sum() == pytest.approx(1)


def test_a_file_of_rules_adds_groups(tmp_path):
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"girls": {"sex": "F", "ages": [0, 14]}, "kids": {"sex": "M", "ages": [0, 14]}}))
    rules = read_rules(file)
    assert rules["girls"] == Rule("F", (0, 14)) and rules["elderly"] == RULES["elderly"]
    found = shares(look(7, 0.9), ("young-women", "girls", "kids"), rules)
    np.testing.assert_allclose(found, [0, 0.9, 0.1], atol=1e-6)


@pytest.mark.parametrize(
    "said",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"girls": []}',
        '{"girls": {"sex": "female"}}',
        '{"girls": {"ages": [9]}}',
        '{"girls": {"ages": [9, 3]}}',
        '{"girls": {"ages": ["0", "9"]}}',
        '{"girls": {"glasses": 1}}',
        '{"girls": {"hair": "long"}}',
    ],
)
def test_a_rule_that_is_none_says_what_is_expected(tmp_path, said):
    file = tmp_path / "rules.json"
    file.write_text(said)
    with pytest.raises(UsageError, match=r'rules.json.*expected \{"GROUP": \{"sex"'):
        read_rules(file)


def test_missing_rules_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"rules\.json: No such file"):
        read_rules(tmp_path / "rules.json")


def test_shares_sum_to_one_for_any_groups():
    for groups in (GROUPS, ("a",), ("a", "kids"), ("elderly", "b", "young-men")):
        assert shares(look(30, 0.3), groups).sum() == pytest.approx(1)


def test_a_group_the_model_lacks_is_drawn_as_the_basic_one():
    groups = ("young-women", "elderly")
    assert groups[int(shares(look(5, 0), groups).argmax())] == "young-women"
    assert groups[int(shares(look(70, 0), groups).argmax())] == "elderly"


def test_the_first_look_decides():
    router = Router(GROUPS)
    assert router.group == "young-women" and router.wants_look(0.0, 0, 0)
    router.add(look(70, 0), 0.0)
    assert router.group == "elderly"


def test_a_change_needs_a_second_of_steady_evidence():
    router = Router(GROUPS)
    router.add(look(30, 1), 0.0)
    changed = None
    for step in range(1, 60):
        t = step * 0.12
        router.add(look(30, 0), t)
        if router.group == "young-men" and changed is None:
            changed = t
    assert changed is not None and changed >= STEADY_S


def test_a_swapped_person_changes_the_group_within_two_seconds():
    """At 25 frames a second, looked at only when a look is due, whenever the swap falls between two looks."""
    for offset in range(12):
        router, changed = Router(GROUPS), None
        for frame in range(500):
            t, swapped = frame / 25, frame >= 300 + offset
            if router.wants_look(t, 0, 0):
                router.add(look(30, 0.1) if swapped else look(30, 0.9), t)
            if router.group == "young-men" and changed is None:
                changed = t - (300 + offset) / 25
        assert changed is not None and STEADY_S <= changed < 2


def test_a_face_between_two_groups_keeps_the_first():
    router = Router(GROUPS)
    random = np.random.default_rng(0)
    router.add(look(30, 0.55), 0.0)
    for step in range(1, 400):
        router.add(look(30, float(random.uniform(0.4, 0.6))), step * 0.12)
        assert router.group == "young-women"


def test_one_wrong_look_in_ten_changes_nothing():
    router = Router(GROUPS)
    for step in range(200):
        router.add(look(30, 1) if step % 10 else look(5, 0), step * 0.12)
        assert step == 0 or step < 15 or router.group == "young-women"


def test_looks_are_few_and_not_at_turned_or_smeared_faces():
    router = Router(GROUPS)
    looks = 0
    for frame in range(250):
        if router.wants_look(frame / 25, 0, 0):
            looks += 1
            router.add(look(30, 1), frame / 25)
    assert 8 <= looks <= 45
    assert not router.wants_look(100.0, 60, 0)
    assert not router.wants_look(100.0, 0, 0.95)
    assert router.wants_look(100.0, 0, 0)


def test_the_network_sees_a_grown_up_without_glasses_in_the_astronaut(finders, portrait):
    mesh = finders.fit_detection(portrait, finders.wide(portrait)[0])
    seen = Looker()(crop(portrait, align_matrix(five(mesh.points))))
    assert 20 < seen.age < 60
    assert seen.ages.sum() == pytest.approx(1, abs=1e-3)
    assert seen.glasses < 0.2
    kids, elderly = shares(seen, GROUPS)[2:]
    assert kids + elderly < 0.3


def test_painted_glasses_are_seen(finders, portrait):
    """Dark rims drawn around the eyes raise the probability of glasses."""
    mesh = finders.fit_detection(portrait, finders.wide(portrait)[0])
    bare = crop(portrait, align_matrix(five(mesh.points)))
    worn = bare.copy()
    for x in (99, 157):
        cv2.ellipse(worn, (x, 119), (24, 19), 0, 0, 360, (20, 18, 16), 4, cv2.LINE_AA)
    cv2.line(worn, (123, 115), (133, 115), (20, 18, 16), 4, cv2.LINE_AA)
    looker = Looker()
    assert looker(worn).glasses > 0.15 + looker(bare).glasses


def test_crops_of_any_size_give_the_same_input():
    ramp = np.repeat(np.linspace(0, 255, 256)[None], 256, axis=0)
    large = np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8)
    small = large.reshape(128, 2, 128, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    np.testing.assert_allclose(network_input(large), network_input(small), atol=0.05)


@pytest.mark.parametrize(
    ("age", "female", "group"),
    [(12, 1, "kids"), (13, 1, None), (18, 1, "young-women"), (40, 0, "young-men"), (41, 0, None), (61, 0, "elderly")],
)
def test_truth_is_counted_only_where_the_group_is_sure(age, female, group):
    assert group_of(age, bool(female)) == group
