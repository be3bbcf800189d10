"""The whole way of a frame with the real search, mesh and group network.

Most tests run a painter in the generator's place: it paints plain green, so that every pixel of skin that is still
seen can be counted.
"""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from skimage import data

from engine import manifest
from engine.runner import open_runner
from faces.background import rgb_of
from faces.groups import RULES, Rule
from faces.looks import Looker
from faces.matte import Matte
from faces.track import FADE_S, KEEP_S, Finders
from livetoon.errors import DataError, EngineError, UsageError
from streamer.opening import pipeline_of
from streamer.pipeline import STAGES, Pipeline, Settings
from streamer.styles import Styles

GROUPS = ("young-women", "young-men", "kids", "elderly")
COLOURS = {"young-women": (0, 255, 0), "young-men": (0, 0, 255), "kids": (255, 255, 0), "elderly": (255, 0, 255)}
EYES = np.array([(204.5, 102.5), (247.0, 105.0)])  # px of the astronaut, middle of each eye
FPS = 25
ONLY_CARTOON = Settings(group="young-women", tone=0.0, detail=0.0)


class Painter:
    """A runner that paints one colour; `alpha` as an unsure generator would give it."""

    def __init__(self, colour, alpha=255):
        self.colour, self.alpha, self.calls = colour, alpha, 0
        self.crop = None

    def __call__(self, crops):
        assert crops.shape[1:] == (256, 256, 3) and crops.dtype == np.uint8
        self.calls += 1
        self.crop = crops[0].copy()
        return np.full((len(crops), 256, 256, 4), (*self.colour, self.alpha), np.uint8)


@pytest.fixture(scope="module")
def networks():
    return {"finders": Finders(), "looker": Looker(), "matte": Matte()}


@pytest.fixture
def pipeline(networks):
    return Pipeline({group: Painter(COLOURS[group]) for group in GROUPS}, GROUPS, **networks)


def scene(*faces, width=640, height=480) -> np.ndarray:
    """The astronaut's head at each (x, y, scale) before a plain wall."""
    frame = np.full((height, width, 3), (96, 104, 112), np.uint8)
    head = cv2.ellipse(np.zeros((512, 512), np.uint8), (224, 118), (78, 116), 0, 0, 360, 255, -1)
    for x, y, scale in faces:
        matrix = np.hstack([np.eye(2) * scale, (np.array([x, y]) - EYES.mean(axis=0) * scale)[:, None]])
        warped = cv2.warpAffine(data.astronaut(), matrix, (width, height))
        frame[cv2.warpAffine(head, matrix, (width, height)) > 127] = 0
        frame += np.where((cv2.warpAffine(head, matrix, (width, height)) > 127)[..., None], warped, 0).astype(np.uint8)
    return frame


def face_region(x, y, scale, shape) -> np.ndarray:
    """(H, W) bool: from brow to chin of a face of `scene`."""
    mask = np.zeros(shape[:2], np.uint8)
    centre = round(x), round(y + 20 * scale)
    cv2.ellipse(mask, centre, (round(32 * scale), round(42 * scale)), 0, 0, 360, 1, -1)
    return mask.astype(bool)


def raw_share(frame, shown, place) -> float:
    """Share of a face's pixels that are shown as the camera saw them."""
    region = face_region(*place, frame.shape)
    return float((np.abs(frame[region].astype(int) - shown[region]).max(axis=1) < 12).mean())


def test_the_face_is_painted_and_the_rest_is_not(pipeline):
    place = (320, 200, 1.5)
    frame = scene(place)
    result = pipeline.process(frame, 0.0, ONLY_CARTOON)
    region = face_region(*place, frame.shape)
    assert result.frame.shape == frame.shape and result.frame.dtype == np.uint8
    assert (result.frame[region] == COLOURS["young-women"]).all(axis=1).mean() > 0.999
    assert np.array_equal(result.frame[:, :100], frame[:, :100])
    assert len(result.faces) == 1 and result.groups == {result.faces[0].track: "young-women"}
    assert tuple(result.stages_ms) == STAGES
    assert all(milliseconds > 0 for milliseconds in result.stages_ms.values())


