"""What the published programs call the terms and outputs of a training step, in terms of ours (trainer/step.py)."""

import re
from collections.abc import Callable, Mapping

from livetoon.errors import ModelError

PARTS = {None: slice(None), "base": slice(0, 1), "new": slice(1, None)}  # pictures of a term named ..._base, ..._new
SHORT = {"A": "photo", "B": "cartoon", "G": "global", "L": "local"}
FIELDS = {"logit": "logit", "cam_logit": "cam", "cls": "groups", "group_logit": "groups"}
TERMS = (  # published name, ours ({0}, {1}: the letters found), whether the weights are in it
    ("D_ad_loss_([GL])([AB])", "D/{1}/{0}/adversarial", False),
    ("D_ad_cam_loss_([GL])([AB])", "D/{1}/{0}/cam", False),
    ("D_(?:group|cls)_loss_([GL])([AB])", "D/{1}/{0}/group", False),
    ("D_loss_([AB])", "D/{0}/.*", True),
    ("Discriminator_loss", "D/.*", True),
    ("G_ad_loss_([GL])([AB])", "G/{1}/{0}/adversarial", False),
    ("G_ad_cam_loss_([GL])([AB])", "G/{1}/{0}/adversarial-cam", False),
    ("G_(?:group|cls)_loss_([GL])([AB])", "G/{1}/{0}/group", False),
    ("G_recon_loss_([AB])", "G/{0}/cycle", False),
    ("G_identity_loss_([AB])", "G/{0}/identity", False),
    ("G_id_loss_([AB])", "G/{0}/face_id", False),
    ("G_cam_loss_([AB])", "G/{0}/cam-.*", False),
    ("G_cam_loss", "G/.*/cam-.*", True),
    ("G_cls_loss", "G/.*/group", True),
    ("G_recon_lossKP", "keypoint", False),
    ("G_loss_(A)", "G/{0}/.*|keypoint", True),
    ("G_loss_(B)", "G/{0}/.*", True),
    ("Generator_loss|loss_G", "G/.*|keypoint", True),
    ("loss_D_A|loss_D2", "D/cartoon/.*", True),  # CycleGAN's D_A judges what G_A draws: cartoons
    ("loss_D_B|loss_D1", "D/photo/.*", True),
    ("loss_G_A", "G/cartoon/patch/adversarial", False),
    ("loss_G_B", "G/photo/patch/adversarial", False),
    ("loss_cycle_([AB])", "G/{0}/cycle", True),
    ("loss_idt_A", "G/cartoon/identity", True),
    ("loss_idt_B", "G/photo/identity", True),
    ("loss_GAN", "G/.*/adversarial", False),
    ("loss_cycle", "G/.*/cycle", True),
    ("loss_id", "G/.*/identity", True),
)
CALLS = {  # published drawing -> domain of its generator, number of the call within our step
    "fake_A2B": ("cartoon", 0), "fake_B2A2B": ("cartoon", 1), "fake_B2B": ("cartoon", 2),
    "fake_A2B2A": ("photo", 0), "fake_B2A": ("photo", 1), "fake_A2A": ("photo", 2),
    "fake_B": ("cartoon", 0), "rec_B": ("cartoon", 1), "idt_A": ("cartoon", 2),
    "rec_A": ("photo", 0), "fake_A": ("photo", 1), "idt_B": ("photo", 2),
    "fake_img_2": ("cartoon", 0), "rec_img_2": ("cartoon", 1), "id_img_2": ("cartoon", 2),
    "rec_img_1": ("photo", 0), "fake_img_1": ("photo", 1), "id_img_1": ("photo", 2),
}  # fmt: skip


def published_term(name: str, means: Mapping[str | None, Mapping[str, float]], weight: Callable[[str], float]) -> float:
    """The published loss term `name`; totals are weighed sums.

    means: for each of PARTS, our unweighted terms by name; weight: a term's weight in its loss. ModelError for a name
    that no program uses.
    """
    stem, part = re.fullmatch(r"(.+?)(?:_(base|new))?", name).groups()
    if stem == "loss_shared":
        return sum(published_term(each, means, weight) for each in ("Generator_loss_base", "G_cam_loss"))
    if stem == "loss_specific":
        return sum(published_term(each, means, weight) for each in ("Generator_loss_new", "G_cls_loss"))
    matches = ((re.fullmatch(pattern, stem), ours, weighed) for pattern, ours, weighed in TERMS)
    found, ours, weighed = next((match for match in matches if match[0]), (None, "", False))
    if found is None:
        raise ModelError(f"{name}: no loss term that is known")
    wanted = re.compile(ours.format(*(SHORT.get(letter, letter) for letter in found.groups())))
    names = [each for each in means[part] if wanted.fullmatch(each)]
    if part and weighed:  # the few-shot totals leave CAM and groups to others
        names = [each for each in names if each.rpartition("/")[2] not in ("cam-translate", "cam-keep", "group")]
    return sum(means[part][each] * (weight(each) if weighed else 1) for each in names)
