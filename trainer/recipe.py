"""A run as a file: what `python -m trainer.run --recipe FILE.json` was told, to be repeated.

    {"preset": "live", "data": ["data/pairs"], "masks": "models/segmenter.onnx", "set": {"stage1_steps": 4000}}

A key is an option of the command without its dashes; `set` holds fields of the preset, `makes` is for readers. Options
that are given beside the recipe come after it: they add folders, and replace everything else.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from livetoon.errors import UsageError

FOLDER = Path(__file__).parent / "recipes"
FILES = ("data", "photos", "face-id", "identity", "points", "masks", "init")  # relative to --root
VALUES = ("preset", "groups", "basic", "ada", "group-loss")
SWITCHES = ("no-face-id", "qat", "as-published")
FOR_READERS = ("makes",)
KEYS = (*VALUES, *FILES, *SWITCHES, "set", *FOR_READERS)


def arguments(recipe: Path, root: Path) -> list[str]:
    """The command line that `recipe` stands for; its relative paths begin at `root`.

    `recipe` may be the bare name of one of livetoon's own. UsageError for a file that is none, or names what the
    command does not know.
    """
    said = _read(recipe)
    if unknown := said.keys() - set(KEYS):
        raise UsageError(f"--recipe {recipe}: {sorted(unknown)[0]}: no such key; expected {', '.join(KEYS)}")
    return [word for key, value in said.items() for word in _words(recipe, key, value, root)]


def expanded(options: argparse.Namespace, parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """`options` with what their recipe says before them."""
    if options.recipe is None:
        if options.root is not None:
            raise UsageError("--root: says where the paths of a recipe begin; name one with --recipe")
        return options
    return parser.parse_args([*arguments(options.recipe, options.root or Path()), *argv])


def _read(recipe: Path) -> dict:
    own = FOLDER / f"{recipe}.json"
    place = own if not recipe.exists() and own.is_file() else recipe
    try:
        said = json.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        own_names = ", ".join(sorted(path.stem for path in FOLDER.glob("*.json")))
        raise UsageError(f"--recipe {recipe}: {error.strerror}; livetoon's own: {own_names}") from None
    except ValueError as error:
        raise UsageError(f"--recipe {recipe} is not JSON ({error})") from None
    if not isinstance(said, dict):
        raise UsageError(f'--recipe {recipe}: expected {{"preset": ..., "data": [...], "set": {{...}}}}')
    return said


def _words(recipe: Path, key: str, value: object, root: Path) -> Iterator[str]:
    many = value if isinstance(value, list) else [value]
    if key in FOR_READERS:
        return
    if key == "set" and isinstance(value, dict):
        for name, number in value.items():
            yield from ("--set", f"{name}={number}")
    elif key in FILES and all(isinstance(path, str) for path in many) and (len(many) == 1 or key in FILES[:2]):
        for path in many:
            yield from (f"--{key}", path if "://" in path else str(root / path))
    elif key in VALUES and isinstance(value, str):
        yield from (f"--{key}", value)
    elif key in SWITCHES and isinstance(value, bool):
        yield from [f"--{key}"] if value else []
    else:
        raise UsageError(f"--recipe {recipe}: {key}: {json.dumps(value)} is no value for it")
