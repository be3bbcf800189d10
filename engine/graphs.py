"""A group's graph as a backend takes it that reads precision and form from the graph: whole, in one piece.

fp32    as the model folder has it, float16 weights widened
fp16    made of that by calib.half
int8    the calibrated graph; what is not quantized computes in float32, or in float16 for GPUs

`python -m engine.graphs MODEL OUT.onnx` writes one as a file, for programs that run ONNX themselves.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from calib.half import half_precision
from engine.from_run import playable
from engine.manifest import ModelFiles, open_files
from livetoon import cli
from livetoon.errors import EngineError, UsageError
from livetoon.files import replacing

PRECISIONS = ("fp32", "fp16", "int8")


def read_graph(
    files: ModelFiles, precision: str, batch: int | None = None, pictures: bool = False, rest: str = "fp32"
) -> ModelProto:
    """The graph of one group, weights inside.

    Input `crop` (N, 3, S, S) float32 RGB in [-1, 1], output `rgba` (N, 4, S, S) float32 in [0, 1]; with `pictures`
    `crop` (N, S, S, 3) uint8 RGB and `rgba` (N, S, S, 4) uint8. batch: fixes N. rest: "fp16" lets what an int8 graph
    does not quantize compute in half precision.
    EngineError for a file that cannot be read, for a batch that the model was not exported for, and for a precision
    that no graph has.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"precision {precision!r}: a graph is written in fp32, fp16 or int8")
    if precision == "int8" and "int8" not in files.manifest.precisions:
        raise EngineError(
            f"model {files.manifest.name} was not calibrated: python -m engine.build --precision int8 --calibration "
            "DIR, or engine.export with --int8 DIR"
        )
    path = files.graph(precision)
    try:
        model = widened(onnx.load(path))
    except Exception as error:  # protobuf and onnx raise classes of their own for a file that is none
        raise EngineError(f"{path}: not a graph that can be read ({str(error).splitlines()[0]})") from error
    if not model.graph.output:  # of a file without a byte
        raise EngineError(f"{path}: not a graph that can be read (nothing is in it)")
    if batch is not None:
        _fix_batch(model, batch, files)
    if precision == "fp16" or rest == "fp16":
        model = half_precision(model)
    return with_pictures(model) if pictures else model


def widened(model: ModelProto) -> ModelProto:
    """The same graph with each constant that is cast stored as what it is cast to, in place."""
    constants = {value.name: value for value in model.graph.initializer}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in constants]
    for cast in casts:
        kind = helper.tensor_dtype_to_np_dtype(helper.get_node_attr_value(cast, "to"))
        values = numpy_helper.to_array(constants[cast.input[0]]).astype(kind)
        model.graph.initializer.append(numpy_helper.from_array(values, cast.output[0]))
        model.graph.node.remove(cast)
    read = {tensor for node in model.graph.node for tensor in node.input}
    for value in constants.values():
        if value.name not in read:
            model.graph.initializer.remove(value)
    return model


def with_pictures(model: ModelProto) -> ModelProto:
    """A copy that takes (N, S, S, 3) uint8 RGB and gives (N, S, S, 4) uint8 RGBA, rounded: conversion in the graph."""
    made = ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    crop, rgba = graph.input[0], graph.output[0]
    for node in graph.node:
        for places in (node.input, node.output):
            for place, tensor in enumerate(places):
                if tensor in (crop.name, rgba.name):
                    places[place] = f"{tensor}.planes"
    numbers = {"per_level": 2 / 255, "one": 1.0, "levels": 255.0}
    graph.initializer.extend(numpy_helper.from_array(np.float32(value), name) for name, value in numbers.items())
    before = [
        helper.make_node("Cast", [crop.name], ["crop.float"], name="crop.float", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["crop.float"], ["crop.moved"], name="crop.moved", perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["crop.moved", "per_level"], ["crop.scaled"], name="crop.scaled"),
        helper.make_node("Sub", ["crop.scaled", "one"], [f"{crop.name}.planes"], name="crop.planes"),
    ]
    after = [
        helper.make_node("Mul", [f"{rgba.name}.planes", "levels"], ["rgba.scaled"], name="rgba.scaled"),
        helper.make_node("Round", ["rgba.scaled"], ["rgba.whole"], name="rgba.whole"),
        helper.make_node("Transpose", ["rgba.whole"], ["rgba.moved"], name="rgba.moved", perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["rgba.moved"], [rgba.name], name="rgba.bytes", to=TensorProto.UINT8),
    ]
    nodes = [*before, *graph.node, *after]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    for end, kind in ((crop, TensorProto.UINT8), (rgba, TensorProto.UINT8)):
        n, channels, height, width = (dim.dim_value or dim.dim_param for dim in end.type.tensor_type.shape.dim)
        end.CopyFrom(helper.make_tensor_value_info(end.name, kind, [n, height, width, channels]))
    return made


def _fix_batch(model: ModelProto, batch: int, files: ModelFiles) -> None:
    for end in (model.graph.input[0], model.graph.output[0]):
        side = end.type.tensor_type.shape.dim[0]
        if side.dim_value not in (0, batch):
            raise EngineError(
                f"model {files.manifest.name} takes {side.dim_value} crops a call, not {batch}: export it again with "
                f"--batch {batch}"
            )
        side.dim_value = batch


def main(argv: list[str] | None = None) -> int:
    arguments = cli.parser(
        "python -m engine.graphs",
        "Write one group's graph as one ONNX file: input `crop`, output `rgba`.",
        "python -m engine.graphs live young-women.onnx --precision fp16 --pictures",
    )
    arguments.add_argument("model", metavar="MODEL", help="zoo name, model folder, run or checkpoint")
    arguments.add_argument("out", metavar="OUT.onnx", type=Path, help="file to write")
    arguments.add_argument("--group", help="whose drawing (default: the basic group)")
    arguments.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the arithmetic (default: fp32)")
    arguments.add_argument("--batch", type=int, help="fix the number of crops a call (default: as the model has it)")
    arguments.add_argument(
        "--pictures",
        action="store_true",
        help="(N, S, S, 3) uint8 RGB in, (N, S, S, 4) uint8 RGBA out, instead of float planes in [-1, 1] and [0, 1]",
    )
    return cli.run(_command, arguments, argv)


def _command(options: argparse.Namespace) -> None:
    if options.batch is not None and options.batch < 1:
        raise UsageError(f"--batch {options.batch}: expected 1 or more")
    cli.check_place("--out", options.out)
    files = open_files(playable(options.model), options.group)
    model = read_graph(files, options.precision, options.batch, options.pictures)
    onnx.checker.check_model(model)
    with replacing(options.out) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {files.group}, {options.precision}, {len(model.graph.node)} operations, {size:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
