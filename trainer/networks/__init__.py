"""One file per network family. A family registers itself; `build(name, **settings)` makes one.

A new network is one file in this folder and one decorator: no list elsewhere is touched.
"""

import importlib
import pkgutil
from collections.abc import Callable

from torch import nn

from livetoon.errors import ModelError

_REGISTRY: dict[str, Callable[..., nn.Module]] = {}


def network(name: str) -> Callable:
    """Class decorator: register a network under `name`."""

    def register(cls):
        _REGISTRY[name] = cls
        cls.network_name = name
        return cls

    return register


def names() -> list[str]:
    """Every registered network, sorted."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(_REGISTRY)


def build(name: str, **settings) -> nn.Module:
    """Make the network registered as `name`.

    >>> build("live", groups=["young-women"]).groups
    ('young-women',)
    """
    if name not in names():
        raise ModelError(f"unknown network {name!r}: expected one of {', '.join(names())}")
    return _REGISTRY[name](**settings)
