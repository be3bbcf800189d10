"""Public checkpoints in and out, and files of recorded numbers: whole ones, altered ones and broken ones."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from trainer import checkpoint, interop, public_files
from trainer.networks import build
from trainer.presets import ALL_TAKE, FEW_SHOT_OWN, NETWORKS, resolve
from trainer.public_keys import public_names, public_state

REFERENCE = Path(__file__).parents[2].parent / "shared" / "reference"
GENERATORS = {  # settings and side of a picture, none of them a reference file's
    "ugatit light": ("ugatit", {"width": 4, "blocks": 1}, 32),
    "ugatit full": ("ugatit", {"width": 4, "blocks": 3, "light": False}, 24),
    "keypoint": ("ugatit", {"width": 4, "blocks": 1, "keypoint_pads": True}, 26),
    "photo2cartoon light": ("photo2cartoon", {"width": 4}, 48),
    "photo2cartoon full": ("photo2cartoon", {"width": 4, "light": False}, 32),
    "cyclegan": ("cyclegan", {"width": 4, "blocks": 6}, 32),
    "ece285": ("cyclegan", {"width": 4, "blocks": 3, "variant": "ece285"}, 32),
}
JUDGES = {
    "plain": ("discriminator", {"layers": 5, "width": 4}, 32),
    "deep": ("discriminator", {"layers": 6, "width": 2}, 64),
    "linear head": ("discriminator", {"layers": 5, "width": 4, "head": "linear", "groups": 3}, 32),
    "convolution head": ("discriminator", {"layers": 5, "width": 4, "head": "convolution", "groups": 6}, 32),
    "patch": ("patchgan", {"width": 4}, 32),
    "ece285 patch": ("patchgan", {"width": 4, "variant": "ece285"}, 32),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny layers only wait for a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shaken(name, seed=0, **settings):
    """A network in which nothing that starts as a constant still is one."""
    torch.manual_seed(seed)
    network = build(name, **settings)
    for key, parameter in network.named_parameters():
        last = key.rpartition(".")[2]
        if last in ("rho", "w_gamma", "w_beta"):
            parameter.data.uniform_(0, 1)
        elif last in ("gamma", "beta"):
            parameter.data += torch.randn_like(parameter) * 0.2
    return network.eval()


def pictures(count, size):
    small = torch.randn(count, 3, 5, 5, generator=torch.Generator().manual_seed(size))
    return torch.tanh(torch.nn.functional.interpolate(small, size=(size, size), mode="bicubic"))


def drawn(network, place, x, group):
    drawing = network(x, group)
    named = {"image": drawing.image, "cam_logit": drawing.cam, "heatmap": drawing.heatmap}
    return {f"output/{place}{name}": value for name, value in named.items() if value is not None}


def judged(network, place, x):
    verdict = network(x)
    named = {"logit": verdict.logit, "cam_logit": verdict.cam, "heatmap": verdict.heatmap}
    named["group_logit" if network.settings.get("head") == "linear" else "cls_logit"] = verdict.groups
    return {f"output/{place}{name}": value for name, value in named.items() if value is not None}


def write(path, network, made, metadata=None):
    tensors = {f"weights/{key}": value.clone() for key, value in public_state(network).items()}
    save_file({key: value.detach().contiguous() for key, value in (tensors | made).items()}, path, metadata or {})
    return path


def generator_file(path, kind="ugatit light", seed=0):
    name, settings, size = GENERATORS[kind]
    network, x = shaken(name, seed, groups=["one"], size=size, **settings), pictures(2, size)
    with torch.no_grad():
        return write(path, network, {"input/image": x, **drawn(network, "", x, "one")})


def judge_file(path, kind):
    name, settings, size = JUDGES[kind]
    network, x = shaken(name, 1, **settings), pictures(3, size)
    state = public_state(network)
    weights = {f"weights/{key}": value.clone() for key, value in state.items()}
    with torch.no_grad():
        made = {"input/image": x, **judged(network, "", x)}
        if name == "discriminator":
            network.train()
            made |= judged(network, "train1/", x) | judged(network, "train2/", x)
            made |= {f"after/{key}": value for key, value in network.state_dict().items() if key[-9:] == ".weight_u"}
    return write(path, network, made | weights)


def check(capsys, *arguments):
    code = interop.main(["check", *map(str, arguments)])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def rewrite(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


# check


def reference_files():
    found = sorted(REFERENCE.glob("*.safetensors")) if REFERENCE.is_dir() else []
    # Replays of whole steps take a minute together: their own tests run the small ones.
    return [path for path in found if not path.name.startswith("losses_")]


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="no reference numbers beside the repository")
def test_every_file_of_recorded_outputs_agrees(capsys):
    code, said = check(capsys, *reference_files())
    assert code == 0, said


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="no reference numbers beside the repository")
def test_a_recorded_training_step_agrees(capsys):
    code, said = check(capsys, REFERENCE / "losses_ece285.safetensors")
    assert code == 0, said
    assert "grad/step1/G/G_12" in said


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="no reference numbers beside the repository")
@pytest.mark.parametrize("path", sorted((REFERENCE / "keys").glob("*.json")), ids=lambda path: path.stem)
def test_published_sizes_are_told_by_their_keys(path):
    listed = json.loads(path.read_text())
    shapes = {key: torch.Size(shape) for key, shape in listed["state_dict"].items()}
    if path.stem.startswith("mobilefacenet"):
        with torch.device("meta"):
            network = build("mobilefacenet")
        assert {key: value.shape for key, value in network.state_dict().items()} == shapes
        return
    name, settings = public_files.describe(shapes)
    with torch.device("meta"):
        network = build(name, **settings)
    names = public_names(network)
    ours = {names[key]: value.shape for key, value in network.state_dict().items()}
    assert ours == {key: shape for key, shape in shapes.items() if name != "cyclegan" or key in ours}
    assert sum(parameter.numel() for parameter in network.parameters()) == listed["parameters"]


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_of_any_size_agrees_with_itself(kind, tmp_path, capsys):
    code, said = check(capsys, generator_file(tmp_path / "a.safetensors", kind, seed=3))
    assert code == 0, said
    assert "output/image" in said


@pytest.mark.parametrize("kind", JUDGES)
def test_a_discriminator_of_any_size_agrees_with_itself(kind, tmp_path, capsys):
    code, said = check(capsys, judge_file(tmp_path / "a.safetensors", kind))
    assert code == 0, said
    assert "output/logit" in said


def few_shot(count=3, seed=2):
    groups = [f"g{index}" for index in range(count)]
    return shaken("photo2cartoon", seed, groups=groups, size=32, width=4, own=FEW_SHOT_OWN, heads=count)


def test_every_branch_and_the_joint_pass_are_compared(tmp_path, capsys):
    network, x = few_shot(), pictures(3, 32)
    made = {"input/image": x}
    with torch.no_grad():
        for index, group in enumerate(network.groups):
            made |= drawn(network, f"group{index}/", x[index : index + 1], group)
            made[f"output/photo0_as_group{index}/image"] = network(x[:1], group).image
        joint = network(x, network.groups)
        made["output/joint/cam_logit"] = joint.cam
        made |= {f"output/joint/group{index}/image": joint.image[index : index + 1] for index in range(3)}
    path = write(tmp_path / "a.safetensors", network, made)
    code, said = check(capsys, path)
    assert code == 0, said
    assert said.count(" ok\n") == len(made) - 1  # all but the input
    rewrite(path, lambda tensors: tensors["output/photo0_as_group2/image"].mul_(-1))
    code, said = check(capsys, path)
    assert code == 1
    assert [line.split()[0] for line in said.splitlines() if line.endswith("  FAIL")] == [
        "output/photo0_as_group2/image"
    ]


def test_half_precision_and_scaled_integers_are_read_exactly(tmp_path, capsys):
    network, scale = build("keypoints", size=46), 2.0**-10
    integers = torch.randint(-120, 120, network.fc1.weight.shape, generator=torch.Generator().manual_seed(0))
    network.fc1.weight.data = integers.float() * scale
    for parameter in network.parameters():
        parameter.data = parameter.data.half().float()
    x = pictures(2, 46)
    weights = {f"weights/{key}": value.half() for key, value in network.state_dict().items()}
    weights["weights/fc1.weight"] = integers.to(torch.int8)
    made = {"input/image": x, "output/keypoints": network(x).detach()}
    metadata = {"scale": json.dumps({"weights/fc1.weight": scale})}
    path = tmp_path / "a.safetensors"
    save_file(weights | made, path, metadata)
    assert check(capsys, path)[0] == 0
    save_file(weights | made, path)
    code, said = check(capsys, path)
    assert code == 1
    assert "weights/fc1.weight is int8, but the header gives no scale for it" in said


@pytest.mark.parametrize(
    ("key", "kind", "named"),
    [
        ("weights/UpBlock1_1.norm1.rho", "ugatit light", "output/image"),
        ("output/image", "ugatit light", "output/image"),
        ("output/heatmap", "photo2cartoon light", "output/heatmap"),
        ("weights/DecodeBlock4.norm2.w_gamma", "photo2cartoon light", "output/image"),
    ],
)
def test_one_altered_value_fails_and_is_named(key, kind, named, tmp_path, capsys):
    path = generator_file(tmp_path / "a.safetensors", kind)
    rewrite(path, lambda tensors: tensors[key].view(-1)[0].add_(0.5))
    code, said = check(capsys, path)
    assert code == 1
    assert any(line.split()[0] == named for line in said.splitlines() if line.endswith("  FAIL"))


@pytest.mark.parametrize("key", ["output/train2/logit", "after/model.4.weight_u"])
def test_training_calls_are_compared(key, tmp_path, capsys):
    path = judge_file(tmp_path / "a.safetensors", "plain")
    rewrite(path, lambda tensors: tensors[key].view(-1)[0].add_(1e-3))
    code, said = check(capsys, path)
    assert code == 1
    assert [line.split()[0] for line in said.splitlines() if line.endswith("  FAIL")] == [key]


def test_a_value_that_is_no_number_fails(tmp_path, capsys):
    path = generator_file(tmp_path / "a.safetensors")
    rewrite(path, lambda tensors: tensors["output/image"].view(-1)[7].fill_(float("nan")))
    code, said = check(capsys, path, "--json")
    row = next(row for row in json.loads(said)["rows"] if row["name"] == "output/image")
    assert (code, row["difference"], row["ok"]) == (1, None, False)


@pytest.mark.parametrize("key", ["input/mask", "output/depth", "output/group0/image", "after/u", "notes"])
def test_a_tensor_left_over_fails_and_is_named(key, tmp_path, capsys):
    path = generator_file(tmp_path / "a.safetensors")
    rewrite(path, lambda tensors: tensors.update({key: torch.zeros(1, 3, 32, 32)}))
    code, said = check(capsys, path)
    assert code == 1
    assert key in said


def test_files_are_told_apart_in_one_report(tmp_path, capsys):
    good = generator_file(tmp_path / "good.safetensors")
    bad = generator_file(tmp_path / "bad.safetensors", "cyclegan")
    rewrite(bad, lambda tensors: tensors["output/image"].neg_())
    code, said = check(capsys, bad, good, "--json")
    report = json.loads(said)
    assert code == 1
    assert {entry["file"]: entry["ok"] for entry in report["files"]} == {str(good): True, str(bad): False}
    assert {row["file"] for row in report["rows"]} == {str(good), str(bad)}


def no_output(tensors):
    for key in [key for key in tensors if key.startswith("output/")]:
        del tensors[key]


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda t: t.update({"weights/gamma.wait": t.pop("weights/gamma.weight")}), "keys do not fit ugatit"),
        (lambda t: t.pop("weights/beta.weight"), "beta.weight"),
        (lambda t: t.pop("weights/FC.0.weight"), "FC.0.weight"),
        (lambda t: t.update({"weights/beta.weight": torch.zeros(2, 2)}), "beta.weight is (2, 2), expected (16, 16)"),
        (lambda t: t.pop("input/image"), "input/image is missing"),
        (lambda t: t.update({"input/image": torch.zeros(2, 1, 32, 32)}), "expected (N, 3, S, S)"),
        (lambda t: t.update({"input/image": torch.zeros(2, 3, 3, 3)}), "not laid out as the network in it needs"),
        (lambda t: t.update({"output/image": torch.zeros(2, 3, 16, 16)}), "output/image is (2, 3, 16, 16), ours"),
        (no_output, "no output to compare"),
        (lambda t: [t.pop(key) for key in list(t) if key.startswith("weights/")], "not a file of recorded numbers"),
    ],
)
def test_what_does_not_fit_is_one_sentence(harm, sentence, tmp_path, capsys):
    path = generator_file(tmp_path / "a.safetensors")
    rewrite(path, harm)
    code, said = check(capsys, path)
    assert code == 1
    assert sentence in said
    assert len(said.splitlines()) == 2  # the file's name and the sentence


@pytest.mark.parametrize("content", [b"", b"no tensors", None])
def test_a_damaged_file_is_one_sentence(content, tmp_path, capsys):
    path = generator_file(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-5] if content is None else content)
    code, said = check(capsys, path)
    assert code == 1
    assert "not a safetensors file that can be read" in said


def test_wrong_use_is_told_before_anything_is_loaded(tmp_path, capsys):
    assert check(capsys, tmp_path / "none.safetensors") == (
        2,
        f"python -m trainer.interop: {tmp_path / 'none.safetensors'}: no such file\n",
    )
    assert check(capsys, generator_file(tmp_path / "a.safetensors"), "--threads", "0")[0] == 2


# convert


def family(generator, head="none"):
    """Six networks of the U-GAT-IT family as a public file holds them."""
    name, settings, _ = generator
    made = {key: shaken(name, seed, **settings) for seed, key in enumerate(("genA2B", "genB2A"))}
    for seed, key in enumerate(("disGA", "disGB", "disLA", "disLB"), start=7):
        layers = 7 if key[3] == "G" else 5
        made[key] = shaken("discriminator", seed, layers=layers, width=2, head=head, groups=3)
    return {key: public_state(network) for key, network in made.items()}


def flat(content):
    return {
        f"{name} {key}": value
        for name, tensors in content.items()
        for key, value in (tensors.items() if isinstance(tensors, dict) else [("", tensors)])
    }


def same(one, other):
    one, other = flat(one), flat(other)
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


def load(path):
    return torch.load(path, weights_only=True)


def convert(*arguments):
    return interop.main(["convert", *map(str, arguments)])


def one_group(kind):
    name, settings, size = GENERATORS[kind]
    return name, {"groups": ["one"], "size": size, **settings}, size


FAMILY = {
    "ugatit light": (one_group("ugatit light"), "none"),
    "ugatit full": (one_group("ugatit full"), "none"),
    "photo2cartoon light": (one_group("photo2cartoon light"), "none"),
    "photo2cartoon full": (one_group("photo2cartoon full"), "none"),
    "keypoint": (one_group("keypoint"), "none"),
    "face2webtoon": (one_group("ugatit light"), "linear"),
    "few-shot": (
        ("photo2cartoon", {"groups": ["a", "b", "c"], "width": 4, "own": FEW_SHOT_OWN, "heads": 3}, 32),
        "convolution",
    ),
}


@pytest.mark.parametrize(("kind", "zipped"), [*((kind, True) for kind in FAMILY), ("ugatit light", False)])
def test_the_family_comes_back_to_the_bit(kind, zipped, tmp_path, capsys):
    generator, head = FAMILY[kind]
    public, source, folder, back = family(generator, head), tmp_path / "a.pt", tmp_path / "ours", tmp_path / "b.pt"
    torch.save(public, source, _use_new_zipfile_serialization=zipped)
    names = ["--groups", "kids,men,old"] if kind == "few-shot" else []
    assert convert(source, folder, *names) == 0
    assert "genA2B" not in (said := capsys.readouterr().out) and "generator" in said
    places = {f"{place}_{depth}" for place in ("photo", "cartoon") for depth in ("global", "local")}
    assert {path.stem for path in folder.iterdir()} == places | {"generator", "ema", "back"}
    assert convert(folder, back) == 0
    assert same(public, load(back))
    opened = checkpoint.load_generator(folder)
    assert opened.groups == (("kids", "men", "old") if names else ("young-women",))
    assert same({"": public_state(opened)}, {"": public["genA2B"]})


def test_a_released_file_may_hold_one_generator(tmp_path):
    public = {"genA2B": family(*FAMILY["photo2cartoon light"])["genA2B"]}
    torch.save(public, tmp_path / "a.pt")
    assert convert(tmp_path / "a.pt", tmp_path / "ours", "--size", "64") == 0
    assert checkpoint.load_generator(tmp_path / "ours").settings["size"] == 64
    assert convert(tmp_path / "ours" / "generator.safetensors", tmp_path / "b.pt") == 0
    assert same(public, load(tmp_path / "b.pt"))


def test_cyclegan_keeps_one_file_for_each_network(tmp_path):
    nets = {f"G_{side}": shaken("cyclegan", i, groups=["a"], width=4, blocks=6) for i, side in enumerate("AB")}
    nets |= {f"D_{side}": shaken("patchgan", i, width=4) for i, side in enumerate("AB", start=5)}
    for name, network in nets.items():
        state = public_state(network)
        if name == "G_A":  # as older releases wrote it
            state |= {"model.2.running_mean": torch.zeros(4), "model.2.num_batches_tracked": torch.tensor(3)}
        torch.save(state, tmp_path / f"200_net_{name}.pth")
        assert convert(tmp_path / f"200_net_{name}.pth", tmp_path / "ours") == 0
    assert {path.stem for path in (tmp_path / "ours").iterdir()} == {
        "generator", "ema", "back", "photo_patch", "cartoon_patch"
    }  # fmt: skip
    judge = checkpoint.load_network(tmp_path / "ours" / "cartoon_patch.safetensors")
    assert same({"": public_state(judge)}, {"": public_state(nets["D_A"])})  # D_A judges what G_A draws: cartoons
    assert convert(tmp_path / "ours", tmp_path / "latest.pth") == 0
    for name, network in nets.items():
        assert same({"": load(tmp_path / f"latest_net_{name}.pth")}, {"": public_state(network)})


def test_ece285_comes_back_without_what_learned_it(tmp_path, capsys):
    nets = {
        f"G_{way}": shaken("cyclegan", i, groups=["a"], width=4, variant="ece285") for i, way in enumerate((12, 21))
    }
    nets |= {f"D_{side}": shaken("patchgan", side, width=4, variant="ece285") for side in (1, 2)}
    public = {f"{name}_state_dict": public_state(network) for name, network in nets.items()}
    besides = {"epoch": 90, "G_opt_state_dict": {"state": {}, "param_groups": [{"lr": 2e-4}]}, "loss_G": 1.5}
    torch.save(public | besides, tmp_path / "a.pt")
    assert convert(tmp_path / "a.pt", tmp_path / "ours") == 0
    assert "optimizer states are not carried over" in capsys.readouterr().out
    judge = checkpoint.load_network(tmp_path / "ours" / "cartoon_patch.safetensors")
    assert same({"": public_state(judge)}, {"": public["D_2_state_dict"]})
    assert convert(tmp_path / "ours", tmp_path / "b.pt") == 0
    assert same(public, load(tmp_path / "b.pt"))


@pytest.mark.parametrize(
    ("place", "name", "settings"),
    [
        ("keypoints", "keypoints", {"size": 46}),
        ("identity", "mobilefacenet", {"dimensions": 8, "width": 4, "blocks": (1, 1, 1), "size": 32}),
    ],
)
def test_a_network_alone_gives_one_file(place, name, settings, tmp_path):
    state = shaken(name, **settings).state_dict()
    torch.save(state, tmp_path / "a.pth")
    assert convert(tmp_path / "a.pth", tmp_path / "ours") == 0
    assert [path.name for path in (tmp_path / "ours").iterdir()] == [f"{place}.safetensors"]
    assert convert(tmp_path / "ours", tmp_path / "b.pth") == 0
    assert same({"": state}, {"": load(tmp_path / "b.pth")})


def test_of_a_run_the_averaged_weights_are_written(tmp_path):
    folder = tmp_path / "run" / "checkpoints" / "last"
    folder.mkdir(parents=True)
    _, settings, _ = one_group("ugatit light")
    now, average = (shaken("ugatit", seed, **settings) for seed in (1, 2))
    checkpoint.save_generator(folder / "generator.safetensors", now)
    checkpoint.save_generator(folder / "ema.safetensors", average)
    (folder / "state.json").write_text("{}")
    assert convert(tmp_path / "run", tmp_path / "a.pt") == 0
    assert same(load(tmp_path / "a.pt"), {"genA2B": public_state(average)})
    assert convert(tmp_path / "a.pt", folder) == 1  # a run saves there


def test_a_run_of_the_default_preset_draws_the_same_from_its_public_file(tmp_path):
    """Its CAM heads have one row for all groups, the few-shot release's a row for each."""
    preset, folder = resolve("fewshot", ["width=4"], groups="many,few,other"), tmp_path / "run" / "checkpoints" / "last"
    folder.mkdir(parents=True)
    made = {name: getattr(preset, name) for name in (*ALL_TAKE, *NETWORKS["photo2cartoon"])}
    before = shaken("photo2cartoon", **made)
    checkpoint.save_generator(folder / "generator.safetensors", before)
    (folder / "state.json").write_text("{}")
    assert convert(tmp_path / "run", tmp_path / "out.pt") == 0
    public = load(tmp_path / "out.pt")["genA2B"]
    assert public["gap_fc_new.weight"].shape == (3, 16) and public["gmp_fc_new.bias"].shape == (3,)
    assert not {"gap_fc.weight", "gmp_fc.bias"} & public.keys()
    assert convert(tmp_path / "out.pt", tmp_path / "back", "--groups", "many,few,other") == 0
    after, x = checkpoint.load_generator(tmp_path / "back").eval(), pictures(1, 32)
    with torch.no_grad():
        drawings = [before(x, group).image for group in preset.groups]
        assert all(map(torch.equal, drawings, (after(x, group).image for group in preset.groups)))
    assert not torch.equal(drawings[0], drawings[1])


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harmed",)


