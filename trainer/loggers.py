"""Where a run's figures and pictures go: a CSV always, TensorBoard, and by Lightning's loggers MLflow, W&B and Neptune.

Everything is written below RUN/log and works without a network:

    RUN/log/train.csv             rows of stage, step, name, value: what summary.html is drawn from
    RUN/log/tensorboard/stageN    `tensorboard --logdir RUN/log/tensorboard` lays the stages' curves over each other
    RUN/log/{mlflow,wandb,neptune}

A resumed run cuts the first two back to its checkpoint. The other three know no cutting: every start is a run of its
own there, named by the run folder. MLFLOW_TRACKING_URI, WANDB_MODE=online and NEPTUNE_MODE=async send to a server
instead. Only one process of a run opens loggers.
"""

import csv
import importlib
import io
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from livetoon.errors import TrainingError, UsageError
from livetoon.files import replacing

log = logging.getLogger("trainer")

FLUSH_S = 30  # TensorBoard's files: what a killed run may miss there


class Sink(Protocol):
    """One place that figures go to. Any method but the CSV's may fail: the sink is dropped, training goes on."""

    def resume(self, stage: int, step: int) -> None: ...

    def figures(self, stage: int, step: int, values: dict[str, float]) -> None: ...

    def pictures(self, stage: int, step: int, name: str, sheet: np.ndarray) -> None: ...

    def close(self) -> None: ...


_SINKS: dict[str, Callable[[Path, dict], Sink]] = {}


def sink(name: str) -> Callable:
    """Decorator: register what opens a sink, `(run folder, config) -> Sink`, under `name`."""

    def register(opens):
        _SINKS[name] = opens
        return opens

    return register


def names() -> list[str]:
    """Every logger there is, installed or not."""
    return list(_SINKS)


class Loggers:
    """The open sinks of a run; `with` closes them."""

    def __init__(self, sinks: dict[str, Sink]):
        self._sinks = sinks

    def __enter__(self) -> "Loggers":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def resume(self, stage: int, step: int) -> None:
        """Training goes on after `step` of `stage`: what was logged behind that place is cut. (1, 0) starts anew."""
        self._each("resume", stage, step)

    def figures(self, stage: int, step: int, values: dict[str, float]) -> None:
        """Log `values` by name at a step; TrainingError when the CSV cannot be written (a full disk)."""
        if values:
            self._each("figures", stage, step, {name: float(value) for name, value in values.items()})

    def pictures(self, stage: int, step: int, name: str, sheet: np.ndarray) -> None:
        """Log a sheet of pictures, (H, W, 3) uint8 RGB."""
        if sheet.dtype != np.uint8 or sheet.ndim != 3 or sheet.shape[2] != 3:
            raise TrainingError(f"pictures {name}: {sheet.dtype} {sheet.shape}, expected uint8 (H, W, 3)")
        self._each("pictures", stage, step, name, sheet)

    def close(self) -> None:
        """Write what is waiting. Nothing may be logged after it."""
        self._each("close")
        self._sinks = {}

    def _each(self, method: str, *arguments: Any) -> None:
        for name, each in list(self._sinks.items()):
            try:
                getattr(each, method)(*arguments)
            except TrainingError:
                raise
            except Exception as error:  # whatever a logger's library raises must not end a training of hours
                log.warning("logger %s failed (%s) and is left out from here on", name, _first_line(error))
                del self._sinks[name]


def check_names(names: Sequence[str]) -> None:
    """UsageError for a logger that is unknown."""
    if unknown := [name for name in names if name not in _SINKS]:
        raise UsageError(f"--log {unknown[0]}: unknown, expected one of {', '.join(_SINKS)}, or none")


def open_loggers(names: Sequence[str], run: Path, config: dict) -> Loggers:
    """Open the loggers `names` of a run with its configuration; `csv` is always among them.

    UsageError, before anything is trained, for a name that is unknown, one whose packages are missing (it says what to
    install) and one that cannot be opened.
    """
    sinks: dict[str, Sink] = {}
    check_names(names)
    for name in dict.fromkeys(["csv", *names]):
        try:
            sinks[name] = _SINKS[name](run, config)
        except ImportError as error:
            extra = "train" if name == "tensorboard" else name
            missing = error.name or _first_line(error)
            raise UsageError(
                f'logger {name} needs a package that is not installed ({missing}): pip install ".[{extra}]"'
            ) from None
        except Exception as error:  # whatever a logger's library raises when it is opened
            raise UsageError(f"logger {name} cannot be opened ({_first_line(error)}): leave it out") from None
    return Loggers(sinks)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


@sink("csv")
class Csv:
    """RUN/log/train.csv: rows `stage,step,name,value`, six decimals, appended whole."""

    def __init__(self, run: Path, config: dict):
        self.path = run / "log" / "train.csv"
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def resume(self, stage: int, step: int) -> None:
        if not self.path.exists():
            return
        try:
            kept = [row for row in read_csv(self.path) if row[:2] <= (stage, step)]
            with replacing(self.path) as temporary:
                temporary.write_text("".join(_row(*row) for row in kept), encoding="utf-8")
        except OSError as error:
            raise self._failed(error) from None

    def figures(self, stage: int, step: int, values: dict[str, float]) -> None:
        rows = "".join(_row(stage, step, name, value) for name, value in values.items())
        try:
            with open(self.path, "a", newline="", encoding="utf-8") as file:
                file.write(rows)
        except OSError as error:
            raise self._failed(error) from None

    def pictures(self, stage: int, step: int, name: str, sheet: np.ndarray) -> None:
        """A table holds none; they lie in RUN/samples."""

    def close(self) -> None:
        """Nothing is kept open."""

    def _failed(self, error: OSError) -> TrainingError:
        return TrainingError(f"{self.path}: {error.strerror}; make room or give the rights, then go on with --resume")


