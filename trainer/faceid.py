"""`python -m trainer.faceid train IN --out FILE`: learn a face-ID network; `compare FILE A B`: try one."""

import dataclasses
import json
import sys
from pathlib import Path

from livetoon import cli
from livetoon.errors import UsageError


def arguments():
    """The command's options."""
    from trainer.people import Recipe

    parser = cli.parser(
        "python -m trainer.faceid",
        "Learn a face-ID network from folders of people, or compare two pictures by one.",
        "python -m trainer.faceid train faces --out faceid.safetensors --hold-out 0.2",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = commands.add_parser(
        "train",
        help="learn from IN/<person>/*.jpg with the ArcFace loss (arXiv 1801.07698)",
        description="Learn a MobileFaceNet from IN/<person>/*.jpg with the ArcFace loss. The pictures are faces, "
        "aligned; python -m trainer.prepare makes heads that --pictures heads cuts the face out of. "
        "Ctrl-C saves, --resume goes on.",
    )
    train.add_argument("folder", type=Path, metavar="IN", help="folder with a folder of pictures for each person")
    train.add_argument("--out", type=Path, required=True, metavar="FILE", help="the network, a .safetensors file")
    for field in dataclasses.fields(Recipe):
        train.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=field.default,
            help=f"{field.metadata['help'].replace('%', '%%')} (default: {field.default})",
        )
    train.add_argument("--minutes", type=float, help="stop after them, saved; --resume goes on (default: never)")
    train.add_argument("--device", default="cpu", help="where torch computes: cpu or cuda (default: cpu)")
    train.add_argument("--resume", action="store_true", help="go on with --out, with the options it was begun with")
    train.add_argument("--json", type=Path, metavar="FILE", help="write the last figures there too")
    compare = commands.add_parser(
        "compare",
        help="cosine of two pictures: near 1 for one person, near 0 for two",
        description="Print the cosine of two pictures: near 1 for one person, near 0 for two.",
    )
    compare.add_argument(
        "model", type=Path, metavar="FILE", help=".pth, .pt, .safetensors or .onnx of a face-ID network"
    )
    compare.add_argument("first", type=Path, metavar="A")
    compare.add_argument("second", type=Path, metavar="B")
    compare.add_argument(
        "--pictures",
        choices=("faces", "heads"),
        default="faces",
        help="faces, or heads out of which the face is cut as a run does it (default: faces)",
    )
    compare.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    (_train if options.command == "train" else _compare)(options)


def _train(options) -> None:
    from livetoon.files import write_json
    from trainer.people import Recipe

    recipe = Recipe(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Recipe)}).checked()
    if options.out.suffix != ".safetensors":
        raise UsageError(f"--out {options.out}: expected a name that ends in .safetensors")
    if options.minutes is not None and not options.minutes > 0:
        raise UsageError(f"--minutes {options.minutes}: expected more than 0")
    if options.device not in ("cpu", "cuda"):
        raise UsageError(f"--device {options.device}: expected cpu or cuda")
    import torch

    from trainer.arcface import learn

    if options.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no GPU here")
    figures = learn(options.folder, options.out, recipe, options.resume, options.minutes, options.device)
    print(f"{options.out}: " + "  ".join(f"{name} {_short(value)}" for name, value in figures.items()))
    if options.json:
        write_json(options.json, figures)


def _compare(options) -> None:
    import torch

    from faces.pictures import read
    from trainer.identity_files import load_face_id

    identity = load_face_id(options.model)
    side = identity.size if options.pictures == "faces" else 256
    pictures = [torch.from_numpy(read(path, side)) for path in (options.first, options.second)]
    batch = torch.stack(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.inference_mode():
        first, second = identity.embed(batch) if options.pictures == "faces" else identity(batch)
    cosine = (first @ second).item()
    print(json.dumps({"cosine": cosine, "distance": 1 - cosine}) if options.json else f"cosine {cosine:.4f}")


def _short(value: float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
