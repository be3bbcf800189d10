"""`python -m trainer.interop`: public checkpoints in and out, and our networks beside recorded numbers.

convert IN OUT    a public file (.pt, .pth) <-> a folder of ours, which --init, export and --model open
check FILE...     run our code on files of recorded inputs and outputs and print the largest differences
"""

import argparse
import sys
from pathlib import Path

from livetoon import cli
from livetoon.errors import UsageError

PICKLED = (".pt", ".pth")


def arguments() -> argparse.ArgumentParser:
    """The command's options."""
    parser = cli.parser(
        "python -m trainer.interop",
        "Convert public checkpoints to livetoon's and back, and check our networks against recorded numbers.",
        "python -m trainer.interop convert photo2cartoon_weights.pt models/photo2cartoon",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    convert = _command(
        commands,
        "convert",
        "public checkpoints to livetoon's and back",
        "Read a public checkpoint (U-GAT-IT, photo2cartoon, few-shot, Face2Webtoon, keypoint project, CycleGAN, "
        "ECE285, MobileFaceNet; told by its keys) or one of ours, and write it as the other. Of a run, the averaged "
        "weights are written. Optimizer states are not carried over.",
        "python -m trainer.interop convert selfie2anime_params_latest.pt models/selfie2anime",
    )
    convert.add_argument(
        "source", type=Path, metavar="IN", help=".pt or .pth; a run, checkpoint folder or .safetensors"
    )
    convert.add_argument("out", type=Path, metavar="OUT", help="NAME.pt or NAME.pth: the public format; else a folder")
    convert.add_argument(
        "--groups",
        metavar="A,B,...",
        help="names of a public file's groups, in its order (default: young-women,young-men,kids,elderly)",
    )
    convert.add_argument(
        "--size", type=int, metavar="PX", help="side of its pictures, where the weights do not tell it (default: 256)"
    )
    convert.set_defaults(command=_convert)
    check = _command(
        commands,
        "check",
        "our code beside recorded numbers",
        "Load the weights of each file by their public keys, run our network, losses or whole training step on its "
        "inputs and compare everything it recorded. Exit code 0 only when every tensor was loaded or lies within its "
        "tolerance.",
        "python -m trainer.interop check reference/*.safetensors",
    )
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help=".safetensors with weights, input, output")
    check.add_argument("--json", action="store_true", help="print one JSON object with `rows` and `files`")
    check.add_argument("--threads", type=int, default=1, metavar="N", help="threads to compute with (default: 1)")
    check.set_defaults(command=_check)
    return parser


def _command(commands, name: str, short: str, description: str, example: str) -> argparse.ArgumentParser:
    made = commands.add_parser(
        name,
        help=short,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")
    return made


def main(argv: list[str] | None = None) -> int:
    return cli.run(lambda options: options.command(options), arguments(), argv)


def _convert(options: argparse.Namespace) -> None:
    groups = [name.strip() for name in options.groups.split(",")] if options.groups is not None else None
    if groups is not None and (not all(groups) or len(set(groups)) < len(groups)):
        raise UsageError(f"--groups {options.groups}: expected different names with commas between them")
    if options.size is not None and (options.size < 8 or options.size % 2):
        raise UsageError(
            f"--size {options.size}: no network draws such a side; expected a multiple of 16, at least 32, like 256 "
            "(of the keypoint project 4k + 2, like 178)"
        )
    if not options.source.exists():
        raise UsageError(f"{options.source}: no such file or folder")
    if options.out.suffix == ".safetensors" or (options.out.is_file() and options.out.suffix not in PICKLED):
        raise UsageError(f"{options.out}: expected NAME.pt, NAME.pth or a folder")
    if options.out.exists() and options.out.resolve() == options.source.resolve():
        raise UsageError(f"{options.out}: is the file to convert; name another")
    if not options.out.parent.is_dir():
        raise UsageError(f"{options.out.parent}: no such folder")
    from trainer import public_files

    networks = public_files.read(options.source, groups, options.size)
    if options.out.suffix in PICKLED:
        written = public_files.write_public(networks, options.out)
    else:
        public_files.write_folder(networks, options.out)
        written = [options.out]
    for place, network in networks.items():
        count = sum(parameter.numel() for parameter in network.parameters())
        settings = ", ".join(f"{name} {_text(value)}" for name, value in network.settings.items())
        print(f"{place:<15} {network.network_name}: {settings} ({count:,} parameters)")
    print(f"wrote {', '.join(str(path) for path in written)}; optimizer states are not carried over")


def _text(value: object) -> str:
    return "+".join(str(each) for each in value) or "none" if isinstance(value, (list, tuple)) else str(value)


def _check(options: argparse.Namespace) -> int:
    if options.threads < 1:
        raise UsageError(f"--threads {options.threads}: expected 1 or more")
    if missing := [path for path in options.files if not path.is_file()]:
        raise UsageError(f"{missing[0]}: no such file")
    from trainer import interop_check

    return interop_check.run(options.files, options.threads, options.json)


if __name__ == "__main__":
    sys.exit(main())