def another_width(public):
    public["genB2A"] = public_state(shaken("ugatit", groups=["one"], width=8, blocks=1, size=32))


def drop(public):
    del public["disLA"]["conv1x1.bias"]


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (lambda p: p.update(genA2B=Harmful()), "holds more than tensors; code in a file is never run"),
        (lambda p: p.update(step=100), "step is unknown"),
        (lambda p: p["genA2B"].update({"DownBlock.99.weight": torch.zeros(1)}), "DownBlock.99.weight"),
        (another_width, "generator has width 4, back 8"),
        (drop, "disLA: 1 keys are missing, conv1x1.bias"),
        (lambda p: p["disGA"].update(conv1x1="text"), "conv1x1 of disGA is no tensor"),
        (lambda p: p.update(genA2B=[torch.zeros(1)]), "genA2B holds no weights"),
        (lambda p: p["genB2A"].pop("FC.0.weight"), "FC.0.weight"),
        (lambda p: p.update(genA2B=p["disLA"], genB2A=p["disLB"]), "generator holds a discriminator network"),
    ],
)
def test_public_files_that_are_refused_in_one_sentence(harm, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    public = family(*FAMILY["ugatit light"])
    harm(public)
    torch.save(public, tmp_path / "a.pt")
    assert convert(tmp_path / "a.pt", tmp_path / "ours") == 1
    said = capsys.readouterr().err
    assert sentence in said and len(said.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]  # nothing written, nothing run


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_file_cut_short_is_one_sentence(zipped, kept, tmp_path, capsys):
    path = tmp_path / "a.pt"
    torch.save(family(*FAMILY["ugatit light"]), path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert convert(path, tmp_path / "ours") == 1
    said = "not a PyTorch checkpoint, or cut short or damaged"
    assert capsys.readouterr().err == f"python -m trainer.interop: {path}: {said}\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["none.pt", "ours"], "none.pt: no such file or folder"),
        (["a.pt", "ours", "--groups", "x,y"], "1 groups, but 2 names"),
        (["a.pt", "ours", "--groups", "x,x"], "expected different names"),
        (["a.pt", "ours", "--groups", "keys"], "'keys' cannot name a group"),
        (["a.pt", "ours", "--groups", "my.kids"], "'my.kids' cannot name a group (expected letters, digits, _ and -)"),
        (["a.pt", "ours", "--groups", "my kids"], "'my kids' cannot name a group (expected letters, digits, _ and -)"),
        (["a.pt", "ours", "--size", "0"], "--size 0: no network draws such a side; expected a multiple of 16"),
        (["a.pt", "ours", "--size", "37"], "--size 37: no network draws such a side; expected a multiple of 16"),
        (["a.pt", "ours", "--size", "38"], "--size 38: network ugatit draws no such side; expected a multiple of 4"),
        (["photo.pt", "ours", "--size", "40"], "--size 40: network photo2cartoon draws no such side; expected a multi"),
        (["key.pt", "ours", "--size", "64"], "--size 64: network ugatit draws no such side; expected 4k + 2"),
        (["notes.pt", "ours"], "notes.pt: not a PyTorch checkpoint at all; expected a file that torch.save wrote"),
        (["a.pt", "none/ours"], "none: no such folder"),
        (["a.pt", "b.safetensors"], "expected NAME.pt, NAME.pth or a folder"),
        (["empty", "b.pt"], "no checkpoint in it"),
        (["live.safetensors", "b.pt"], "livetoon's own"),
        (["branched.safetensors", "b.pt"], "no public format has branches of these parts (decode)"),
        (["judge.pth", "ours"], "its file's name must say of what"),
        (["a_net_D_A.pth", "ours", "--size", "64"], "--size: has no effect, a_net_D_A.pth holds no generator"),
        (["judges.pt", "ours", "--size", "64"], "--size: has no effect, judges.pt holds no generator; leave it out"),
        (["judges.pt", "ours", "--groups", "a"], "--groups: has no effect, judges.pt holds no generator"),
    ],
)
def test_wrong_use_of_convert(arguments, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"genA2B": public_state(shaken(*one_group("ugatit light")[:1], **one_group("ugatit light")[1]))}, "a.pt")
    for name in ("judge.pth", "a_net_D_A.pth"):
        torch.save(public_state(shaken("patchgan", width=4)), name)
    torch.save({"disLA": public_state(shaken("discriminator", layers=5, width=2))}, "judges.pt")
    photo = shaken("photo2cartoon", groups=["one"], width=4)
    torch.save({"genA2B": public_state(photo)}, "photo.pt")
    keypoint = shaken("ugatit", groups=["one"], width=4, blocks=1, keypoint_pads=True)
    torch.save({"genA2B": public_state(keypoint)}, "key.pt")
    Path("notes.pt").write_text("epoch 3, learning rate 0.1\n")
    Path("empty").mkdir()
    live = build("live", groups=["a"], widths=(4, 8, 8, 8), blocks=(0, 1, 0))
    checkpoint.save_generator(Path("live.safetensors"), live)
    branched = build("ugatit", groups=["a", "b"], width=4, blocks=1, own=["decode"])
    checkpoint.save_generator(Path("branched.safetensors"), branched)
    before = set(tmp_path.iterdir())
    assert convert(*arguments) in (1, 2)
    said = capsys.readouterr().err
    assert sentence in said and len(said.splitlines()) == 1
    assert set(tmp_path.iterdir()) == before
