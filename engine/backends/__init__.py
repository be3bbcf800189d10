"""One file per backend. A backend registers itself; its own library is imported when it is used, not before.

A new backend is one file in this folder and one decorator: no list elsewhere is touched.
"""

import contextlib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.cache import ENGINES, Cache
from engine.manifest import ModelFiles
from livetoon import __version__
from livetoon.errors import EngineError, UsageError

PRECISIONS = ("fp32", "fp16", "bf16", "int8")  # those that there are names for; a backend has some of them
LATENCY, THROUGHPUT = "latency", "throughput"
MODES = (LATENCY, THROUGHPUT)
UNUSABLE = (ImportError, OSError, EngineError)  # a library that cannot be loaded, a device that is not there


@dataclass(frozen=True)
class Options:
    """How a model is to be run, checked.

    threads: None lets the backend measure. batches: sizes that engines are compiled for, from small to large, each
    once. mode: "latency", one crop as soon as possible, or "throughput", as many crops a second as possible.
    """

    threads: int | None = None
    batches: tuple[int, ...] = (1,)
    mode: str = LATENCY


class Backend(Protocol):
    """A runner's class. Its constructor compiles `files`, or takes the compiled engines from `cache`."""

    backend_name: str
    library: str

    @staticmethod
    def rank() -> float:
        """`auto` tries low ranks first."""
        ...

    @staticmethod
    def precisions(stored: Sequence[str]) -> tuple[str, ...]:
        """What this machine runs of a model that has graphs for `stored`, the default first. Loads the library.

        One of UNUSABLE where the backend cannot be used here.
        """
        ...

    @staticmethod
    def engine_keys(files: ModelFiles, precision: str, options: Options) -> dict[str, dict[str, object]]:
        """Cache slot -> fields of each engine that the constructor takes from its cache. Compiles nothing."""
        ...

    def __init__(self, files: ModelFiles, precision: str, options: Options, cache: Cache): ...


_REGISTRY: dict[str, type[Backend]] = {}


def slot(files: ModelFiles, *parts: object) -> str:
    """Name of a cache slot of this model and these parts.

    The user's cache folder keeps folders of the same name apart; engines that a model folder brings along are found
    wherever it lies.
    """
    place = () if (files.folder / ENGINES).is_dir() else (files.place,)
    return "-".join(map(str, (files.manifest.name, *parts, *place)))


def fields_of(files: ModelFiles, precision: str, mode: str) -> dict[str, object]:
    """What decides every engine of this model; a backend adds its own and its device's version."""
    return {
        "livetoon": __version__,  # what we write around a graph
        "digest": files.digest(precision),
        "precision": precision,
        "size": files.manifest.size,
        "mode": mode,
    }


def backend(name: str, library: str, rank: float | Callable[[], float]) -> Callable:
    """Class decorator: register a backend that needs the Python module `library`.

    `auto` tries low ranks first. A function decides by what the machine has, without loading the library.
    """

    def register(cls):
        cls.backend_name, cls.library = name, library
        cls.rank = staticmethod(rank if callable(rank) else lambda: rank)
        _REGISTRY[name] = cls
        return cls

    return register


def names() -> list[str]:
    """Every registered backend, in the order in which `auto` tries them."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(_REGISTRY, key=lambda name: _REGISTRY[name].rank())


def installed() -> list[str]:
    """Backends whose library is there, in the order in which `auto` tries them."""
    return [name for name in names() if importlib.util.find_spec(_REGISTRY[name].library)]


def candidates(name: str) -> list[type[Backend]]:
    """The backend called `name`, or every installed one for "auto"."""
    if name == "auto":
        return [_REGISTRY[each] for each in installed()]
    if name not in names():
        raise UsageError(f"backend {name!r}: expected auto or one of {', '.join(names())}")
    if name not in installed():
        raise EngineError(f"backend {name} needs the Python package {_REGISTRY[name].library}: pip install it")
    return [_REGISTRY[name]]


def usable(stored: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Backends that run a model which has graphs for `stored` on this machine, with their precisions; in the order of
    `auto`. Loads every library."""
    found = {}
    for each in candidates("auto"):
        with contextlib.suppress(*UNUSABLE):
            found[each.backend_name] = each.precisions(stored)
    return found
