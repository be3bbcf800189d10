"""The edge bundle: what is in it, that it runs from itself alone, and what is said when it cannot be made or opened."""

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest

from engine import bundle, bundle_check, bundle_manifest, bundle_wheels, machine, manifest
from engine.bundle_target import this_platform, this_python
from faces import weights
from livetoon.errors import ModelError
from livetoon.files import sha256

ROOT = Path(__file__).resolve().parents[2]
OTHER = ["--platform", "linux-aarch64", "--python", "3.12"]
# A livetoon that serves one page: what install.sh and the check start.
STUB = """
import http.server, signal, sys
def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200); self.end_headers(); self.wfile.write(b"<html>")
        def log_message(self, *_): pass
    print("started with", *sys.argv[1:], flush=True)
    if "--port" in sys.argv:
        server = http.server.HTTPServer(("127.0.0.1", 0), Page)
        print(f"livetoon is at http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
"""
# No name but this machine's is looked up, no other address reached, and torch is not there.
GUARD = """
import socket, sys
sys.modules["torch"] = None
connect, look_up = socket.socket.connect, socket.getaddrinfo
def refuse(what):
    print("NETWORK", what, flush=True)
    raise OSError("no network")
def guarded_connect(self, address):
    here = self.family == socket.AF_UNIX or str(address[0]).startswith(("127.", "::1"))
    return connect(self, address) if here else refuse(address)
def guarded_look_up(host, *rest, **more):
    return look_up(host, *rest, **more) if host in ("localhost", "127.0.0.1", "::1") else refuse(host)
socket.socket.connect, socket.getaddrinfo = guarded_connect, guarded_look_up
"""


def wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    tag: str = "py3-none-any",
    requires: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    licence: str = "License-Expression: MIT",
) -> Path:
    """A wheel that pip installs."""
    about = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", licence]
    lines += [f"Requires-Dist: {each}" for each in requires]
    content = {
        **(files or {f"{name}.py": ""}),
        f"{about}/METADATA": "\n".join(lines) + "\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    content[f"{about}/RECORD"] = "".join(f"{each},,\n" for each in [*content, f"{about}/RECORD"])
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in content.items():
            archive.writestr(each, text)
    return path


def pip_wheel(folder: Path) -> Path:
    """The pip that is installed here, as a wheel again."""
    found = metadata.distribution("pip")
    path = folder / f"pip-{found.version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for each in found.files:
            if not str(each).startswith("..") and "__pycache__" not in str(each):
                archive.write(each.locate(), str(each))
    return path


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """A folder of wheels for a livetoon that is a stub and needs little, with some that are not for the target."""
    folder = tmp_path_factory.mktemp("wheels")
    entry = {"stub.py": STUB, "livetoon-0.1.0.dist-info/entry_points.txt": "[console_scripts]\nlivetoon = stub:main\n"}
    asks = ["alpha>=2; extra == 'stream'", "torch; extra == 'train'", "arms; platform_machine == 'aarch64'"]
    wheel(folder, "livetoon", "0.1.0", requires=asks, files=entry)
    wheel(folder, "alpha", "1.0")
    wheel(folder, "alpha", "2.0", requires=["beta[fast]<3", "old; python_version < '3.11'"])
    wheel(folder, "alpha", "9.0", tag="cp311-cp311-win_amd64")
    wheel(
        folder, "beta", "2.5", requires=["gamma; extra == 'fast'"], licence="Classifier: License :: OSI Approved :: X"
    )
    wheel(folder, "beta", "3.0")
    wheel(folder, "gamma", tag="cp311-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64")
    wheel(folder, "gamma", tag="cp311-abi3-manylinux_2_28_aarch64")
    wheel(folder, "arms", tag="py3-none-manylinux_2_31_aarch64")
    pip_wheel(folder)
    (folder / "not a wheel.whl").write_text("")
    return folder


@pytest.fixture(scope="module")
def made(exported, tmp_path_factory) -> Path:
    """A bundle of the small model without wheels; tests that alter it take `bundled`."""
    out = tmp_path_factory.mktemp("made") / "edge"
    assert bundle.main(["--out", str(out), "--model", str(exported), "--no-wheels"]) == 0
    return out


@pytest.fixture
def bundled(made, tmp_path) -> Path:
    """A copy at another place that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "stick" / "edge"))


@pytest.fixture(scope="module")
def installable(exported, wheels, tmp_path_factory) -> Path:
    """A bundle with the stub's wheels, for this machine."""
    out = tmp_path_factory.mktemp("installable") / "edge"
    assert bundle.main(["--out", str(out), "--model", str(exported), "--wheels", str(wheels)]) == 0
    return out


def listing(folder: Path) -> dict[str, tuple[int, str]]:
    """path -> time of its last change and sha256, of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, sha256(path)) for path in files}


def said_by(out: Path, *options: str, capsys: pytest.CaptureFixture) -> tuple[int, str]:
    """(exit code, last line on standard error); nothing may be left beside `out`."""
    code = bundle.main(["--out", str(out), *options])
    assert not out.exists() and not list(out.parent.glob(f".{out.name}*"))
    return code, capsys.readouterr().err.strip().splitlines()[-1]


def test_every_file_is_listed_with_its_hash_and_nothing_else_is_there(made, exported):
    listed = json.loads((made / "manifest.json").read_text())["files"]
    there = {path: digest for path, (_, digest) in listing(made).items() if path != "manifest.json"}
    assert there == listed
    described = manifest.read(exported)
    assert {f"model/{name}" for name in (*described.files, "model.json", "MODEL_CARD.md")} <= set(listed)
    assert {f"faces/{name}" for name in weights.SHA256} <= set(listed)
    assert {"licences/LICENSE", "licences/NOTICE", "licences/MODEL_CARD.md", "README.txt"} <= set(listed)
    assert sum(name.startswith("model/engines/") for name in listed) >= len(described.groups)
    assert [path.name for path in made.parent.iterdir()] == ["edge"]


def test_sizes_add_up_and_are_written(exported, tmp_path, capsys):
    out, told = tmp_path / "edge", tmp_path / "edge.json"
    assert bundle.main(["--out", str(out), "--model", str(exported), "--no-wheels", "--json", str(told)]) == 0
    captured = capsys.readouterr()
    found = json.loads(told.read_text())
    assert found["bytes"]["total"] == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert found["bytes"]["engines"] > 0 and found["engines"]["processor"] == machine.processor()
    assert f"total        {found['bytes']['total'] / 1e6:7.1f} MB" in captured.out
    for stage in ("model", "faces", "engines", "notes"):
        assert re.search(rf"^{stage}: .* MB in all, \d", captured.err, re.M)


@contextmanager
def served(command: Sequence[str], environment: Mapping[str, str], place: Path) -> Iterator[tuple[str, list[str]]]:
    """(address, lines said so far) of a server that was started by `command`."""
    process = subprocess.Popen(
        command, env=environment, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"livetoon is at (\S+)", line):
                yield found.group(1), said
                break
        else:
            raise AssertionError("".join(said))
        process.send_signal(signal.SIGTERM)
        said += process.communicate(timeout=15)[0].splitlines()
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_it_serves_from_the_bundle_alone_without_network_torch_or_a_place_to_write(bundled, tmp_path):
    """Code without any model in it, started in another folder; nothing is compiled and the bundle is not touched."""
    code = tmp_path / "code"
    bare = shutil.ignore_patterns("zoo", "*.onnx", "*.tflite", "__pycache__")
    for room in bundle_wheels.ROOMS:
        shutil.copytree(ROOT / room, code / room, ignore=bare)
    (code / "sitecustomize.py").write_text(GUARD)
    before, cache = listing(bundled), tmp_path / "cache"
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(code), "LIVETOON_CACHE": str(cache), "HOME": str(home)}
    environment.pop("CI", None)  # where it is set some libraries ask nobody
    command = [sys.executable, "-P", "-m", "streamer", "--bundle", str(bundled), "--port", "0"]
    with served(command, environment, tmp_path) as (address, said):
        page = urllib.request.urlopen(address, timeout=10).read()
        about = json.load(urllib.request.urlopen(f"{address}/about", timeout=10))
    assert b"<html" in page and about["groups"] == list(manifest.read(bundled / "model").groups)
    assert not any("NETWORK" in line or "compiled at the first start" in line or "made anew" in line for line in said)
    assert listing(bundled) == before and not cache.exists() and not list(home.iterdir())
    command = [sys.executable, "-P", "-m", "streamer", "--port", "0"]
    without = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert "models that came with livetoon (none)" in without.stderr  # else the bundle was not what it ran from


@pytest.mark.parametrize("name", ["model/weights.bin", "model/model.json", "faces/face_landmark.tflite"])
@pytest.mark.parametrize("spoil", ["alter", "cut", "remove"])
def test_a_file_that_is_not_as_it_was_is_named(bundled, name, spoil):
    path = bundled / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data if spoil == "alter" else data[:-10])
    if spoil == "remove":
        path.unlink()
    with pytest.raises(ModelError, match=f"{path.name}: (altered or cut short|missing)"):
        bundle_manifest.open_bundle(bundled)


def test_the_server_names_what_is_wrong_with_a_bundle(bundled, tmp_path):
    def said(*options: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "streamer", "--port", "0", *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert "livetoon is at" not in done.stdout
        return done.returncode, done.stderr.strip().splitlines()[-1]

    assert said("--bundle", str(tmp_path)) == (
        1, f"livetoon: {tmp_path}: no bundle, it has no manifest.json; make one with python -m engine.bundle --out DIR"
    )  # fmt: skip
    assert said("--bundle", str(bundled), "--model", "live")[0] == 2
    (bundled / "faces" / "age_sex.onnx").write_bytes(b"")
    code, line = said("--bundle", str(bundled))
    assert code == 1 and "age_sex.onnx: altered or cut short" in line


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": 2}, "version 2, this livetoon reads version 1"),
        ({"files": {"../outside": "0"}}, "lies outside the bundle"),
        ({"files": {}}, "no model in it"),
        ({"engines": {"backend": "openvino"}}, "nobody knows what they are for"),
        ({"precision": 8}, "precision is 8, expected a text"),
        ({"more": 1}, "not a bundle's manifest"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(bundled, change, sentence):
    path = bundled / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=sentence):
        bundle_manifest.open_bundle(bundled)


def test_engines_are_opened_where_they_lie_and_name_their_precision(bundled):
    folder, backend, precision = bundle_manifest.open_bundle(bundled).opening("auto", "auto")
    assert folder == bundled / "model" and backend == "openvino" and precision in ("int8", "bf16")


@pytest.mark.parametrize("why", ["machine", "altered", "more", "precision", "version"])
def test_engines_that_do_not_fit_are_left_aside_and_made_in_the_cache(bundled, own_cache, why, monkeypatch, caplog):
    caplog.set_level("INFO")
    engine = next((bundled / "model" / "engines").glob("*kids*.cache"))
    asked = "fp32" if why == "precision" else "auto"
    if why == "machine":
        monkeypatch.setattr(machine, "processor", lambda: "another one")
    elif why == "altered":
        engine.write_bytes(engine.read_bytes()[:-1])
    elif why == "more":
        shutil.copy(engine, engine.with_name("more.cache"))
    elif why == "version":
        # What the backend's cache knows of an engine decides, also where the manifest says nothing of it.
        head, _, content = engine.read_bytes().partition(b"\n")
        stored = json.loads(head)
        stored["fields"]["digest"] = "another"
        engine.write_bytes(json.dumps(stored).encode() + b"\n" + content)
        path = bundled / "manifest.json"
        fields = json.loads(path.read_text())
        fields["files"][f"model/engines/{engine.name}"] = sha256(engine)
        path.write_text(json.dumps(fields))
    before = listing(bundled)
    opened = bundle_manifest.open_bundle(bundled)
    folder, _, precision = opened.opening("auto", asked)
    assert folder.is_relative_to(own_cache) and precision == asked and "compiled at the first start" in caplog.text
    assert manifest.open_files(folder, "kids") and not (folder / "engines").exists()
    (folder / "weights.bin").write_bytes(b"")
    assert opened.opening("auto", asked)[0] == folder and (folder / "weights.bin").stat().st_size > 1000
    assert listing(bundled) == before


def test_without_a_cache_folder_it_opens_all_the_same(bundled, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIVETOON_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(machine, "processor", lambda: "another one")
    assert bundle_manifest.open_bundle(bundled).opening("auto", "auto")[0] == bundled / "model"
    assert "every start compiles" in caplog.text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--platform", "windows"], "--platform windows: not known; choose one of linux-x86_64, linux-aarch64"),
        (["--python", "3.10"], "--python 3.10: livetoon runs on 3.11, 3.12, 3.13"),
        (["--precision", "int4"], "--precision int4: choose one of auto, fp32"),
        (["--precision", "int8", *OTHER], "--precision int8: is not run on linux-aarch64"),
        (["--backend", "torch"], "--backend torch: a bundle brings openvino and onnxruntime"),
        (["--wheels", "."], "--wheels and --no-wheels: choose one"),
        (["--json", "/no/such/folder/a.json"], "its folder is not there"),
        (["--check"], "--no-wheels leaves them out"),
        (["--check", *OTHER], "cannot run one for linux-aarch64"),
    ],
)
def test_a_wrong_option_is_named_before_anything_is_made(options, sentence, exported, tmp_path, capsys):
    code, said = said_by(tmp_path / "edge", "--model", str(exported), "--no-wheels", *options, capsys=capsys)
    assert code == 2 and sentence in said


def test_a_model_that_is_not_whole_is_named(model, tmp_path, capsys):
    (model / "weights.bin").write_bytes(b"cut")
    code, said = said_by(tmp_path / "edge", "--model", str(model), "--no-wheels", capsys=capsys)
    assert code == 1 and "weights.bin: altered or cut short" in said


def test_a_folder_with_something_in_it_stays_as_it_is(exported, tmp_path, capsys):
    (tmp_path / "edge").mkdir()
    (tmp_path / "edge" / "mine.txt").write_text("mine")
    assert bundle.main(["--out", str(tmp_path / "edge"), "--model", str(exported), "--no-wheels"]) == 2
    assert "is there and not empty" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "edge").iterdir()] == ["mine.txt"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(exported, tmp_path):
    """Files of more than 512 kB cannot be written: the face models."""
    options = ["--out", str(tmp_path / "edge"), "--model", str(exported), "--no-wheels"]
    command = f"ulimit -f 1000; exec {shlex.join([sys.executable, '-m', 'engine.bundle', *options])}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "File too large" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_ctrl_c_leaves_nothing(exported, tmp_path):
    command = [sys.executable, "-m", "engine.bundle", "--out", str(tmp_path / "edge"), "--no-wheels"]
    process = subprocess.Popen([*command, "--model", str(exported)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("faces:"):
            process.send_signal(signal.SIGINT)
            break
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and said.strip() == "python -m engine.bundle: stopped"
    assert not list(tmp_path.iterdir())


def test_wheels_are_those_that_the_target_needs(exported, wheels, tmp_path, capsys):
    out = tmp_path / "edge"
    assert bundle.main(["--out", str(out), "--model", str(exported), "--wheels", str(wheels), *OTHER]) == 0
    names = sorted(path.name for path in (out / "wheels").iterdir())
    assert names[:5] == [
        "alpha-2.0-py3-none-any.whl",
        "arms-1.0-py3-none-manylinux_2_31_aarch64.whl",
        "beta-2.5-py3-none-any.whl",
        "gamma-1.0-cp311-abi3-manylinux_2_28_aarch64.whl",
        "livetoon-0.1.0-py3-none-any.whl",
    ]
    assert len(names) == 6 and names[5].startswith("pip-")
    described = bundle_manifest.read(out)
    assert described.engines is None and described.glibc == "2.31" and described.versions["alpha"] == "2.0"
    assert "| beta | 2.5 | X | - |" in (out / "licences" / "wheels.md").read_text()
    table = capsys.readouterr().out
    assert "6 wheels" in table and "resolved, not run" in table and "compiles at its first start" in table
    assert "nobody has started one yet" in (out / "README.txt").read_text()
    assert "python3.12" in (out / "install.sh").read_text()


@pytest.mark.parametrize(
    ("lost", "added", "sentence"),
    [
        ("gamma", {}, "no wheel of gamma for linux-aarch64 with Python 3.12"),
        ("pip", {}, "no wheel of pip "),
        ("nothing", {"name": "alpha", "version": "3.0", "requires": ["beta>=2", "beta<2"]}, "no wheel of beta"),
        ("nothing", {"name": "gamma", "version": "3.0", "requires": ["alpha<2"]}, "gamma needs alpha<2, but alpha-2.0"),
    ],
)
def test_wheels_that_are_missing_or_contradict_each_other_are_named(
    exported, wheels, tmp_path, capsys, lost, added, sentence
):
    folder = Path(shutil.copytree(wheels, tmp_path / "wheels"))
    for path in folder.glob(f"{lost}-*.whl"):
        path.unlink()
    if added:
        wheel(folder, **added)
    options = ["--model", str(exported), "--wheels", str(folder), *OTHER]
    code, said = said_by(tmp_path / "edge", *options, capsys=capsys)
    assert code == 1 and sentence in said


def test_livetoon_s_own_wheel_is_built_of_the_checkout(exported, wheels, tmp_path):
    """Page, install.sh, face models and shipped models are in it; what only training and the README need is not."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    shutil.copy(next(wheels.glob("pip-*.whl")), folder)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for each in project["optional-dependencies"]["stream"]:
        name, version = re.match(r"([\w-]+)>=([\d.]+)", each).groups()
        wheel(folder, name.replace("-", "_"), version)
    before = listing(ROOT / "engine")
    out = tmp_path / "edge"
    assert bundle.main(["--out", str(out), "--model", str(exported), "--wheels", str(folder)]) == 0
    with zipfile.ZipFile(next((out / "wheels").glob("livetoon-*.whl"))) as archive:
        names = set(archive.namelist())
    assert {"streamer/page/index.html", "engine/edge/install.sh", "engine/zoo/live/weights.bin"} <= names
    assert {f"faces/models/{name}" for name in weights.SHA256} <= names
    assert not any(name.startswith(("benchmarks/", "tests/")) or name.endswith(".safetensors") for name in names)
    assert listing(ROOT / "engine") == before


@pytest.fixture
def index(wheels, tmp_path, monkeypatch) -> Path:
    """What pip finds instead of the package index: what livetoon asks for, in the versions of constraints.txt.

    There is no wheel of `packaging`, only its source, which is built without anything else.
    """
    folder = tmp_path / "index"
    folder.mkdir()
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.match(r"[\w-]+", each)[0] for each in project["optional-dependencies"]["stream"]]
    for name in names:
        wheel(folder, name.replace("-", "_"), pins[name])
        wheel(folder, name.replace("-", "_"), "99.0")
    shutil.copy(next(wheels.glob("pip-*.whl")), folder)
    (folder / f"packaging-{pins['packaging']}-py3-none-any.whl").rename(tmp_path / "built.whl")
    (folder / "packaging-99.0-py3-none-any.whl").unlink()
    backend = (
        "import shutil\ndef build_wheel(folder, *_):\n"
        f"    name = 'packaging-{pins['packaging']}-py3-none-any.whl'\n"
        f"    shutil.copy({str(tmp_path / 'built.whl')!r}, f'{{folder}}/{{name}}')\n    return name\n"
    )
    described = "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    about = f"Metadata-Version: 2.1\nName: packaging\nVersion: {pins['packaging']}\n"
    with tarfile.open(folder / f"packaging-{pins['packaging']}.tar.gz", "w:gz") as archive:
        for name, text in {"backend.py": backend, "pyproject.toml": described, "PKG-INFO": about}.items():
            member = tarfile.TarInfo(f"packaging-{pins['packaging']}/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    for name, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "1", "FIND_LINKS": str(folder)}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return folder


def test_what_has_no_wheel_is_built_here_for_this_machine_only(exported, index, tmp_path, capsys):
    out = tmp_path / "edge"
    assert bundle.main(["--out", str(out), "--model", str(exported)]) == 0
    described = bundle_manifest.read(out)
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    assert described.built == ("packaging",) and described.versions["packaging"] == pins["packaging"]
    assert described.versions["onnxruntime"] == pins["onnxruntime"]
    captured = capsys.readouterr()
    assert "no wheel of packaging on the index: built here" in captured.out
    assert "building it from source" in captured.err
    code, said = said_by(tmp_path / "other", "--model", str(exported), *OTHER, capsys=capsys)
    assert code == 1 and f"no wheel of packaging=={pins['packaging']}" in said and "for linux-aarch64 with" in said


def test_an_installation_without_its_source_says_where_the_wheel_is_made(exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bundle_wheels, "ROOT", tmp_path)
    code, said = said_by(tmp_path / "edge", "--model", str(exported), capsys=capsys)
    assert code == 1 and "without its source" in said and "run python -m engine.bundle in a checkout" in said


def test_an_index_that_cannot_be_reached_is_one_sentence(exported, tmp_path, monkeypatch, capsys):
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_FIND_LINKS": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    code, said = said_by(tmp_path / "edge", "--model", str(exported), capsys=capsys)
    assert code == 1 and "the package index cannot be reached, pip is missing: connect this machine" in said


def install(folder: Path, place: Path, *options: str, **more: str) -> subprocess.CompletedProcess:
    """Run the bundle's install.sh with a home of its own and no index."""
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(place), "PYTHON": sys.executable,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple", **more,
    }  # fmt: skip
    command = ["sh", str(folder / "install.sh"), *options]
    return subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, timeout=120)


