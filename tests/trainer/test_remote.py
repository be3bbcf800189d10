"""Data at an address: copied once, whole or not at all."""

from pathlib import Path

import fsspec
import pytest

from livetoon.errors import DataError
from trainer import run
from trainer.remote import local

TINY = [
    word for name in (
        "network=ugatit", "size=32", "width=4", "judge_width=4", "judge_layers=5,4", "blocks=1", "stage1_steps=1",
        "validate_every=0",
    ) for word in ("--set", name)
]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("LIVETOON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def memory():
    """An empty file system in memory."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_path_is_itself(tmp_path):
    assert local(str(tmp_path)) == tmp_path


def test_an_address_is_copied_once(memory, cache, capsys):
    memory.pipe({"/faces/many/photo/a.png": b"one", "/faces/many/cartoon/b.png": b"two"})
    folder = local("memory://faces")
    assert names(folder) == ["many/cartoon/b.png", "many/photo/a.png"]
    assert (folder / "many/photo/a.png").read_bytes() == b"one"
    assert "copying memory://faces into" in capsys.readouterr().err
    memory.store.clear()  # the second time nobody looks there
    assert local("memory://faces") == folder and names(folder)
    assert [path.name for path in (cache / "data").iterdir()] == [folder.name]


def test_a_copy_that_breaks_off_leaves_nothing(memory, cache, monkeypatch):
    memory.pipe({"/faces/a.png": b"one", "/faces/b.png": b"two"})

    def broken(self, remote, path, **_):
        Path(path).mkdir(parents=True)
        (Path(path) / "a.png").write_bytes(b"on")
        raise ConnectionError("the other side has hung up\nat length")

    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "get", broken)
        with pytest.raises(DataError, match=r"^--data memory://faces: cannot be read \(the other side has hung up\)$"):
            local("memory://faces")
    assert not list((cache / "data").iterdir())
    assert names(local("memory://faces")) == ["a.png", "b.png"]


def test_another_process_may_have_been_quicker(memory, cache, monkeypatch):
    memory.pipe({"/faces/a.png": b"one"})
    honest = type(memory).get

    def while_another_copies(self, remote, path, **options):
        honest(self, remote, path, **options)
        finished = Path(path).parent / Path(path).name.split(".")[1]
        finished.mkdir()
        (finished / "a.png").write_bytes(b"one")

    monkeypatch.setattr(type(memory), "get", while_another_copies)
    assert names(local("memory://faces")) == ["a.png"]
    assert len(list((cache / "data").iterdir())) == 1


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("memory://nothing", "no folder there"),
        ("s4://bucket", "cannot be read"),
        ("file:///nowhere/at/all", "no folder"),
    ],
)
def test_addresses_without_a_folder_are_named(address, sentence, memory):
    with pytest.raises(DataError, match=f"--data {address}: .*{sentence}") as caught:
        local(address)
    assert len(str(caught.value).splitlines()) == 1


def test_a_run_learns_from_an_address(pairs, tmp_path):
    arguments = ["--preset", "basic", "--no-face-id", "--groups", "many", "--log", "none", *TINY]
    assert run.main(["--data", pairs.as_uri(), "--out", str(tmp_path / "out"), *arguments]) == 0
    assert (tmp_path / "out" / "checkpoints" / "last" / "ema.safetensors").exists()
