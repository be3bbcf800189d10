"""Loggers: what is written, what a resumed run cuts, what happens when one fails or is missing."""

import logging
import os
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from livetoon.errors import TrainingError, UsageError
from trainer import loggers
from trainer.loggers import open_loggers, read_csv

SHEET = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
CONFIG = {"preset": {"name": "fewshot", "cycle": 10.0}, "data": ["pairs"]}


def text(run) -> str:
    return (run / "log" / "train.csv").read_text()


def test_csv_is_always_written_long_with_six_decimals(tmp_path):
    with open_loggers([], tmp_path, CONFIG) as log:
        log.resume(1, 0)
        log.figures(1, 50, {"many/cycle": 1 / 3, "kid/few, of them/photo-cartoon": 2})
        log.figures(2, 50, {"many/cycle": float("nan")})
    assert text(tmp_path) == (
        '1,50,many/cycle,0.333333\n1,50,"kid/few, of them/photo-cartoon",2.000000\n2,50,many/cycle,nan\n'
    )
    assert read_csv(tmp_path / "log" / "train.csv")[1] == (1, 50, "kid/few, of them/photo-cartoon", 2.0)


@pytest.mark.parametrize(
    ("place", "kept"),
    [((1, 0), 0), ((1, 50), 1), ((1, 70), 1), ((1, 100), 2), ((2, 0), 2), ((2, 50), 3), ((2, 99), 3)],
)
def test_a_resumed_run_has_no_rows_behind_its_place(tmp_path, place, kept):
    rows = [(1, 50), (1, 100), (2, 50), (2, 100)]
    with open_loggers([], tmp_path, CONFIG) as log:
        for index, (stage, step) in enumerate(rows):
            log.figures(stage, step, {"cycle": index})
    with open_loggers([], tmp_path, CONFIG) as log:
        log.resume(*place)
        log.figures(3, 1, {"cycle": 9})
    expected = [(*row, "cycle", float(index)) for index, row in enumerate(rows[:kept])]
    assert read_csv(tmp_path / "log" / "train.csv") == [*expected, (3, 1, "cycle", 9.0)]


def test_rows_of_earlier_runs_are_read_and_a_torn_last_line_is_not(tmp_path):
    path = tmp_path / "log" / "train.csv"
    path.parent.mkdir()
    path.write_bytes(b"1,50,many/cycle,0.250000\r\nwhat is this\n1,50,x,\xff\n1,100,many/cycle,0.2")
    with open_loggers([], tmp_path, CONFIG) as log:
        log.resume(1, 100)
        log.figures(1, 150, {"many/cycle": 0.1})
    assert text(tmp_path) == "1,50,many/cycle,0.250000\n1,150,many/cycle,0.100000\n"


