"""Data at an address: copied once, whole or not at all."""

import json
import os
import zipfile
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
    """The files in a folder, but for the list of them."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file())


def test_a_path_is_itself(tmp_path):
    assert local(str(tmp_path)) == tmp_path


def test_an_address_is_copied_once(memory, cache, capsys):
    memory.pipe({"/faces/many/photo/a.png": b"one", "/faces/many/cartoon/b.png": b"two"})
    folder = local("memory://faces")
    assert names(folder) == ["many/cartoon/b.png", "many/photo/a.png"]
    assert (folder / "many/photo/a.png").read_bytes() == b"one"
    assert "copying memory://faces into" in capsys.readouterr().err
    assert local("memory://faces") == folder and "copying" not in capsys.readouterr().err
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
        (finished / ".listing.json").write_text(json.dumps({"a.png": {"size": 3}}))

    monkeypatch.setattr(type(memory), "get", while_another_copies)
    assert names(local("memory://faces")) == ["a.png"]
    assert len(list((cache / "data").iterdir())) == 1


@pytest.mark.parametrize("change", ["another size", "one more", "one less"])
def test_what_has_changed_is_copied_again(change, memory, cache, capsys):
    memory.pipe({"/faces/a.png": b"one", "/faces/b.png": b"two"})
    folder = local("memory://faces")
    if change == "another size":
        memory.pipe({"/faces/a.png": b"longer"})
    elif change == "one more":
        memory.pipe({"/faces/c.png": b"three"})
    else:
        memory.rm("/faces/b.png")
    capsys.readouterr()
    assert local("memory://faces") == folder
    assert "copying memory://faces into" in capsys.readouterr().err
    there = {name.removeprefix("/faces/"): content.getvalue() for name, content in memory.store.items()}
    assert {name: (folder / name).read_bytes() for name in names(folder)} == there
    assert [path.name for path in (cache / "data").iterdir()] == [folder.name]


def test_a_file_of_the_same_size_is_told_by_its_time(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.png").write_bytes(b"one")
    folder = local((tmp_path / "there").as_uri())
    (tmp_path / "there" / "a.png").write_bytes(b"two")
    os.utime(tmp_path / "there" / "a.png", (1, 1))
    assert (local((tmp_path / "there").as_uri()) / "a.png").read_bytes() == b"two"
    assert names(folder) == ["a.png"]


def test_a_copy_that_is_not_whole_is_made_again(memory):
    memory.pipe({"/faces/a.png": b"one", "/faces/b.png": b"two"})
    (local("memory://faces") / "b.png").unlink()
    assert names(local("memory://faces")) == ["a.png", "b.png"]
    (local("memory://faces") / "b.png").write_bytes(b"t")
    assert (local("memory://faces") / "b.png").read_bytes() == b"two"


def test_without_an_answer_a_whole_copy_is_used_and_a_damaged_one_is_not(memory, monkeypatch, caplog):
    memory.pipe({"/faces/a.png": b"one"})
    folder = local("memory://faces")

    def unreachable(self, path, **_):
        raise ConnectionError("no route to host\nat all")

    monkeypatch.setattr(type(memory), "find", unreachable)
    assert local("memory://faces") == folder and names(folder) == ["a.png"]
    said = f"--data memory://faces: cannot be read (no route to host); going on with its copy in {folder}"
    assert [record.getMessage() for record in caplog.records] == [said]
    (folder / "a.png").unlink()
    with pytest.raises(DataError, match=r"cannot be read \(no route to host\)"):
        local("memory://faces")


def test_what_cannot_be_copied_again_leaves_the_copy_before(memory, monkeypatch, caplog):
    memory.pipe({"/faces/a.png": b"one"})
    folder = local("memory://faces")
    memory.pipe({"/faces/b.png": b"two"})

    def full(self, remote, path, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(memory), "get", full)
    assert local("memory://faces") == folder and names(folder) == ["a.png"]
    assert "No space left on device" in caplog.text


def test_an_archive_is_an_address_too(tmp_path):
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("many/photo/a.png", "one")
    address = f"zip://::{(tmp_path / 'faces.zip').as_uri()}"
    assert names(local(address)) == names(local(address)) == ["many/photo/a.png"]


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
