"""All rows of one model: opened, timed round by round, their memory read, what they draw compared; then the ratios."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field

import numpy as np

from benchmarks import roofline, timing
from benchmarks.contenders import COMPILED, CPU, EAGER, PASSIVE, Contender, Subject, contenders
from benchmarks.worker import GivenUp, Worker
from engine import machine, manifest
from engine.graphs import read_graph
from engine.proof import Agreement, agreement, planes
from livetoon.errors import EngineError

MEGABYTE = 1e6
Place = tuple[str, int | None]


@dataclass(frozen=True)
class Extent:
    """How much is measured. batches: crops a call; compile_s: how long torch.compile may take, 0 for not at all."""

    effort: timing.Effort
    batches: tuple[int, ...]
    compile_s: float


@dataclass
class Found:
    """rows: as JSON; left_out: rows that could not be measured, and why; rates: of a device with so many threads (None:
    a GPU), the best seen; models: name -> what one crop asks for."""

    rows: list[dict[str, object]] = field(default_factory=list)
    left_out: list[dict[str, object]] = field(default_factory=list)
    rates: dict[Place, roofline.Rates] = field(default_factory=dict)
    models: dict[str, dict[str, object]] = field(default_factory=dict)

    def leave_out(self, contender: Contender, why: str) -> None:
        self.left_out.append({**_titles(contender), "why": why})


def measure(
    subject: Subject,
    crops: np.ndarray,
    extent: Extent,
    precisions: Collection[str],
    found: Found,
    report: Callable[[str], None],
) -> None:
    """Add what there is of `subject` to `found`.

    crops: (N, S, S, 3) uint8 RGB, for the accuracy; what is timed is given the first of them. precisions: of engines.
    """
    one = _work(subject, 1)
    found.models[subject.name] = {
        "network": subject.network,
        "size": subject.size,
        "gmac": round(one.macs / 1e9, 3),
        "moved_mb": round(one.moved / MEGABYTE),
    }
    if subject.without_int8:
        missing = Contender(subject, "engines", "int8", CPU, machine.cores(), extent.batches[0])
        found.leave_out(missing, subject.without_int8)
    expected: np.ndarray | None = None
    given_up: set[tuple[str, str]] = set()
    for batch in extent.batches:
        title = f"{subject.name}, batch {batch}"
        wanted = contenders(subject, batch, precisions)
        given = crops[np.arange(batch) % len(crops)]
        report(f"{title}: opening {len(wanted)} rows")
        try:
            with _opened(wanted, given, extent.compile_s, found, given_up) as rows:
                for place in sorted({_place(row.contender) for row in rows}, key=str):
                    now = roofline.rates(*place)
                    found.rates[place] = found.rates[place].best(now) if place in found.rates else now
                timings = timing.interleaved(
                    {row: row.worker.timed for row in rows},
                    extent.effort,
                    lambda done, title=title: report(f"{title}: round {done} of {extent.effort.rounds}"),
                )
                memory = {row: row.worker.memory() for row in rows}
                report(f"{title}: drawing {len(crops)} crops")
                accuracy, expected = _accuracies(rows, planes(crops), expected)
        except EngineError as error:  # of a reference, or a process ended meanwhile: what others gave stays
            found.leave_out(Contender(subject, "all", "all", CPU, machine.cores(), batch), str(error))
            continue
        found.rows += _figures(timings, memory, accuracy, found.rates, _work(subject, batch))


@dataclass(frozen=True, eq=False)
class _Row:
    """A contender that runs. compile_s: of torch.compile, its first call."""

    contender: Contender
    worker: Worker
    arithmetic: str
    compile_s: float | None


@contextmanager
def _opened(
    wanted: Sequence[Contender],
    given: np.ndarray,
    compile_s: float,
    found: Found,
    given_up: set[tuple[str, str]],
) -> Iterator[list[_Row]]:
    """The contenders that can be run, in their order: several opened at a time, then compiled one by one."""
    opened: dict[Contender, _Row] = {}
    with ExitStack() as workers:

        def open_one(contender: Contender) -> None:
            try:
                opened[contender] = _open(contender, given, workers, compile_s)
            except EngineError as error:
                if contender.is_eager:  # what its device's rows are compared with
                    raise
                found.leave_out(contender, str(error))
                if isinstance(error, GivenUp):
                    given_up.add((contender.backend, contender.device))

        with ThreadPoolExecutor(machine.cores()) as pool:
            list(pool.map(open_one, [each for each in wanted if each.backend != COMPILED]))
        for contender in [each for each in wanted if each.backend == COMPILED]:
            if compile_s == 0:
                found.leave_out(contender, "not tried (--compile-limit 0)")
            elif (contender.backend, contender.device) in given_up:
                found.leave_out(contender, "not tried: it was given up before")
            else:
                open_one(contender)
        yield [opened[each] for each in wanted if each in opened]


def _open(contender: Contender, given: np.ndarray, workers: ExitStack, compile_s: float) -> _Row:
    worker = workers.enter_context(Worker(contender, given))
    arithmetic, made = worker.open()
    if made:  # a start that finds its engine is what is measured
        worker.close()
        worker = workers.enter_context(Worker(contender, given))
        arithmetic, _ = worker.open()
    if contender.backend != COMPILED:
        worker.start()
        return _Row(contender, worker, arithmetic, None)
    return _Row(contender, worker, arithmetic, round(worker.start(compile_s), 1))


def _accuracies(
    rows: Sequence[_Row], x: np.ndarray, expected: np.ndarray | None
) -> tuple[dict[_Row, Agreement], np.ndarray]:
    """Of every row, and what is expected: what the first row of the first batch draws.

    x: (N, 3, S, S) float32 in [-1, 1].
    """
    known: dict[tuple[str, str, str], Agreement] = {}
    accuracy = {}
    for row in rows:
        contender = row.contender
        backend = EAGER if contender.backend == PASSIVE else contender.backend
        alike = (backend, contender.precision, contender.device)
        if alike not in known:
            drawn = row.worker.draw(x)
            expected = drawn if expected is None else expected
            channels = 4 if contender.subject.alpha else 3
            known[alike] = agreement(drawn[:, :channels], expected[:, :channels])
        accuracy[row] = known[alike]
    return accuracy, expected


def _work(subject: Subject, batch: int) -> roofline.Work:
    files = manifest.open_files(subject.folder, subject.group)
    return roofline.counted(read_graph(files, "fp32", batch))


def _figures(
    timings: dict[_Row, timing.Timing],
    memory: dict[_Row, tuple[int, int | None]],
    accuracy: dict[_Row, Agreement],
    rates: Mapping[Place, roofline.Rates],
    work: roofline.Work,
) -> Iterator[dict[str, object]]:
    """Rows of one model and batch as JSON."""
    eager, strongest = {}, {}
    for row, took in timings.items():
        if row.contender.is_eager:
            eager[row.contender.device] = took.p50_ms
        if row.contender.is_pytorch:
            strongest[row.contender.device] = min(took.p50_ms, strongest.get(row.contender.device, math.inf))
    for row, took in timings.items():
        contender = row.contender
        best = strongest[contender.device]
        roof = roofline.roof_ms(work, rates[_place(contender)])
        peak, on_gpu = memory[row]
        yield {
            **_titles(contender),
            "arithmetic": row.arithmetic,
            **asdict(took),
            "images_per_s": round(1e3 * contender.batch / took.p50_ms, 1),
            "peak_memory_mb": round(peak / MEGABYTE),
            **({"gpu_memory_mb": round(on_gpu / MEGABYTE)} if on_gpu is not None else {}),
            **({"compile_s": row.compile_s} if row.compile_s is not None else {}),
            "ratio_to_eager": round(eager[contender.device] / took.p50_ms, 2),
            "ratio_to_pytorch": round(best / took.p50_ms, 2),
            "strongest_pytorch": contender.is_pytorch and took.p50_ms == best,
            "roofline_share": float(f"{roof / took.p50_ms:.3g}"),
            "psnr_db": round(accuracy[row].mean_db, 1),
            "psnr_db_worst": round(accuracy[row].worst_db, 1),
        }


def described(rates: Mapping[Place, roofline.Rates]) -> list[dict[str, object]]:
    """As JSON."""
    return [
        {
            "device": device,
            "threads": threads,
            "arithmetic": each.arithmetic,
            "gflop_per_s": round(each.operations_per_s / 1e9, 1),
            "gb_per_s": round(each.bytes_per_s / 1e9, 1),
        }
        for (device, threads), each in rates.items()
    ]


def graphics_card() -> dict[str, str]:
    """Its name, where there is one."""
    import torch

    return {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}


def _place(contender: Contender) -> Place:
    return contender.device, contender.threads if contender.device == CPU else None


def _titles(contender: Contender) -> dict[str, object]:
    return {
        "model": contender.subject.name,
        "network": contender.subject.network,
        "backend": contender.backend,
        "precision": contender.precision,
        "device": contender.device,
        "cuda_graphs": contender.cuda_graphs,
        "threads": _place(contender)[1],
        "batch": contender.batch,
    }