def test_a_killed_and_resumed_run_has_every_row_once(tmp_path):
    code = (
        "import sys, pathlib, itertools; from trainer.loggers import open_loggers\n"
        "log = open_loggers([], pathlib.Path(sys.argv[1]), {}); log.resume(1, 0)\n"
        "for step in itertools.count(1): log.figures(1, step, {'cycle': step, 'cam': step / 2})"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    path, limit = tmp_path / "log" / "train.csv", time.monotonic() + 60
    while not (path.exists() and path.stat().st_size > 2000):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with open_loggers([], tmp_path, {}) as log:
        log.resume(1, 30)
        for step in range(31, 61):
            log.figures(1, step, {"cycle": step, "cam": step / 2})
    assert read_csv(path) == [(1, s, n, v) for s in range(1, 61) for n, v in (("cycle", float(s)), ("cam", s / 2))]


def test_a_csv_that_cannot_be_written_is_one_sentence(tmp_path):
    log = open_loggers([], tmp_path, CONFIG)
    (tmp_path / "log" / "train.csv").mkdir()
    with pytest.raises(TrainingError, match=r"train\.csv: Is a directory; make room") as refused:
        log.figures(1, 1, {"cycle": 1})
    assert "\n" not in str(refused.value)
    with pytest.raises(TrainingError, match=r"train\.csv: Is a directory"):
        log.resume(1, 0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a full disk is simulated by Linux")
def test_a_full_disk_is_one_sentence(tmp_path):
    log = open_loggers([], tmp_path, CONFIG)
    (tmp_path / "log" / "train.csv").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match="No space left on device; make room"):
        log.figures(1, 1, {"cycle": 1})


def scalars(run, stage: int, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "log" / "tensorboard" / f"stage{stage}"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_holds_each_step_once_after_resuming(tmp_path):
    with open_loggers(["tensorboard"], tmp_path, CONFIG) as log:
        log.resume(1, 0)
        for stage, step in ((1, 1), (1, 2), (2, 1), (2, 2)):
            log.figures(stage, step, {"many/cycle": step * stage})
    with open_loggers(["tensorboard"], tmp_path, CONFIG) as log:
        log.resume(1, 1)
        log.figures(1, 2, {"many/cycle": 20})
        log.figures(2, 1, {"many/cycle": 30})
    assert scalars(tmp_path, 1, "many/cycle") == [(1, 1), (2, 20)]
    assert scalars(tmp_path, 2, "many/cycle") == [(1, 30)]


def test_tensorboard_shows_pictures_in_their_stage(tmp_path):
    import cv2
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with open_loggers(["tensorboard"], tmp_path, CONFIG) as log:
        log.pictures(2, 7, "samples", SHEET)
    events = EventAccumulator(str(tmp_path / "log" / "tensorboard" / "stage2"))
    events.Reload()
    (image,) = events.Images("samples")
    decoded = cv2.imdecode(np.frombuffer(image.encoded_image_string, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image.step == 7 and (decoded == SHEET).all()
    assert "config/text_summary" in events.Tags()["tensors"]


def test_pictures_of_another_kind_are_refused(tmp_path):
    with open_loggers([], tmp_path, CONFIG) as log, pytest.raises(TrainingError, match=r"expected uint8 \(H, W, 3\)"):
        log.pictures(1, 1, "samples", SHEET.astype(np.float32))


def test_a_logger_that_fails_is_told_once_and_left_out(tmp_path, caplog):
    """TensorBoard's folder is taken away under it: a disk that is gone."""
    caplog.set_level(logging.WARNING, "trainer")
    log = open_loggers(["tensorboard"], tmp_path, CONFIG)
    (tmp_path / "log" / "tensorboard").rmdir()
    (tmp_path / "log" / "tensorboard").write_text("a file")
    for step in (1, 2, 3):
        log.figures(1, step, {"cycle": step})
    log.close()
    assert len(caplog.records) == 1 and "logger tensorboard failed" in caplog.records[0].getMessage()
    assert len(read_csv(tmp_path / "log" / "train.csv")) == 3


def test_unknown_loggers_are_refused(tmp_path):
    with pytest.raises(UsageError, match="--log tensorbord: unknown, expected one of csv, tensorboard, mlflow"):
        open_loggers(["tensorbord"], tmp_path, CONFIG)


@pytest.mark.parametrize("name", ["mlflow", "wandb", "neptune"])
def test_a_missing_package_is_one_sentence_that_names_the_extra(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    monkeypatch.delenv("NEPTUNE_DATA_DIRECTORY", raising=False)
    with pytest.raises(UsageError, match=rf'logger {name} needs .* pip install "\.\[{name}\]"') as refused:
        open_loggers([name], tmp_path, CONFIG)
    assert "\n" not in str(refused.value)


class Recorder:
    """Lightning's logger interface, which its three loggers share; what it is told lies in `told`."""

    def __init__(self, told: list, **options):
        self.told, self.run_id, self.experiment = told, "run", self
        told.append(("open", options))

    def __getattr__(self, method):
        return lambda *arguments, **options: self.told.append((method, arguments, options))


@pytest.fixture
def lightning(monkeypatch):
    told: list = []
    module = types.ModuleType("pytorch_lightning.loggers")
    for name in ("MLFlowLogger", "WandbLogger", "NeptuneLogger"):
        setattr(module, name, lambda **options: Recorder(told, **options))
    monkeypatch.setitem(sys.modules, "pytorch_lightning", types.ModuleType("pytorch_lightning"))
    monkeypatch.setitem(sys.modules, "pytorch_lightning.loggers", module)
    for name in ("mlflow", "wandb", "neptune"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_PROJECT", "NEPTUNE_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NEPTUNE_DATA_DIRECTORY", "elsewhere")
    return told


@pytest.mark.parametrize(
    ("name", "offline"),
    [
        ("mlflow", lambda options, run: options["tracking_uri"] == (run / "log" / "mlflow").as_uri()),
        ("wandb", lambda options, run: options["offline"] and options["save_dir"] == str(run / "log" / "wandb")),
        ("neptune", lambda options, run: options["mode"] == "offline"),
    ],
)
def test_lightnings_loggers_stay_on_this_machine_and_are_told_everything(name, offline, lightning, tmp_path):
    with open_loggers([name], tmp_path, CONFIG) as log:
        log.resume(2, 10)
        log.figures(2, 11, {"cycle": 0.5})
    opened, *calls = lightning
    assert offline(opened[1], tmp_path) and (tmp_path / "log" / name).is_dir()
    assert calls[:3] == [
        ("log_hyperparams", (CONFIG,), {}),
        ("log_metrics", ({"stage2/cycle": 0.5},), {"step": 11}),
        ("finalize", ("success",), {}),
    ]
    assert [call[0] for call in calls[3:]] == {"mlflow": [], "wandb": ["finish"], "neptune": ["stop"]}[name]


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_lightnings_loggers_get_pictures(name, lightning, tmp_path):
    with open_loggers([name], tmp_path, CONFIG) as log:
        log.pictures(1, 11, "samples", SHEET)
    (call,) = [call for call in lightning if call[0] == "log_image"]
    if name == "mlflow":
        assert call[1][1] is SHEET and call[2] == {"artifact_file": "stage1/samples/000011.png"}
    else:
        assert call[1][0] == "stage1/samples" and call[1][1][0] is SHEET and call[2] == {"step": 11}


def test_a_logger_that_cannot_be_opened_is_refused_before_training(lightning, monkeypatch, tmp_path):
    def sunset(**options):
        raise RuntimeError("NeptuneLogger is no longer supported.\nMore.")

    monkeypatch.setattr(sys.modules["pytorch_lightning.loggers"], "NeptuneLogger", sunset)
    with pytest.raises(UsageError, match=r"neptune cannot be opened \(NeptuneLogger is no longer supported\.\)"):
        open_loggers(["neptune"], tmp_path, CONFIG)


def test_a_new_logger_is_one_decorator(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "_SINKS", dict(loggers._SINKS))
    seen = []

    @loggers.sink("list")
    class Listed(loggers.Csv):
        def figures(self, stage, step, values):
            seen.append((stage, step, values))

    with open_loggers(["list"], tmp_path, CONFIG) as log:
        log.figures(1, 2, {"cycle": 3})
    assert seen == [(1, 2, {"cycle": 3.0})] and "list" in loggers.names()