def test_the_input_stays_as_it_was_and_may_be_read_only(pipeline):
    frame = scene((320, 200, 1.5))
    copy = frame.copy()
    frame.flags.writeable = False
    pipeline.process(frame, 0.0)
    assert np.array_equal(frame, copy)


def test_no_face_gives_the_frame_back(pipeline):
    frame = scene()
    result = pipeline.process(frame, 0.0)
    assert np.array_equal(result.frame, frame)
    assert result.faces == () and result.groups == {}


def test_no_raw_face_in_any_frame_of_a_walk(pipeline):
    places = [(120 + 9 * i, 200 + 30 * np.sin(i / 5), 1.2 + 0.4 * np.sin(i / 9)) for i in range(45)]
    for index, place in enumerate(places):
        frame = scene(place)
        shown = pipeline.process(frame, index / FPS, ONLY_CARTOON).frame
        assert raw_share(frame, shown, place) < 0.01, index


def test_no_raw_face_while_it_leaves_and_comes_back(pipeline):
    x = [*range(320, 640, 10), *range(640, 320, -10)]
    for index, column in enumerate(x):
        place = (column, 200, 1.5)
        frame = scene(place)
        shown = pipeline.process(frame, index / FPS, ONLY_CARTOON).frame
        assert raw_share(frame, shown, place) < 0.02, column


def test_a_generator_that_draws_nothing_leaves_no_hole(networks):
    pipeline = Pipeline(lambda group: Painter(COLOURS[group], alpha=0), GROUPS, **networks)
    frame = scene((320, 200, 1.5))
    assert raw_share(frame, pipeline.process(frame, 0.0, ONLY_CARTOON).frame, (320, 200, 1.5)) < 0.01


def test_a_lost_face_stays_covered_and_then_fades(pipeline):
    place = (320, 200, 1.5)
    for index in range(5):
        pipeline.process(scene(place), index / FPS, ONLY_CARTOON)
    empty, last = scene(), 4 / FPS
    region = face_region(*place, empty.shape)

    def change(unseen):
        shown = pipeline.process(empty, last + unseen, ONLY_CARTOON).frame
        return np.abs(shown[region].astype(int) - empty[region]).mean()

    covered = change(0.1)
    assert covered > 50
    assert change(KEEP_S - 0.01) == pytest.approx(covered, rel=0.05)
    assert 0.2 * covered < change(KEEP_S + FADE_S / 2) < 0.8 * covered
    assert change(KEEP_S + FADE_S + 0.01) == 0


def test_faces_beyond_the_limit_are_hidden_not_shown(networks):
    places = [(120, 130, 1.2), (330, 120, 1.4), (540, 130, 1.2), (200, 350, 1.2), (460, 360, 1.2)]
    pipeline = Pipeline({group: Painter(COLOURS[group]) for group in GROUPS}, GROUPS, max_faces=2, **networks)
    for index in range(8):
        frame = scene(*places)
        result = pipeline.process(frame, index / FPS, ONLY_CARTOON)
        assert len(result.faces) == 5 and len(result.groups) == 2
        for place in places:
            assert raw_share(frame, result.frame, place) < 0.25, (index, place)
        assert not networks["finders"].wide(result.frame), index


def test_the_group_can_be_pinned(pipeline):
    place = (320, 200, 1.5)
    region = face_region(*place, (480, 640))
    for index, group in enumerate(GROUPS):
        result = pipeline.process(scene(place), index / FPS, Settings(group=group, tone=0.0, detail=0.0))
        assert (result.frame[region] == COLOURS[group]).all(axis=1).mean() > 0.999


