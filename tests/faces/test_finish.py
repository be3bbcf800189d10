import cv2
import numpy as np
import pytest

from faces.align import align_matrix, crop, move
from faces.finish import Finish
from faces.landmarks import five
from faces.skin import _EYES


@pytest.fixture(scope="module")
def face(finders, portrait):
    """Crop, landmarks and matrix of the portrait."""
    mesh = finders.fit_detection(portrait, finders.wide(portrait)[0])
    matrix = align_matrix(five(mesh.points))
    return crop(portrait, matrix), mesh.points[:, :2], matrix


def drawing(hair=(96, 78, 70)) -> np.ndarray:
    """(256, 256, 4): near-white skin, dark hair above the brows and at both sides, one dark line across the cheeks."""
    cartoon = np.full((256, 256, 4), (250, 242, 238, 255), np.uint8)
    cartoon[:70, 50:210, :3] = hair
    cartoon[150:153, 90:170, :3] = 40
    return cartoon


def lab(colour) -> np.ndarray:
    return cv2.cvtColor(np.float32([[colour]]) / 255, cv2.COLOR_RGB2LAB)[0, 0]


def skin_of(cartoon) -> np.ndarray:
    return np.median(cartoon[160:172, 92:100, :3].reshape(-1, 3), axis=0)


def test_paint_moves_the_asked_share_towards_the_persons_skin(face):
    cheek = [lab(skin_of(Finish()(drawing(), *face, 0.0, tone))) for tone in (0, 0.5, 1)]
    columns = (*range(90, 105), *range(155, 165))
    person = np.median([lab(face[0][y, x]) for y in range(150, 170) for x in columns], axis=0)
    # Not all the way: the cartoon takes the skin in the light, this is the middle of light and shade.
    assert np.linalg.norm(cheek[2] - person) < 0.5 * np.linalg.norm(cheek[0] - person)
    assert np.linalg.norm(cheek[1] - (cheek[0] + cheek[2]) / 2) < 4


def test_a_shine_on_dark_skin_is_not_its_colour(face):
    """One cheek reflects a lamp: the paint becomes as dark as without it, but for what a brighter half may be."""
    _, landmarks, matrix = face
    plain = np.full((256, 256, 3), (104, 70, 52), np.uint8)
    shining = plain.copy()
    shining[:, 150:] = (205, 180, 170)
    dark, lit = (lab(skin_of(Finish()(drawing(), camera, landmarks, matrix, 0.0, 1.0))) for camera in (plain, shining))
    assert abs(lit[0] - dark[0]) < 8  # L; 32 by the brighter half alone


def test_whites_of_eyes_do_not_glow_in_a_dark_face(face):
    """They stay grey, and brighter than the skin around them."""
    _, landmarks, matrix = face
    paint = np.full((256, 256, 4), (250, 246, 242, 255), np.uint8)
    eye = move(matrix, landmarks[[33, 133]]).mean(axis=0).round().astype(int)
    white, cheek = [], []
    for skin in ((104, 70, 52), (235, 205, 190)):
        toned = Finish()(paint, np.full((256, 256, 3), skin, np.uint8), landmarks, matrix, 0.0, 1.0)
        white.append(toned[eye[1] - 1 : eye[1] + 2, eye[0] - 2 : eye[0] + 3, :3].reshape(-1, 3).mean(axis=0))
        cheek.append(skin_of(toned))
    assert white[0].mean() < 190 and white[1].mean() > 220
    for own, around in zip(white, cheek, strict=True):
        assert own.mean() > around.mean() + 8
        assert np.ptp(own) < 20


def test_a_narrow_eye_has_no_white_crescent_and_a_blink_does_not_flash(face):
    """The lids close step by step over an eye that is drawn white: it darkens little by little, down to the skin."""
    _, landmarks, matrix = face
    paint = np.full((256, 256, 4), (250, 246, 242, 255), np.uint8)
    skin = np.full((256, 256, 3), (104, 70, 52), np.uint8)
    middle = landmarks[_EYES[0]].mean(axis=0)
    eye = move(matrix, middle[None])[0].round().astype(int)
    brightness = []
    for share in np.linspace(1.4, 0.3, 23):
        lids = landmarks.copy()
        lids[_EYES[0], 1] = middle[1] + share * (landmarks[_EYES[0], 1] - middle[1])
        toned = Finish()(paint, skin, lids, matrix, 0.0, 1.0)
        brightness.append(toned[eye[1] - 1 : eye[1] + 2, eye[0] - 2 : eye[0] + 3, :3].mean())
    assert brightness[0] > brightness[-1] + 40
    assert abs(brightness[-1] - skin_of(toned).mean()) < 3
    assert np.abs(np.diff(brightness)).max() < 0.35 * (brightness[0] - brightness[-1])


def test_a_bald_head_and_a_hand_are_skin_and_a_white_shirt_is_none(face):
    picture, landmarks, matrix = face
    camera = picture.copy()
    camera[:] = np.median(picture[150:170, 90:105].reshape(-1, 3), axis=0)  # her cheek
    camera[:70] = camera[:70] * 0.85  # a head in the shade of its hat
    camera[225:] = (236, 238, 240)
    paint = np.full((256, 256, 4), (250, 242, 238, 255), np.uint8)
    toned = Finish()(paint, camera, landmarks, matrix, 0.0, 1.0)[..., :3].astype(int)
    cheek = np.median(toned[160:172, 92:100].reshape(-1, 3), axis=0)
    for skin in (toned[15:40, 100:156], toned[150:200, 5:25]):  # above and beside the face that the mesh found
        assert np.abs(np.median(skin.reshape(-1, 3), axis=0) - cheek).max() <= 6
    assert np.abs(toned[240:, 5:60] - (250, 242, 238)).max() <= 6


