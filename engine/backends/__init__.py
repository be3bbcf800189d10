"""One file per backend. A backend registers itself; its own library is imported when it is used, not before.

A new backend is one file in this folder and one decorator: no list elsewhere is touched.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Sequence
from typing import Protocol

from engine.cache import Cache
from engine.manifest import ModelFiles
from livetoon.errors import EngineError, UsageError


class Backend(Protocol):
    """A runner's class. Its constructor compiles `files`, or takes the compiled engine from `cache`."""

    backend_name: str
    library: str
    rank: int

    @staticmethod
    def precisions(stored: Sequence[str]) -> tuple[str, ...]:
        """What this machine runs of a model that has graphs for `stored`, the default first. Loads the library."""
        ...

    def __init__(self, files: ModelFiles, precision: str, threads: int | None, cache: Cache): ...


_REGISTRY: dict[str, type[Backend]] = {}


def backend(name: str, library: str, rank: int) -> Callable:
    """Class decorator: register a backend that needs the Python module `library`; `auto` tries low ranks first."""

    def register(cls):
        cls.backend_name, cls.library, cls.rank = name, library, rank
        _REGISTRY[name] = cls
        return cls

    return register


def names() -> list[str]:
    """Every registered backend, in the order in which `auto` tries them."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(_REGISTRY, key=lambda name: _REGISTRY[name].rank)


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