def test_one_face_can_have_a_group_of_its_own(pipeline):
    left, right = (180, 200, 1.3), (460, 210, 1.3)
    regions = [face_region(*place, (480, 640)) for place in (left, right)]

    def drawn(t, **choices):
        """Colours in the middle of the two faces, and what is told of them, from left to right."""
        result = pipeline.process(scene(left, right), t, Settings(tone=0.0, detail=0.0, **choices))
        told = sorted(result.tracks, key=lambda face: face["box"][0])
        return [tuple(np.median(result.frame[region], axis=0).astype(int)) for region in regions], told

    _, told = drawn(0.0, group="young-men")
    one, other = (face["track"] for face in told)
    assert [face["group"] for face in told] == ["young-men"] * 2
    colours, told = drawn(0.04, group="young-men", faces={str(one): "kids", "99": "elderly"})
    assert colours == [COLOURS["kids"], COLOURS["young-men"]]
    assert [(face["group"], face["by_hand"]) for face in told] == [("kids", True), ("young-men", False)]
    for place, face in zip((left, right), told, strict=True):
        x, y = place[0] / 640, (place[1] + 20 * place[2]) / 480
        assert face["box"][0] < x < face["box"][2] and face["box"][1] < y < face["box"][3]
    # One face may be left to the evidence while all others are pinned.
    colours, told = drawn(0.08, group="kids", faces={other: "auto"})
    assert colours[0] == COLOURS["kids"] and told[1]["group"] not in ("kids", None)
    assert [face["by_hand"] for face in drawn(0.12)[1]] == [False, False]


def test_a_group_by_hand_ends_with_the_track(pipeline):
    settings = Settings(group="young-men", faces={0: "kids"})
    assert pipeline.process(scene((320, 200, 1.5)), 0.0, settings).groups == {0: "kids"}
    for second in (1.0, 30.0, 60.0, 90.0):
        pipeline.process(scene(), second, settings)
    for index in range(3):
        result = pipeline.process(scene((320, 200, 1.5)), 91.0 + index / FPS, settings)
    assert list(result.groups.values()) == ["young-men"] and not result.by_hand


def test_hidden_faces_are_told_without_a_group(networks):
    pipeline = Pipeline({group: Painter(COLOURS[group]) for group in GROUPS}, GROUPS, max_faces=1, **networks)
    for index in range(2):
        told = pipeline.process(scene((180, 200, 1.5), (460, 210, 1.2)), index / FPS, ONLY_CARTOON).tracks
    assert sorted(face["group"] or "" for face in told) == ["", "young-women"]


def test_rules_say_who_belongs_to_a_group(networks):
    """The astronaut is no child: of two groups of other names she goes where the rules send her."""
    groups, grown = ("crew", "visitors"), {"visitors": Rule(ages=(15, 99))}
    for rules, expected in ((RULES, "crew"), (grown, "visitors")):
        pipeline = Pipeline(lambda group: Painter((0, 255, 0)), groups, rules=rules, **networks)
        assert pipeline.process(scene((320, 200, 1.5)), 0.0).groups == {0: expected}


def test_the_group_is_chosen_once_and_kept(pipeline):
    chosen = [pipeline.process(scene((320, 200, 1.5)), index / FPS).groups for index in range(12)]
    assert chosen[0][0] in GROUPS
    assert all(groups == chosen[0] for groups in chosen)


def test_strength_is_the_way_from_camera_to_cartoon(pipeline):
    frame = scene((320, 200, 1.5))
    assert np.array_equal(pipeline.process(frame, 0.0, Settings(group="young-women", strength=0)).frame, frame)
    half = pipeline.process(frame, 0.04, Settings(group="young-women", strength=0.5, tone=0, detail=0)).frame
    region = face_region(320, 200, 1.5, frame.shape)
    assert np.abs(half[region].astype(int) - (frame[region] / 2 + np.array(COLOURS["young-women"]) / 2)).max() <= 3


