"""Every TensorRT name that the engine uses is in all versions that it runs with, or behind a question for it.

TensorRT 11 removed what builders were made of for years, and there is no machine that has all three at once. So the
source is read instead: `trt.X.Y` as it stands, and members of objects by what the variables are called.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data" / "tensorrt_api"
ENGINE = Path(__file__).parents[1] / "engine"

# A variable or attribute of this name, with or without a leading underscore, is of this class
VARIABLES = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "parser_error": "ParserError",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime_config": "IRuntimeConfig",
    "runtime_cache": "IRuntimeCache",
}
# What these give is used at once
RESULTS = {"get_timing_cache": "ITimingCache", "get_error": "ParserError", "get_input": "ITensor"}
# Names that not all versions have -> what the same file has to ask for with hasattr
GUARDED = {
    "ComputeCapability": "ComputeCapability",
    "IBuilderConfig.num_compute_capabilities": "ComputeCapability",
    "IBuilderConfig.set_compute_capability": "ComputeCapability",
    "Runtime.get_engine_validity": "get_engine_validity",
    "EngineValidity.INVALID": "get_engine_validity",
    "EngineInvalidityDiagnostics": "get_engine_validity",
    "IRuntimeConfig.create_runtime_cache": "create_runtime_cache",
    "IRuntimeConfig.set_runtime_cache": "create_runtime_cache",
    "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy": "create_runtime_cache",
    "DynamicShapesKernelSpecializationStrategy.EAGER": "create_runtime_cache",
    "IRuntimeCache.deserialize": "create_runtime_cache",
    "IRuntimeCache.serialize": "create_runtime_cache",
    "IExecutionContext.is_stream_capturable": "is_stream_capturable",
    "BuilderFlag.REQUIRE_USER_ALLOCATION": "REQUIRE_USER_ALLOCATION",
}


def names_of(file: str) -> set[str]:
    """`Class` and `Class.member` of every line `Class: member member`."""
    names = set()
    for line in (DATA / file).read_text().splitlines():
        owner, _, members = line.partition(":")
        names |= {owner, *(f"{owner}.{member}" for member in members.split())}
    return names


COMMON = names_of("common.txt")
ONLY = {path.stem.removeprefix("only-"): names_of(path.name) for path in sorted(DATA.glob("only-*.txt"))}


def chain(node: ast.expr) -> list[str]:
    """`a.b.c` -> ["a", "b", "c"]; a call or index in front counts by the name of what is called."""
    if isinstance(node, ast.Attribute):
        return [*chain(node.value), node.attr]
    if isinstance(node, ast.Call | ast.Subscript):
        inner = chain(node.func if isinstance(node, ast.Call) else node.value)
        return [f"{inner[-1]}()"] if inner else []
    return [node.id] if isinstance(node, ast.Name) else []


def resolved(parts: list[str]) -> str | None:
    """`trt.A.B` -> "A.B", `self._builder.reset` -> "Builder.reset", what is not TensorRT's -> None."""
    if parts[:1] == ["self"]:
        parts = parts[1:]
    if len(parts) < 2 or parts[1].startswith("__"):
        return None
    first = parts[0].lstrip("_")
    called = first.removesuffix("()")
    owner = VARIABLES.get(first) if called == first else RESULTS.get(called, called if called in COMMON else None)
    if owner:
        return f"{owner}.{parts[1]}"
    return ".".join(part for part in parts[1:] if not part.startswith("__")) if first == "trt" else None


def used(source: str) -> Iterator[tuple[int, str]]:
    """Line and TensorRT name of every use in a file that has a `trt`; nothing of other files."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    if "trt" not in {getattr(node, "id", getattr(node, "arg", None)) for node in nodes}:
        return
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and id(node) not in inner and (name := resolved(chain(node))):
            yield node.lineno, name
        elif isinstance(node, ast.ClassDef):
            for base in filter(None, (resolved(chain(base)) for base in node.bases)):
                methods = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name[0] != "_"]
                yield from ((each.lineno, f"{base}.{each.name}") for each in methods)


def complaints(source: str) -> list[str]:
    """A sentence for each use of a name that some version lacks and that is not asked for."""
    asked = {
        node.args[1].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "hasattr" and isinstance(node.args[1], ast.Constant)
    }
    found = []
    for line, name in used(source):
        if name in COMMON or (name in GUARDED and GUARDED[name] in asked):
            continue
        where = [version for version, names in ONLY.items() if name in names]
        found.append(f"line {line}: {name} is in {' and '.join(where) + ' only' if where else 'no version'}")
    return found


SOURCES = {str(path.relative_to(ENGINE)): path.read_text() for path in sorted(ENGINE.rglob("*.py"))}


@pytest.mark.parametrize("file", SOURCES)
def test_every_name_is_in_all_versions_or_asked_for(file):
    assert complaints(SOURCES[file]) == []


def test_the_names_that_matter_are_seen_and_no_exception_is_left_over():
    seen = {name for source in SOURCES.values() for _, name in used(source)}
    assert seen >= {
        "NetworkDefinitionCreationFlag.STRONGLY_TYPED",
        "Builder.build_serialized_network",
        "IBuilderConfig.progress_monitor",
        "IProgressMonitor.step_complete",
        "ILogger.Severity.INTERNAL_ERROR",
        "ITimingCache.serialize",
        "ParserError.desc",
        "Runtime.deserialize_cuda_engine",
        "ICudaEngine.create_execution_context",
        "IExecutionContext.execute_async_v3",
    }
    assert set(GUARDED) <= seen


def test_every_name_is_in_the_real_module():
    trt = pytest.importorskip("tensorrt_rtx")
    for source in SOURCES.values():
        for _, name in used(source):
            found = trt
            for part in name.split("."):
                found = getattr(found, part)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("config.set_flag(trt.BuilderFlag.FP16)", "BuilderFlag.FP16 is in 10.16 only"),
        ("flags = 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)", "EXPLICIT_BATCH is in 10.16 only"),
        ("config.int8_calibrator = None", "IBuilderConfig.int8_calibrator is in 10.16 only"),
        ("builder.build_engine_with_config(network, config)", "build_engine_with_config is in 10.16 and 11.4 only"),
        ("self._engine.get_binding_name(0)", "ICudaEngine.get_binding_name is in no version"),
        ("config.set_compute_capability(target, 0)", "set_compute_capability is in rtx-1.7 only"),
        ("trt.Runtime(logger).get_engine_validity(b'')", "Runtime.get_engine_validity is in rtx-1.7 only"),
        ("trt.PlantedName", "PlantedName is in no version"),
        ("parser.get_error(0).planted()", "ParserError.planted is in no version"),
        ("class Monitor(trt.IProgressMonitor):\n    def phase_begun(self): ...", "phase_begun is in no version"),
    ],
)
def test_a_planted_name_is_found(line, complaint):
    found = complaints(f"trt = library()\n{line}")
    assert len(found) == 1
    assert found[0].endswith(complaint)


def test_a_name_behind_a_question_passes():
    guarded = "if hasattr(trt, 'ComputeCapability'):\n    config.set_compute_capability(trt.ComputeCapability, 0)"
    assert complaints(guarded) == []
    assert len(complaints(guarded.replace("hasattr", "print"))) == 2