def _row(stage: int, step: int, name: str, value: float) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([stage, step, name, f"{value:.6f}"])
    return text.getvalue()


def read_csv(path: Path) -> list[tuple[int, int, str, float]]:
    """Rows of a train.csv, in their order. What a killed run left of its last line is passed over."""
    whole, _, _ = path.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    rows = []
    for row in csv.reader(whole.splitlines()):
        try:
            stage, step, name, value = row
            rows.append((int(stage), int(step), name, float(value)))
        except ValueError:
            continue
    return rows


@sink("tensorboard")
class TensorBoard:
    """RUN/log/tensorboard/stageN, one folder a stage because steps count from 1 in each."""

    def __init__(self, run: Path, config: dict):
        from torch.utils.tensorboard import SummaryWriter

        self._open, self._folder, self._config = SummaryWriter, run / "log" / "tensorboard", config
        self._folder.mkdir(parents=True, exist_ok=True)
        self._writers: dict[int, Any] = {}
        self._place: tuple[int, int] | None = None

    def resume(self, stage: int, step: int) -> None:
        self._place = stage, step

    def figures(self, stage: int, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer(stage).add_scalar(name, value, step)

    def pictures(self, stage: int, step: int, name: str, sheet: np.ndarray) -> None:
        self._writer(stage).add_image(name, sheet, step, dataformats="HWC")

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, stage: int):
        if stage not in self._writers:
            purge = None
            if self._place is not None and stage >= self._place[0]:
                purge = self._place[1] + 1 if stage == self._place[0] else 0
            folder = str(self._folder / f"stage{stage}")
            self._writers[stage] = self._open(folder, purge_step=purge, flush_secs=FLUSH_S)
            told = json.dumps(self._config, indent=2, default=str)
            self._writers[stage].add_text("config", "    " + told.replace("\n", "\n    "), purge or 0)
        return self._writers[stage]


class Lightning:
    """A logger of Lightning's: figures are named `stageN/NAME`, because steps count from 1 in each stage."""

    def __init__(self, logger: Any, config: dict, draw: Callable[..., None], end: Callable[[], None]):
        self._logger, self._draw, self._end = logger, draw, end
        logger.log_hyperparams(config)

    def resume(self, stage: int, step: int) -> None:
        """These logs cannot be cut: a resumed run is a new one there."""

    def figures(self, stage: int, step: int, values: dict[str, float]) -> None:
        self._logger.log_metrics({f"stage{stage}/{name}": value for name, value in values.items()}, step=step)

    def pictures(self, stage: int, step: int, name: str, sheet: np.ndarray) -> None:
        self._draw(f"stage{stage}/{name}", sheet, step)

    def close(self) -> None:
        self._logger.finalize("success")
        self._end()


def _lightning(name: str, package: str) -> Any:
    """Lightning's logger class of `name`; its own package is asked for first, so that the sentence names that one."""
    importlib.import_module(package)
    return getattr(importlib.import_module("pytorch_lightning.loggers"), name)


def _folder(run: Path, name: str) -> Path:
    folder = (run / "log" / name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@sink("mlflow")
def mlflow(run: Path, config: dict) -> Sink:
    """An MLflow file store in RUN/log/mlflow, or MLFLOW_TRACKING_URI."""
    logger_class = _lightning("MLFlowLogger", "mlflow")
    where = os.environ.get("MLFLOW_TRACKING_URI") or _folder(run, "mlflow").as_uri()
    logger = logger_class(experiment_name="livetoon", run_name=run.resolve().name, tracking_uri=where)

    def draw(name: str, sheet: np.ndarray, step: int) -> None:
        logger.experiment.log_image(logger.run_id, sheet, artifact_file=f"{name}/{step:06d}.png")

    return Lightning(logger, config, draw, lambda: None)


@sink("wandb")
def wandb(run: Path, config: dict) -> Sink:
    """W&B's offline files in RUN/log/wandb (`wandb sync` sends them), or its server with WANDB_MODE=online."""
    logger_class = _lightning("WandbLogger", "wandb")
    logger = logger_class(
        name=run.resolve().name,
        project=os.environ.get("WANDB_PROJECT", "livetoon"),
        save_dir=str(_folder(run, "wandb")),
        offline=os.environ.get("WANDB_MODE") != "online",
    )

    def draw(name: str, sheet: np.ndarray, step: int) -> None:
        logger.log_image(name, [sheet], step=step)

    return Lightning(logger, config, draw, lambda: logger.experiment.finish())


@sink("neptune")
def neptune(run: Path, config: dict) -> Sink:
    """Neptune's offline files in RUN/log/neptune (`neptune sync` sends them), or as NEPTUNE_MODE says."""
    os.environ.setdefault("NEPTUNE_DATA_DIRECTORY", str(_folder(run, "neptune")))  # read when neptune is imported
    logger_class = _lightning("NeptuneLogger", "neptune")
    logger = logger_class(
        mode=os.environ.get("NEPTUNE_MODE", "offline"), name=run.resolve().name, log_model_checkpoints=False
    )

    def draw(name: str, sheet: np.ndarray, step: int) -> None:
        from neptune.types import File

        logger.experiment[name].append(File.as_image(sheet / np.float32(255)), step=step)

    return Lightning(logger, config, draw, lambda: logger.experiment.stop())
