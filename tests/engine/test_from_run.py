"""Training runs as models: trained for a few steps, opened through the runner's door, and beside torch."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engine import export, from_run, manifest
from engine.from_run import Form
from engine.proof import psnr_db
from engine.runner import open_runner
from livetoon.errors import ModelError, UsageError
from trainer import public_files, run
from trainer.checkpoint import latest, load_generator, save_generator
from trainer.networks import build

SIZE = 32
TINY = ["--groups", "many,few", "--set", f"size={SIZE}", "--set", "stage1_steps=2", "--log", "none"]
PRESETS = {
    "cyclegan": [
        *("--set", "blocks=1", "--set", "width=4", "--set", "judge_width=4", "--set", "own=stem,out"),
        *("--set", "stage1_sampling=each", "--set", "learning_rate=0.01", "--set", "validate_every=0"),
    ],
    "live": [
        *("--set", "stage2_steps=1", "--set", "feature=0", "--set", "batch=2"),
        *("--set", "ema=0", "--set", "stage2_learning_rate=1"),  # of a first step, a hundredth
    ],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """DATA/<group>/photo and cartoon: three pictures each."""
    root, random = tmp_path_factory.mktemp("data"), np.random.default_rng(1)
    for group in ("many", "few"):
        for side in ("photo", "cartoon"):
            (root / group / side).mkdir(parents=True)
            for index in range(3):
                coarse = random.integers(0, 256, (4, 4, 3), np.uint8)
                cv2.imwrite(str(root / group / side / f"{index}.png"), cv2.resize(coarse, (SIZE, SIZE)))
    return root


@pytest.fixture(scope="module", params=list(PRESETS))
def trained(request, data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / f"my {request.param}"
    arguments = ["--preset", request.param, "--data", str(data), "--out", str(out), *TINY, *PRESETS[request.param]]
    assert run.main(arguments) == 0
    return out


def random_file(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    groups = ["many", "few"]
    save_generator(path, build("cyclegan", groups=groups, size=SIZE, width=4, blocks=1, own=["stem"]))
    return path


def run_like(out: Path, seed: int) -> Path:
    """A folder as a run of a translation preset leaves it; only what is played."""
    random_file(out / "checkpoints" / "last" / "ema.safetensors", seed)
    (out / "checkpoints" / "last" / "state.json").write_text("{}")
    return out


@pytest.fixture(scope="module")
def traces(tmp_path_factory) -> Path:
    """A cache in which the network of `random_file` is traced already: seconds that each test would take again."""
    folder = tmp_path_factory.mktemp("traces")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVETOON_CACHE", str(folder))
        from_run.playable(random_file(folder / "first.safetensors", 9))
    return folder


@pytest.fixture(autouse=True)
def traced(own_cache, traces) -> None:
    for file in traces.glob("trace-*.cache"):
        shutil.copy(file, own_cache)


def worst_db(runner, generator) -> float:
    x = export.proof_crops(SIZE)[:2]
    expected = export.drawn(generator, torch.from_numpy(x), runner.spec.group).numpy()
    return min(psnr_db(got, true) for got, true in zip(runner.infer(x), expected, strict=True))


def test_a_run_plays_as_torch_draws_it_in_every_group_and_size(trained):
    generator = load_generator(trained)
    x = torch.from_numpy(export.proof_crops(SIZE)[:1])
    apart = export.drawn(generator, x, "many") - export.drawn(generator, x, "few")
    assert apart.abs().max() > 1e-3  # else a wrong group would not be seen
    for group in ("many", "few"):
        runner = open_runner(trained, group, precision="fp32", threads=1)
        assert (runner.spec.name, runner.spec.group, runner.spec.size) == (trained.name, group, SIZE)
        assert worst_db(runner, generator) > 60
    crops = np.full((2, SIZE, SIZE, 3), 90, np.uint8)
    described = manifest.read(from_run.playable(trained))
    assert described.groups == ("many", "few") and described.alpha == (generator.network_name == "live")
    assert described.alpha or (runner(crops)[..., 3] == 255).all()


def test_a_second_start_exports_nothing_and_needs_no_torch(tmp_path, own_cache):
    out = run_like(tmp_path / "mine", 0)
    folder = from_run.playable(out)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    code = "import sys\nfrom engine.from_run import playable\nprint(playable(sys.argv[1]), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{folder} False"
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_a_new_checkpoint_is_played_and_old_ones_go(tmp_path, own_cache):
    made = []
    for seed in range(3):
        out = run_like(tmp_path / "mine", seed)
        made.append(from_run.playable(out))
        open_runner(out, "few", precision="fp32", threads=1)
    assert len(set(made)) == 3
    assert {path for path in (own_cache / "runs").iterdir()} == set(made[1:])
    assert not list(own_cache.glob(f"*-{manifest.place_of(made[0])}*"))
    runner = open_runner(out, "few", precision="fp32", threads=1)
    assert worst_db(runner, load_generator(out)) > 60


def test_weights_that_a_save_replaces_are_exported_as_they_were_opened(tmp_path, monkeypatch):
    out = run_like(tmp_path / "mine", 0)
    generator = load_generator(out)
    make = from_run._make

    def make_after_a_save(*arguments):
        shutil.rmtree(out / "checkpoints" / "last")
        run_like(out, 1)
        make(*arguments)

    monkeypatch.setattr(from_run, "_make", make_after_a_save)
    folder = from_run.playable(out)
    assert worst_db(open_runner(folder, "few", precision="fp32", threads=1), generator) > 60


def test_a_start_between_the_two_renames_of_a_save_waits_or_takes_the_one_set_aside(tmp_path):
    checkpoints = run_like(tmp_path / "mine", 0) / "checkpoints"
    checkpoint = checkpoints / "last"
    for name in (".last.old", ".last.new"):
        checkpoint = checkpoint.rename(checkpoints / name)
        back = threading.Timer(0.3, lambda: (checkpoints / ".last.new").rename(checkpoints / "last"))
        if name == ".last.new":
            back.start()
        with from_run.copied(tmp_path / "mine") as weights:
            expected = ".last.old" if name == ".last.old" else "last"
            assert weights.source.parent.name == expected and weights.copy.stat().st_size > 0
    back.join()


def test_an_export_that_was_altered_is_made_anew(tmp_path):
    out = run_like(tmp_path / "mine", 0)
    folder = from_run.playable(out)
    (folder / manifest.WEIGHTS).write_bytes(b"cut")
    assert from_run.playable(out) == folder
    assert open_runner(folder).spec.group == "many"


def test_the_same_checkpoint_is_found_as_the_trainer_finds_it(tmp_path):
    out = run_like(tmp_path / "mine", 0)
    for name in ("last", ".last.old"):
        (out / "checkpoints" / "last").rename(out / "checkpoints" / name)
        with from_run.copied(out) as weights:
            assert weights.source.parent == latest(out)
        (out / "checkpoints" / name).rename(out / "checkpoints" / "last")


@pytest.mark.parametrize("place", ["checkpoints/best", "checkpoints/best/ema.safetensors", "other.safetensors"])
def test_checkpoints_and_files_have_names_and_the_size_of_their_run(tmp_path, place):
    out = tmp_path / "mine"
    file = out / place if place.endswith("safetensors") else out / place / "ema.safetensors"
    random_file(file, 0)
    (out / "config.json").write_text(json.dumps({"preset": {"size": 48}}))
    name = {"checkpoints/best": "mine-best", "other.safetensors": "other"}.get(place, "ema")
    assert from_run._name(out / place) == name
    with from_run.copied(out / place) as weights:
        assert weights.source == file and weights.size == (None if place == "other.safetensors" else 48)


@pytest.mark.parametrize("begun", ["config.json", "checkpoints"])
def test_a_run_without_a_checkpoint_is_told_so(tmp_path, monkeypatch, begun):
    monkeypatch.setattr(from_run, "RENAMED_WITHIN_S", 0.05)
    (tmp_path / begun).mkdir() if begun == "checkpoints" else (tmp_path / begun).write_text("{}")
    with pytest.raises(ModelError, match="the run has saved no checkpoint yet"):
        open_runner(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no tensors"])
def test_a_file_that_holds_no_weights_is_named(tmp_path, content):
    (tmp_path / "broken.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.safetensors: not a safetensors file") as caught:
        open_runner(tmp_path / "broken.safetensors")
    assert str(tmp_path / "broken.safetensors") in str(caught.value)


def pictures(folder: Path, count: int, seed: int = 0) -> Path:
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(seed)
    for index in range(count):
        coarse = random.integers(0, 256, (4, 4, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(coarse, (SIZE, SIZE)))
    return folder


def test_another_size_is_exported_once_and_found_again_without_torch(tmp_path, own_cache):
    out = run_like(tmp_path / "mine", 0)
    made = from_run.exported(out, Form(size=48))
    assert manifest.read(made.model).size == 48 and made.network.groups == ("many", "few")
    x = export.proof_crops(48)[:1]
    expected = export.drawn(load_generator(out), torch.from_numpy(x), "few").numpy()
    assert psnr_db(open_runner(made.model, "few", precision="fp32", threads=1).infer(x), expected) > 60
    code = (
        "import sys\nfrom engine.from_run import Form, exported\n"
        "print(exported(sys.argv[1], Form(size=48)), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{from_run.Exported(made.model)} False"
    assert from_run.playable(out) != made.model and Path(made.model).is_dir()


def test_a_run_of_a_preset_with_another_size_is_no_other_export(tmp_path):
    out = run_like(tmp_path / "mine", 0)
    (out / "config.json").write_text(json.dumps({"preset": {"size": SIZE}}))
    assert manifest.read(from_run.playable(out)).size == SIZE


def test_calibrated_anew_when_a_picture_changes_and_the_log_says_so(tmp_path, caplog):
    save_generator(
        tmp_path / "mine.safetensors", build("live", groups=["many"], widths=(8, 8, 8, 16), blocks=(0, 1, 0))
    )
    crops = pictures(tmp_path / "crops", 9)
    form = Form(size=SIZE, calibration=[crops])
    caplog.set_level("INFO")
    first = from_run.exported(tmp_path / "mine.safetensors", form)
    assert manifest.read(first.model).precisions == ("fp32", "int8")
    assert from_run.exported(tmp_path / "mine.safetensors", form) == from_run.Exported(first.model)
    assert "once for each checkpoint" in caplog.text and "calibrating on 6 crops" in caplog.text
    pictures(crops, 9, seed=1)
    second = from_run.exported(tmp_path / "mine.safetensors", form)
    assert second.model != first.model and "of another calibration than before" in caplog.text
    (second.model / manifest.WEIGHTS).write_bytes(b"cut")
    from_run.exported(tmp_path / "mine.safetensors", form)
    assert "what was there is not whole" in caplog.text


def test_too_few_crops_are_told_before_anything_is_exported(tmp_path, own_cache):
    out, crops = run_like(tmp_path / "mine", 0), pictures(tmp_path / "crops", 7)
    with pytest.raises(UsageError, match=r"--calibration: 7 pictures in .*crops are too few, expected 8 or more"):
        from_run.exported(out, Form(calibration=[crops]))
    with pytest.raises(UsageError, match="no pictures in it"):
        from_run.exported(out, Form(calibration=[tmp_path / "nowhere"]))
    assert not (own_cache / "runs").exists()


def test_a_group_that_the_network_does_not_have_is_told_before_the_export(tmp_path, own_cache):
    out = run_like(tmp_path / "mine", 0)
    with pytest.raises(UsageError, match=r"--groups kids: .* has many, few"):
        from_run.exported(out, Form(groups=["few", "kids"]))
    assert list((own_cache / "runs").iterdir()) == []


def test_a_model_folder_in_another_size_is_made_of_its_generator(tmp_path):
    folder = tmp_path / "style"
    generator = build("cyclegan", groups=["many", "few"], size=SIZE, width=4, blocks=1, own=["stem"])
    export.export(generator, folder, size=SIZE, licence="ask the painter", report=lambda line: None)
    assert from_run.exported(folder, Form(size=SIZE)).model == folder
    with pytest.raises(UsageError, match=r"--size 48: model style .* no generator\.safetensors lies beside"):
        from_run.exported(folder, Form(size=48))
    save_generator(folder / "generator.safetensors", generator)
    described = manifest.read(from_run.exported(folder, Form(size=48)).model)
    assert (described.name, described.size, described.licence) == ("style", 48, "ask the painter")


def test_exports_in_other_forms_do_not_push_each_other_out(tmp_path):
    out = run_like(tmp_path / "mine", 0)
    made = [from_run.exported(out, Form(size=size)).model for size in (None, 48, 64)]
    assert all(Path(each).is_dir() for each in made) and len(set(made)) == 3


def test_a_public_checkpoint_plays_as_torch_draws_it(tmp_path):
    torch.manual_seed(0)
    generator = build("cyclegan", groups=["young-women"], size=256, width=4, blocks=1, own=[])
    (file,) = public_files.write_public({"generator": generator}, tmp_path / "latest_net_G_A.pth")
    made = from_run.exported(file, Form(size=SIZE))
    assert (manifest.read(made.model).name, manifest.read(made.model).size) == ("latest_net_G_A", SIZE)
    runner = open_runner(made.model, precision="fp32", threads=1)
    assert worst_db(runner, generator.eval()) > 60


@pytest.mark.parametrize(
    ("name", "network", "said"),
    [
        ("latest_net_D_B.pth", "patchgan", "holds photo_patch, but no generator"),
        ("latest_net_D.pth", "patchgan", "a discriminator"),
        ("latest_net_G_B.pth", "cyclegan", "holds back, but no generator"),
    ],
)
def test_a_public_file_without_a_generator_of_cartoons(tmp_path, name, network, said):
    settings = (
        {"width": 4, "variant": "cyclegan"} if network == "patchgan" else {"width": 4, "blocks": 1, "groups": ["a"]}
    )
    torch.save(public_files._public("back", build(network, **settings)), tmp_path / name)
    with pytest.raises(ModelError, match=rf"{name}: .*{said}"):
        open_runner(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut", b"no file of torch"])
def test_a_broken_public_file_is_named(tmp_path, content):
    (tmp_path / "broken.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"broken\.pt: not a PyTorch checkpoint"):
        open_runner(tmp_path / "broken.pt")


def test_two_starts_at_once_export_once(tmp_path, caplog):
    out = run_like(tmp_path / "mine", 0)
    caplog.set_level("INFO")
    starts = [threading.Thread(target=from_run.playable, args=[out]) for _ in range(2)]
    for each in starts:
        each.start()
    for each in starts:
        each.join()
    assert sum("exporting" in line and "once" in line for line in caplog.messages) == 1


def test_a_network_that_draws_nothing_is_refused(tmp_path):
    save_generator(tmp_path / "judge.safetensors", build("patchgan", width=4))
    with pytest.raises(ModelError, match="judge: a network patchgan, which draws no pictures"):
        open_runner(tmp_path / "judge.safetensors")


def test_a_path_is_a_folder_also_where_the_zoo_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_like(Path("live"), 0)
    described = manifest.read(from_run.playable(Path("live")))
    assert (described.name, described.groups) == ("live", ("many", "few"))
    assert from_run.playable("live") == "live"


def test_what_is_no_run_is_told_so(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere\.safetensors: no checkpoint"):
        open_runner(tmp_path / "nowhere.safetensors")
    with pytest.raises(ModelError, match="neither a folder nor one of the models"):
        open_runner(str(tmp_path / "nowhere"))


def test_without_torch_one_sentence_says_what_to_install(tmp_path):
    out = run_like(tmp_path / "mine", 0)
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from streamer.__main__ import main\n"
        "sys.exit(main(['--port', '0', '--model', sys.argv[1]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(out)], capture_output=True, text=True, check=False)
    said = done.stderr.strip().splitlines()
    assert done.returncode == 1 and len(said) == 1
    assert "needs torch" in said[0] and '".[train]"' in said[0] and "engine.export" in said[0]