@pytest.mark.parametrize(("width", "height", "scale"), [(160, 120, 0.6), (1920, 1080, 4.0), (720, 1280, 2.5)])
def test_cameras_of_other_sizes(pipeline, width, height, scale):
    place = (width / 2, height * 0.4, scale)
    frame = scene(place, width=width, height=height)
    assert raw_share(frame, pipeline.process(frame, 0.0, ONLY_CARTOON).frame, place) < 0.01


def test_the_camera_changes_size_in_the_middle(pipeline):
    sizes = [(640, 480, 1.5), (480, 360, 1.125), (320, 240, 0.75), (1280, 960, 3.0)]
    for index in range(24):
        width, height, scale = sizes[index // 6]
        place = (width / 2, height * 0.4, scale)
        frame = scene(place, width=width, height=height)
        result = pipeline.process(frame, index / FPS, ONLY_CARTOON)
        assert raw_share(frame, result.frame, place) < 0.01
        assert [face.track for face in result.faces] == [0]


def test_the_smallest_and_odd_frames(pipeline):
    for height, width in ((16, 16), (17, 1001), (999, 33)):
        assert pipeline.process(np.zeros((height, width, 3), np.uint8), 0.0).frame.shape == (height, width, 3)


def test_the_same_frames_at_the_same_times_give_the_same_pictures(networks):
    frames = [scene((150 + 8 * i, 200, 1.4), (480, 320, 0.9)) for i in range(12)]
    shown = []
    for _ in range(2):
        pipeline = Pipeline({group: Painter(COLOURS[group], 200) for group in GROUPS}, GROUPS, **networks)
        shown.append([pipeline.process(frame, index / FPS).frame for index, frame in enumerate(frames)])
    assert all(np.array_equal(one, other) for one, other in zip(*shown, strict=True))


def test_reset_is_a_new_pipeline(pipeline):
    frames = [scene((150 + 8 * i, 200, 1.4)) for i in range(6)]
    shown = []
    for _ in range(2):
        shown.append([pipeline.process(frame, index / FPS).frame for index, frame in enumerate(frames)])
        pipeline.reset()
    assert all(np.array_equal(one, other) for one, other in zip(*shown, strict=True))


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((480, 640), np.uint8),
        np.zeros((480, 640, 4), np.uint8),
        np.zeros((480, 640, 3), np.float32),
        np.zeros((480, 640, 1), np.uint8),
        [[0]],
        None,
    ],
    ids=["grey", "rgba", "float", "one channel", "list", "none"],
)
def test_a_frame_that_is_no_rgb_picture_is_refused_in_one_sentence(pipeline, frame):
    with pytest.raises(DataError, match=r"expected a frame \(H, W, 3\) uint8 RGB, got"):
        pipeline.process(frame, 0.0)


@pytest.mark.parametrize("shape", [(0, 640, 3), (8, 8, 3), (15, 640, 3), (16, 9000, 3)])
def test_a_frame_of_an_impossible_size_is_refused(pipeline, shape):
    with pytest.raises(DataError, match="16 to 8192 px"):
        pipeline.process(np.zeros(shape, np.uint8), 0.0)


@pytest.mark.parametrize(
    "values",
    [
        {"strength": 1.5},
        {"strength": -0.1},
        {"tone": "red"},
        {"tone": float("nan")},
        {"strength": True},
        {"group": ""},
        {"group": 3},
        {"faces": {"3": ""}},
        {"faces": {"3": 4}},
        {"faces": {"left": "kids"}},
        {"faces": {"-1": "kids"}},
        {"faces": {True: "kids"}},
        {"faces": ["kids"]},
        {"faces": "kids"},
        {"faces": None},
        {"faces": {str(track): "kids" for track in range(1000)}},
        {"background": "beach"},
        {"background": None},
        {"background_colour": "red"},
    ],
    ids=lambda values: str(values)[:40],
)
def test_settings_that_cannot_be_are_refused(values):
    with pytest.raises(UsageError, match=next(iter(values)).removeprefix("background_")):
        Settings(**values)