def test_install_makes_an_environment_of_the_wheels_and_starts(installable, tmp_path):
    before = listing(installable)
    env = tmp_path / ".local" / "share" / "livetoon" / "env"
    first = install(installable, tmp_path, "--max-faces", "2")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1] == f"started with --bundle {installable} --max-faces 2"
    kept = (env / "bin" / "livetoon").stat().st_mtime_ns
    again = install(installable, tmp_path, "--install-only")
    assert again.returncode == 0 and again.stdout == "" and (env / "bin" / "livetoon").stat().st_mtime_ns == kept
    assert listing(installable) == before


def test_install_refuses_a_bundle_that_is_not_whole_or_not_for_this_machine(installable, tmp_path):
    folder = Path(shutil.copytree(installable, tmp_path / "edge"))
    path = folder / "manifest.json"
    whole = json.loads(path.read_text())
    for change, sentence in (
        ({"platform": "linux-riscv64"}, f"this bundle is for linux-riscv64, this machine is {this_platform()}"),
        ({"python": "3.99"}, f"this bundle is for Python 3.99, this is {this_python()}"),
        ({"glibc": "2.99"}, "this bundle needs glibc 2.99 or newer"),
        ({"files": {"wheels/lost.whl": ""}}, "lost.whl is missing: copy the bundle again"),
        ({"files": {"README.txt": "0"}}, "README.txt was altered or cut short"),
    ):
        path.write_text(json.dumps({**whole, **change}))
        done = install(folder, tmp_path)
        assert done.returncode == 1 and done.stderr.startswith("install.sh: ") and sentence in done.stderr
        assert done.stderr.count("\n") == 1 and not (tmp_path / ".local").exists()
    assert "is not installed: install Python" in install(folder, tmp_path, PYTHON="/no/python").stderr


def test_install_leaves_a_folder_alone_that_it_did_not_make(installable, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    done = install(installable, tmp_path, LIVETOON_ENV=str(tmp_path / "mine"))
    assert done.returncode == 1 and "is there already: set LIVETOON_ENV to another folder" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter.txt"]


def test_the_check_measures_size_and_cold_start(installable, tmp_path, capsys):
    told = tmp_path / "check.json"
    assert bundle_check.main([str(installable), "--json", str(told)]) == 0
    found = json.loads(told.read_text())
    assert found["bundle_bytes"] == sum(path.stat().st_size for path in installable.rglob("*") if path.is_file())
    assert found["installed_bytes"] > 0 and 0 < found["second_start_s"] <= found["cold_start_s"] + 1
    assert f"page served {found['cold_start_s']:.1f} s after the first start" in capsys.readouterr().out
    assert bundle_check.main([str(tmp_path)]) == 1 and "no bundle" in capsys.readouterr().err
