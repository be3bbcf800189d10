import json

import pytest

from engine import manifest
from livetoon.errors import ModelError, UsageError


def spoil(path, change):
    content = bytearray(path.read_bytes())
    path.write_bytes(change(content))


def flip(content):
    content[len(content) // 2] ^= 1
    return content


def edit(folder, **fields):
    path = folder / manifest.NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_the_first_group_is_the_default(exported):
    files = manifest.open_files(exported)
    assert files.group == "adults"
    assert files.graph("fp32") == files.graph("bf16") == exported / "adults.onnx"
    assert files.graph("int8") == exported / "adults.int8.onnx"
    assert files.digest("fp32") == files.digest("bf16") != files.digest("int8")
    assert files.digest("fp32") != manifest.open_files(exported, "kids").digest("fp32")


def test_digest_does_not_depend_on_the_place(exported, model):
    assert manifest.open_files(exported).digest("int8") == manifest.open_files(model).digest("int8")
    assert manifest.open_files(exported).place != manifest.open_files(model).place


def test_unknown_group_names_the_groups_there_are(exported):
    with pytest.raises(UsageError, match="no group 'elderly': expected one of adults, kids"):
        manifest.open_files(exported, "elderly")


def test_unknown_model(tmp_path):
    with pytest.raises(ModelError, match="neither a folder nor one of the models that came with livetoon"):
        manifest.open_files(str(tmp_path / "nowhere"))


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(ModelError, match=r"no model\.json in it"):
        manifest.open_files(tmp_path)


@pytest.mark.parametrize("name", ["adults.onnx", "adults.int8.onnx", "weights.bin"])
@pytest.mark.parametrize("change", [flip, lambda content: content[:-1], lambda content: b""])
def test_altered_files_are_refused(model, name, change):
    spoil(model / name, change)
    with pytest.raises(ModelError, match=rf"{name}: altered or cut short.*export the model again"):
        manifest.open_files(model)


@pytest.mark.parametrize("name", ["adults.onnx", "adults.int8.onnx", "weights.bin"])
def test_missing_files_are_named(model, name):
    (model / name).unlink()
    with pytest.raises(ModelError, match=rf"{name}: missing"):
        manifest.open_files(model)


def test_only_the_group_asked_for_must_be_whole(model):
    (model / "kids.onnx").unlink()
    assert manifest.open_files(model, "adults").group == "adults"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 1}', "null"])
def test_broken_description(model, text):
    (model / manifest.NAME).write_text(text)
    with pytest.raises(ModelError, match=r"model\.json: not a model description"):
        manifest.open_files(model)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("files", None),
        ("files", "adults.onnx"),
        ("size", "64"),
        ("size", 64.0),
        ("size", 0),
        ("size", -64),
        ("size", 15),
        ("size", True),
        ("batch", 0),
        ("batch", "1"),
        ("name", None),
        ("alpha", "yes"),
        ("groups", None),
        ("precisions", 1),
        ("traced_nodes", 200),
        ("int8", []),
        ("int8", {"adults": 0.9}),
        ("int8", {"adults": {"share": "most"}}),
    ],
)
def test_a_field_that_cannot_be_is_refused_in_one_sentence(model, field, value):
    edit(model, **{field: value})
    with pytest.raises(ModelError, match=r"model\.json: not a model description") as caught:
        manifest.open_files(model)
    assert len(str(caught.value).splitlines()) == 1


def test_description_of_a_newer_version(model):
    edit(model, version=2)
    with pytest.raises(ModelError, match="version 2, this livetoon reads version 1; update livetoon"):
        manifest.open_files(model)


def test_an_older_description_says_less_and_is_float32_only(model):
    description = json.loads((model / manifest.NAME).read_text())
    for field in ("precisions", "alpha", "traced_nodes", "int8"):
        del description[field]
    (model / manifest.NAME).write_text(json.dumps(description))
    read = manifest.read(model)
    assert (read.precisions, read.alpha, read.traced_nodes, read.int8) == (("fp32",), True, {}, {})


def test_description_without_groups(model):
    edit(model, groups=[])
    with pytest.raises(ModelError, match="names no group"):
        manifest.open_files(model)


def test_a_file_without_hash_is_never_opened(model):
    edit(model, precisions=["fp32"], files={"adults.onnx": "0" * 64, "kids.onnx": "0" * 64})
    with pytest.raises(ModelError, match=r"lists no hash for weights\.bin"):
        manifest.open_files(model)


def test_a_group_cannot_lead_out_of_the_folder(model):
    edit(model, groups=["../adults"], files={"../adults.onnx": "0" * 64, "weights.bin": "0" * 64})
    with pytest.raises(ModelError, match="lists no hash"):
        manifest.open_files(model)