def test_a_group_the_model_lacks_is_refused_with_those_it_has(pipeline):
    with pytest.raises(UsageError, match="young-women, young-men, kids, elderly"):
        pipeline.process(scene(), 0.0, Settings(group="robots"))
    with pytest.raises(UsageError, match="'robots' is not in this model; it has young-women"):
        pipeline.process(scene(), 0.0, Settings(faces={"3": "robots"}))


def test_a_face_is_framed_as_public_checkpoints_want_it(networks):
    place, seen = (320, 200, 1.5), {}
    frame = scene(place)
    for crop in ("livetoon", "photo2cartoon"):
        painter = Painter((0, 255, 0))
        pipeline = Pipeline(lambda group, painter=painter: painter, GROUPS, crop=crop, **networks)
        assert raw_share(frame, pipeline.process(frame, 0.0, ONLY_CARTOON).frame, place) < 0.01
        seen[crop] = painter.crop
        assert not pipeline.process(scene(), 9.0).faces and not pipeline._framings
    (dx, dy), _ = cv2.phaseCorrelate(*(picture[..., 1].astype(float) for picture in seen.values()))
    assert 0.3 < np.hypot(dx, dy) < 15  # near each other, and not the same
    with pytest.raises(UsageError, match="crop 'head': choose one of livetoon, photo2cartoon"):
        Pipeline(lambda group: painter, GROUPS, crop="head", **networks)


@pytest.fixture
def styles(networks):
    """Two styles that share their networks: one with all groups, one with one."""
    ink = Pipeline({group: Painter(COLOURS[group]) for group in GROUPS}, GROUPS, **networks)
    red = Pipeline({"everyone": Painter((255, 0, 0))}, ["everyone"], **networks)
    return Styles({"ink": ink, "red": red})


def test_a_style_draws_from_its_first_frame_on_and_back(styles):
    place = (320, 200, 1.5)
    frame = scene(place)
    region = face_region(*place, frame.shape)
    for index, (style, group, colour) in enumerate([
        ("", "kids", COLOURS["kids"]), ("ink", "kids", COLOURS["kids"]), ("red", "auto", (255, 0, 0)),
        ("red", "everyone", (255, 0, 0)), ("ink", "elderly", COLOURS["elderly"]),
    ]):  # fmt: skip
        result = styles(frame, index / FPS, Settings(style=style, group=group, tone=0.0, detail=0.0))
        assert (result.frame[region] == colour).all(axis=1).mean() > 0.999, (style, group)


def test_drawings_of_other_proportions_take_none_of_the_persons_lines(networks):
    place = (320, 200, 1.5)
    frame, region = scene(place), face_region(*place, (480, 640, 3))
    for own, share, flat in ((True, 0.0, True), (True, 0.7, False), (False, 0.7, True)):
        pipeline = Pipeline({"everyone": Painter((200, 180, 170))}, ["everyone"], own_lines=own, **networks)
        shown = pipeline.process(frame, 0.0, Settings(tone=0.0, detail=share)).frame[region]
        assert ((shown == (200, 180, 170)).all(axis=1).mean() > 0.999) == flat, (own, share)


def test_a_style_comes_back_without_whom_it_knew(styles):
    """Another person sits there when the style is chosen again: nothing of the first one is left over."""
    first, other = scene((320, 200, 1.5)), scene((160, 300, 1.2))
    styles(first, 0.0, Settings(style="ink"))
    styles(other, 0.04, Settings(style="red"))
    result = styles(other, 0.08, Settings(style="ink"))
    assert len(result.faces) == 1 and result.faces[0].box[0] < 200
    styles.reset()
    assert not styles(np.zeros_like(first), 0.12, Settings(style="red")).faces


def test_a_style_that_is_not_open_is_named(styles):
    with pytest.raises(UsageError, match="style 'oil' is not open; there are ink, red"):
        styles(scene(), 0.0, Settings(style="oil"))
    with pytest.raises(UsageError, match="style must be the name"):
        Settings(style=3)


