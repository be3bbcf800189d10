"""Two processes that learn one run over gloo: the same losses as one process with the joint batch."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from livetoon.errors import TrainingError
from trainer import parallel, run
from trainer.checkpoint import latest, read_state
from trainer.parallel import Parallel

TINY = [
    *("--groups", "many,few", "--no-face-id", "--log", "none"),
    *(word for name in (
        "network=ugatit", "own=stem,out", "size=32", "width=4", "judge_width=4", "judge_layers=5,4", "blocks=1",
        "validate_every=0",
    ) for word in ("--set", name)),
]  # fmt: skip


def start(pairs: Path, out: Path, *more: str) -> subprocess.Popen:
    """Two processes of a run, which print into a file beside `out`; `--` keeps torchrun's own options apart."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    arguments = ["trainer.run", "--data", str(pairs), "--out", str(out), *TINY, *more]
    quiet = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    with open(f"{out}.txt", "w") as file:
        return subprocess.Popen([*launcher, *arguments], stdout=file, stderr=subprocess.STDOUT, env=quiet)


def printed_by(out: Path) -> str:
    return Path(f"{out}.txt").read_text()


def learning(process: subprocess.Popen, out: Path) -> list[int]:
    """The two processes of a run, once both learn."""
    limit = time.monotonic() + 240
    while printed_by(out).count("the first step is taken") < 2:
        assert process.poll() is None and time.monotonic() < limit, printed_by(out)
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"--no-face-id" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def losses(out: Path) -> dict[tuple[str, str, str], float]:
    with open(out / "log" / "train.csv", newline="") as file:
        rows = list(csv.reader(file))
    return {tuple(row[:3]): float(row[3]) for row in rows if len(row) == 4 and row[2].startswith(("G/", "D/"))}


def test_two_processes_learn_as_one_with_the_joint_batch(pairs, tmp_path):
    steps = ["--set", "batch=2", "--set", "stage1_steps=2", "--set", "stage2_steps=2"]
    process = start(pairs, tmp_path / "two", *steps)
    assert process.wait(timeout=300) == 0, printed_by(tmp_path / "two")
    assert run.main(["--data", str(pairs), "--out", str(tmp_path / "one"), *TINY, *steps]) == 0
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert one.keys() == two.keys() and any(stage == "2" for stage, *_ in one)
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-5, abs=2e-6), name  # the table has six decimals
    weights = [load_file(tmp_path / name / "checkpoints/last/generator.safetensors") for name in ("one", "two")]
    assert all(torch.allclose(value, weights[1][name], atol=3e-4) for name, value in weights[0].items())
    assert printed_by(tmp_path / "two").count("stage 1 step 2/2") == 1, "both processes wrote"
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}


def test_processes_stop_together_and_save(pairs, tmp_path):
    """One of them alone is asked to: a step later all know."""
    out = tmp_path / "out"
    process = start(pairs, out, "--set", "batch=2", "--set", "stage1_steps=100000")
    workers = learning(process, out)
    os.kill(workers[1], signal.SIGINT)
    assert process.wait(timeout=120) == 0, printed_by(out)
    assert "stopped and saved" in printed_by(out)
    assert 0 < read_state(latest(out))["step"] < 100000


def test_processes_leave_no_thread_of_gloo(tmp_path):
    """One that still held a tensor when the interpreter ended would end the process by SIGABRT."""
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom trainer.parallel import open_parallel\n"
        "def threads():\n"
        "    return [path.read_text() for path in Path('/proc/self/task').glob('*/comm')]\n"
        "with open_parallel() as parallel:\n"
        "    assert parallel.any(parallel.rank == 1)\n"
        "    assert any('gloo' in name for name in threads())\n"
        "left = [name for name in threads() if 'gloo' in name]\n"
        "assert not left, left\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr


def test_when_one_process_dies_the_other_ends(pairs, tmp_path):
    out = tmp_path / "out"
    process = start(pairs, out, "--set", "batch=2", "--set", "stage1_steps=100000")
    workers = learning(process, out)
    os.kill(workers[1], signal.SIGKILL)
    code, printed = process.wait(timeout=60), printed_by(out)
    assert code == 1, printed
    told = [line for line in printed_by(out).splitlines() if line.startswith("python -m trainer.run: ")]
    assert told == [
        "python -m trainer.run: another process of this run has ended; the line that it printed says why"
    ], printed_by(out)


def test_a_process_ends_with_the_one_that_started_it():
    """Which may be killed, so that it cannot say anything."""
    child = "import os, time, trainer.parallel as p; p._end_with(os.getppid()); print(1); time.sleep(600)"
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-u', '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE)
    process.stdout.read(1)  # the child watches now
    process.kill()
    process.communicate(timeout=30)  # the child had the pipe open, too


class Other:
    """A fabric whose other process has the double of everything."""

    global_rank, world_size, device = 0, 2, torch.device("cpu")

    def all_reduce(self, value, reduce_op):
        assert reduce_op == "mean"
        return value * 1.5

    def all_gather(self, value):
        return torch.stack([value, value * 2])

    def barrier(self):
        pass


def test_a_batch_that_cannot_be_shared_alike_is_refused(pairs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parallel, "open_parallel", lambda *_: Parallel(Other()))
    arguments = ["--data", str(pairs), "--out", str(tmp_path / "out"), *TINY, "--set", "batch=3"]
    assert run.main(arguments) == 2
    assert "--set batch=3: expected a multiple of the 2 processes" in capsys.readouterr().err.splitlines()[-1]


def test_what_processes_say_to_each_other():
    both = Parallel(Other())
    parameters = [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(()))]
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    both.average(parameters)
    assert all((parameter.grad == 1.5).all() for parameter in parameters)
    assert both.mean({"a": 2.0, "b": 4.0}) == {"a": 3.0, "b": 6.0}
    assert both.gather(torch.ones(3, 1)).flatten().tolist() == [1, 1, 1, 2, 2, 2]
    assert both.any(True) and not both.any(False)


def test_a_process_that_has_ended_is_told_in_a_sentence(monkeypatch):
    both, parameter = Parallel(Other()), torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.ones(1)
    for error, expected in (
        (RuntimeError("[third_party/gloo/pair.cc:553] Connection closed by peer"), TrainingError),
        (torch.distributed.DistBackendError("NCCL communicator was aborted"), TrainingError),
        (RuntimeError("no memory"), RuntimeError),
    ):

        def failing(self, *_, error=error, **__):
            raise error

        for name in ("all_reduce", "all_gather", "barrier"):
            monkeypatch.setattr(Other, name, failing)
        asked = (both.average, [parameter]), (both.mean, {"a": 1.0}), (both.gather, torch.ones(1)), (both.wait,)
        for ask, *what in asked:
            with pytest.raises(expected, match=r"another process of this run has ended|no memory"):
                ask(*what)


def test_alone_everything_stays_what_it_is():
    single = Parallel(device=torch.device("cpu"))
    values = torch.ones(3)
    assert single.gather(values) is values
    assert single.mean({"a": 2.0}) == {"a": 2.0}
    assert (single.any(True), single.any(False)) == (True, False)
    single.average([torch.nn.Parameter(values)])  # without a gradient: nothing is looked at
    single.wait()
