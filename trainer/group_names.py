"""What a group of people may be called: its name is a folder's, an option's and a network part's."""

import re
from collections.abc import Iterable

from livetoon.errors import UsageError

NAME = re.compile(r"[\w-]+")


def check_names(groups: Iterable[str], option: str = "--groups") -> None:
    """UsageError, which begins with `option`, for the first name that no group can have."""
    for name in groups:
        if why := why_not(name):
            raise UsageError(f"{option}: {name!r} cannot name a group ({why}); choose another name")


def why_not(name: str) -> str:
    """Why no group can be called so; empty where one can.

    >>> why_not("a.b")
    'expected letters, digits, _ and -'
    """
    if not NAME.fullmatch(name):
        return "expected letters, digits, _ and -"
    if name.isidentifier():  # other names are nobody's attribute, and need no torch to tell
        from torch import nn

        if hasattr(nn.ModuleDict(), name):
            return "torch uses it"
    return ""