def test_lines_stay_dark_and_alpha_inside_the_head_stays(face):
    toned = Finish()(drawing(), *face, 0.0, 1.0)
    assert (toned[151, 95:165, :3] <= 40).all()
    assert (toned[90:200, 100:156, 3] == 255).all()


def test_hair_moves_towards_the_persons_hair(face):
    picture, landmarks, matrix = face
    black = picture.copy()
    black[:70, 40:220] = (20, 18, 22)
    blond = picture.copy()
    blond[:70, 40:220] = (190, 160, 110)
    for camera, brighter in ((black, False), (blond, True)):
        plain = Finish()(drawing(), camera, landmarks, matrix, 0.0, 0.0)[20:50, 100:150, :3].mean()
        own = Finish()(drawing(), camera, landmarks, matrix, 0.0, 1.0)[20:50, 100:150, :3].mean()
        assert (own > plain * 1.3) if brighter else (own < plain * 0.6)


def test_clothes_of_another_colour_than_the_hair_keep_theirs(face):
    picture, landmarks, matrix = face
    picture = picture.copy()
    picture[:70, 40:220] = (20, 18, 22)
    picture[225:] = (30, 60, 190)
    cartoon = drawing()
    cartoon[225:, :, :3] = (60, 70, 150)
    toned = Finish()(cartoon, picture, landmarks, matrix, 0.0, 1.0)
    assert np.abs(toned[235:, 100:150, :3].astype(int) - (60, 70, 150)).max() <= 3


def test_brows_and_eyes_are_no_hair(face):
    cartoon = drawing()
    cartoon[100:130, 80:180, :3] = 50
    picture, landmarks, matrix = face
    blond = picture.copy()
    blond[:70, 40:220] = (190, 160, 110)
    toned = Finish()(cartoon, blond, landmarks, matrix, 0.0, 1.0)
    assert (toned[105:125, 90:170, :3] <= 52).all()


def test_white_smoke_beside_the_head_is_let_go(face):
    picture, landmarks, matrix = face
    dark_room = picture.copy()
    dark_room[:, :30] = dark_room[:, 226:] = 60
    alpha = Finish()(drawing(), dark_room, landmarks, matrix, 0.0, 0.0)[..., 3]
    assert (alpha[60:200, :14] < 20).all() and (alpha[60:200, 242:] < 20).all()
    assert (alpha[90:200, 95:160] == 255).all()


def test_white_that_the_camera_sees_too_stays(face):
    picture, landmarks, matrix = face
    white_hair = picture.copy()
    white_hair[:, :40] = white_hair[:, 216:] = 235
    alpha = Finish()(drawing(), white_hair, landmarks, matrix, 0.0, 0.0)[..., 3]
    assert (alpha[60:200, :20] > 235).all()


def test_a_face_without_landmarks_gives_the_same_object(face):
    picture, _, matrix = face
    cartoon = drawing()
    assert Finish()(cartoon, picture, np.zeros((0, 2), np.float32), matrix, 0.0, 1.0) is cartoon


def test_a_flash_of_light_changes_the_skin_slowly(face):
    picture, landmarks, matrix = face
    finish = Finish()
    before = skin_of(finish(drawing(), *face, 0.0, 1.0))
    flash = np.clip(picture.astype(int) - 60, 0, 255).astype(np.uint8)
    soon = skin_of(finish(drawing(), flash, landmarks, matrix, 0.12, 1.0))
    for step in range(40):
        late = skin_of(finish(drawing(), flash, landmarks, matrix, 0.3 + 0.12 * step, 1.0))
    assert 0 < np.abs(soon - before).max() < 0.3 * np.abs(late - before).max()


def test_a_change_of_the_setting_is_seen_in_the_next_frame(face):
    finish = Finish()
    first = finish(drawing(), *face, 0.0, 0.0)
    assert not np.array_equal(finish(drawing(), *face, 0.01, 1.0), first)


def test_a_dark_drawing_is_not_changed_by_the_skin(face):
    dark = np.full((256, 256, 4), 60, np.uint8)
    dark[..., 3] = 255
    assert np.array_equal(Finish()(dark, *face, 0.0, 0.0), dark)


def test_faces_half_out_of_the_crop_break_nothing(face):
    picture, landmarks, matrix = face
    for shift in ((-300, 0), (300, 300), (0, -5000)):
        Finish()(drawing(), picture, landmarks + np.float32(shift), matrix, 0.0, 1.0)


def test_what_lies_outside_the_frame_is_nobodys_skin(face):
    """Half a face at the edge: its crop is white beyond, and must not whiten the rest."""
    picture, landmarks, matrix = face
    half = picture.copy()
    half[:, :118] = 255
    whole, cut = (Finish()(drawing(), each, landmarks, matrix, 0.0, 1.0)[158:172, 156:165] for each in (picture, half))
    assert np.abs(np.median(cut, axis=(0, 1)) - np.median(whole, axis=(0, 1))).max() < 25