@pytest.mark.parametrize(("groups", "max_faces"), [((), 4), (("a", "a"), 4), (("a",), 0)])
def test_a_pipeline_that_cannot_be_is_refused(networks, groups, max_faces):
    with pytest.raises(UsageError):
        Pipeline(lambda group: Painter((0, 0, 0)), groups, max_faces=max_faces, **networks)


def test_a_runner_that_fails_shows_nothing_and_the_next_frame_goes_on(networks):
    class Failing(Painter):
        def __call__(self, crops):
            if self.calls == 1:
                self.calls += 1
                raise EngineError("the device is gone")
            return super().__call__(crops)

    failing = Failing((0, 255, 0))
    pipeline = Pipeline({"young-women": failing}, ["young-women"], **networks)
    frame = scene((320, 200, 1.5))
    pipeline.process(frame, 0.0, ONLY_CARTOON)
    with pytest.raises(EngineError):
        pipeline.process(frame, 0.04, ONLY_CARTOON)
    assert raw_share(frame, pipeline.process(frame, 0.08, ONLY_CARTOON).frame, (320, 200, 1.5)) < 0.01


def test_time_that_stands_still_or_goes_back_breaks_nothing(pipeline):
    for t in (1.0, 1.0, 0.5, 2.0):
        frame = scene((320, 200, 1.5))
        assert raw_share(frame, pipeline.process(frame, t, ONLY_CARTOON).frame, (320, 200, 1.5)) < 0.01


def test_memories_of_faces_that_left_are_let_go(pipeline):
    for index in range(100):
        places = [(320, 200, 1.5)] if index % 30 < 5 and index < 40 else []
        pipeline.process(scene(*places), index / FPS)
    assert not pipeline._routers and not pipeline._finishes


def test_a_face_that_comes_back_within_a_second_is_drawn_as_before(networks):
    """Its number is known all the while, so its group is too: one look must not overrule all that was seen before."""
    sure, wrong = Looker(), []

    def looker(crop):
        look = sure(crop)
        return replace(look, female=1 - look.female) if wrong else look

    painters = {group: Painter(COLOURS[group]) for group in GROUPS}
    pipeline = Pipeline(painters, GROUPS, **networks | {"looker": looker})
    groups = []
    for index in range(65):
        wrong += [True] * (index == 62)
        there = not 40 <= index < 62
        groups.append(pipeline.process(scene(*[(320, 200, 1.5)] * there), index / FPS).groups)
    assert not groups[61] and groups[39] == groups[62] == groups[64]


def test_a_real_model_draws_the_face(networks, model):
    groups = manifest.read(manifest.find(model)).groups
    pipeline = Pipeline({group: open_runner(model, group) for group in groups}, groups, **networks)
    place = (320, 200, 1.5)
    frame = scene(place)
    result = pipeline.process(frame, 0.0)
    assert raw_share(frame, result.frame, place) < 0.3
    assert result.stages_ms["generator"] > 0


def test_a_still_face_in_a_noisy_camera_does_not_shimmer(networks, model):
    groups = manifest.read(manifest.find(model)).groups
    pipeline = Pipeline({group: open_runner(model, group) for group in groups}, groups, **networks)
    random, place, shown, came = np.random.default_rng(3), (320, 200, 1.5), [], []
    for index in range(16):
        noisy = (scene(place) + random.normal(0, 5, (480, 640, 3))).clip(0, 255).astype(np.uint8)
        came.append(cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], cv2.IMREAD_COLOR))
        shown.append(pipeline.process(came[-1], index / FPS, Settings(group=groups[0])).frame)
    region = face_region(*place, came[0].shape)
    out, camera = (
        np.mean([np.abs(one[region].astype(int) - other[region]).mean() for one, other in pairwise(frames[6:])])
        for frames in (shown, came)
    )
    assert out < 1.0 < camera


