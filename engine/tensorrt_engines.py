"""A model's plans: what each is made of and goes by in a cache, and how it gets there.

TensorRT's plan is for one card, driver and version. TensorRT for RTX's plan is for a set of cards (targets) and one
version; what it compiles on the card at last is kept beside it.
"""

import importlib.util
import itertools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engine.backends import LATENCY, fields_of, slot
from engine.cache import Cache
from engine.cuda import Device
from engine.manifest import ModelFiles
from engine.tensorrt_plans import ALONE, RTX, TARGETS, build_plan, check_targets, library, version
from livetoon.errors import EngineError

if TYPE_CHECKING:
    from onnx import ModelProto

log = logging.getLogger(__name__)

FULL = "tensorrt"
TIMINGS = "tensorrt-timings"  # slot for all models of a card
TOLD = {"backend": "with", "device": "for", "driver": "under CUDA"}  # fields whose values are told when they differ
Key = tuple[str, dict[str, object]]  # slot of a cache, and the fields of what is in it


def package() -> str:
    """The builder to take where nobody asks for one: TensorRT where it is installed, else the one for RTX."""
    return next((name for name in (FULL, RTX) if importlib.util.find_spec(name)), FULL)


@dataclass(frozen=True)
class Recipe:
    """What a plan is made of. builder: its Python module. where: the card, or the targets, that it is for.

    pictures: whether it takes and gives uint8 pictures, or float32 planes.
    """

    files: ModelFiles
    precision: str
    batches: tuple[int, ...]
    builder: str
    where: Device | tuple[str, ...]
    pictures: bool = True

    @property
    def key(self) -> Key:
        form = [] if self.pictures else ["floats"]
        sizes = f"batch{'.'.join(map(str, self.batches))}"
        name = slot(self.files, self.files.group, self.builder, self.precision, sizes, *form, *self._targets)
        return name, {
            **fields_of(self.files, self.precision, LATENCY),  # the mode decides nothing here
            "batches": self.batches,
            "pictures": self.pictures,
            **self._made_by,
        }

    def usable(self) -> Iterator[Key]:
        """Keys of all plans that run on the card: its own first, then those for a set of cards with it among them."""
        yield self.key
        if self.builder == RTX and self.where.target != ALONE:
            others = [target for target in TARGETS if target not in (ALONE, self.where.target)]
            for count in range(1, len(others) + 1):
                for chosen in itertools.combinations(others, count):
                    yield replace(self, where=(self.where.target, *chosen)).key

    def build(self, cache: Cache, report: Callable[[str], None]) -> bytes:
        """The plan. What TensorRT measured on this card before comes from `cache`, and goes there."""
        model = self._graph()
        timing = None if self.builder == RTX else bytearray(cache.load(TIMINGS, self._made_by) or b"")
        try:
            plan = build_plan(model, self._targets, self.batches, report, self.builder, timing)
        except EngineError as error:
            raise EngineError(f"{self.files.graph(self.precision)}: {error}") from error
        if timing is not None:
            cache.store(TIMINGS, self._made_by, bytes(timing))
        return plan

    @property
    def _targets(self) -> tuple[str, ...]:
        if self.builder == FULL:
            return ()
        chosen = (self.where.target,) if isinstance(self.where, Device) else self.where
        return tuple(target for target in TARGETS if target in chosen)

    @property
    def _made_by(self) -> dict[str, object]:
        made_by = {"backend": version(library(self.builder))}
        if self.builder == FULL:
            return {**made_by, "device": str(self.where), "driver": self.where.driver}
        return {**made_by, "targets": self._targets}

    def _graph(self) -> "ModelProto":
        """One batch alone is fixed; what int8 does not quantize computes in half precision."""
        from engine.graphs import read_graph  # onnx is needed only where something is built

        batch = self.batches[0] if len(self.batches) == 1 else None
        rest = "fp16" if self.precision == "int8" else "fp32"
        return read_graph(self.files, self.precision, batch, self.pictures, rest)


def build_ahead(
    files: ModelFiles,
    precision: str,
    targets: Sequence[str],
    batches: Sequence[int],
    cache: Cache,
    report: Callable[[str], None] = log.debug,
) -> Key:
    """A plan of TensorRT for RTX for the cards `targets`, into `cache`: on any machine, whatever it has itself.

    What the cache has already, whole, is not built again. UsageError for targets that cannot be.
    """
    recipe = Recipe(files, precision, tuple(batches), RTX, check_targets(targets, precision))
    name, fields = recipe.key
    with cache.lock(name):
        if cache.load(name, fields) is None:
            cache.store(name, fields, recipe.build(cache, report))
    return name, fields


def built_elsewhere(cache: Cache, key: Key) -> str | None:
    """A sentence that says why what is in this slot does not have these fields; None where nothing else is in it."""
    name, fields = key
    path = cache.path(name)
    try:
        with open(path, "rb") as file:
            known = json.loads(file.readline())["fields"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nothing there, or nothing that can be read
    wanted = json.loads(json.dumps(fields))
    changed = sorted(field for field in {**known, **wanted} if known.get(field) != wanted.get(field))
    values = [f"{word} {known.get(field)}, not {wanted[field]}" for field, word in TOLD.items() if field in changed]
    if values:
        return f"{path} was built {', '.join(values)}"
    return f"{path} is for another {', '.join(changed)}" if changed else None