@pytest.mark.parametrize("background", ["plain", "blur"])
def test_no_raw_face_is_shown_before_another_background(pipeline, background):
    settings = Settings(group="young-women", tone=0.0, detail=0.0, background=background)
    for index in range(20):
        place = (120 + 20 * index, 200, 1.4)
        frame = scene(place)
        shown = pipeline.process(frame, index / FPS, settings).frame
        assert raw_share(frame, shown, place) < 0.01, index


def test_a_plain_background_replaces_the_room_and_keeps_the_drawing(pipeline):
    place = (320, 240, 1.6)
    frame = scene(place)
    settings = Settings(group="young-women", tone=0.0, detail=0.0, background="plain", background_colour="#102030")
    result = pipeline.process(frame, 0.0, settings)
    region = face_region(*place, frame.shape)
    assert (result.frame[region] == COLOURS["young-women"]).all(axis=1).mean() > 0.99
    assert (result.frame[:100, :150] == rgb_of("#102030")).all()
    assert result.stages_ms["background"] > pipeline.process(frame, 0.04, ONLY_CARTOON).stages_ms["background"]


def test_a_face_that_is_hidden_stays_hidden_before_a_plain_background(networks):
    places = [(160, 240, 1.5), (480, 240, 1.2)]
    pipeline = Pipeline({group: Painter(COLOURS[group]) for group in GROUPS}, GROUPS, max_faces=1, **networks)
    frame = scene(*places)
    shown = pipeline.process(frame, 0.0, Settings(group="young-women", tone=0.0, detail=0.0, background="plain")).frame
    for place in places:
        assert raw_share(frame, shown, place) < 0.25


@pytest.mark.parametrize("background", ["plain", "blur"])
def test_a_hidden_face_does_not_come_back_through_the_alpha(networks, background):
    """An unsure alpha follows the edges of the camera's picture; here it is that picture."""

    def unsure(picture, steady, t):
        return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)

    place = (460, 210, 1.2)
    frame = scene((180, 200, 1.5), place)
    region = face_region(*place, frame.shape)
    shown = []
    for behind in ("camera", background):
        pipeline = Pipeline(lambda group: Painter((0, 255, 0)), GROUPS, max_faces=1, **networks | {"matte": unsure})
        result = pipeline.process(frame, 0.0, Settings(group="kids", background=behind))
        assert [face.fitted for face in result.faces] == [True, False]
        shown.append(result.frame[region])
    assert np.array_equal(*shown)


def test_a_model_that_wants_white_gets_it_and_its_drawing_the_persons_alpha(networks):
    painter, place = Painter((0, 255, 0)), (320, 200, 1.5)
    frame = scene(place)
    shown = Pipeline(lambda group: painter, GROUPS, white=True, **networks).process(frame, 0.0, ONLY_CARTOON).frame
    assert (painter.crop[:40, :40] > 250).all(), "the wall beside the head"
    assert np.abs(painter.crop[110:180, 90:160].astype(int) - 255).mean() > 60, "the face"
    region = face_region(*place, frame.shape)
    assert (shown[region] == (0, 255, 0)).all(axis=1).mean() > 0.99
    plain = Pipeline(lambda group: Painter((0, 255, 0)), GROUPS, **networks).process(frame, 0.0, ONLY_CARTOON).frame
    beside = np.s_[60:100, 180:220]
    assert np.array_equal(shown[beside], frame[beside]) and not np.array_equal(plain[beside], frame[beside])


@pytest.mark.parametrize(("network", "alpha", "white"), [("photo2cartoon", False, True), ("ugatit", False, False)])
def test_only_models_that_learn_before_white_are_opened_so(network, alpha, white):
    painter = Painter((0, 255, 0))
    painter.spec = SimpleNamespace(network=network, alpha=alpha, size=256, own_lines=True)
    pipeline_of({"women": painter}, 4).process(scene((320, 200, 1.5)), 0.0)
    assert (painter.crop[:40, :40] > 250).all() == white
