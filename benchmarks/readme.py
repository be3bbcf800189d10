"""`python -m benchmarks.readme`: write the README's figures from benchmarks/results; `--check` only compares.

results/<machine>-latency.json     benchmarks/latency.py --json
results/<machine>-streaming.json   benchmarks/streaming.py --json
results/quality.json               python -m trainer.evaluate --json
"""

import json
import sys
from pathlib import Path

from livetoon import cli
from livetoon.errors import DataError
from livetoon.files import replacing

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PLACES = {"l1": 4, "psnr_db": 2, "alpha_accuracy": 4}
START, END = "<!-- figures:", "<!-- /figures -->"


def arguments():
    """The command's options."""
    parser = cli.parser(
        "python -m benchmarks.readme", "Write the README's figures from results.", "python -m benchmarks.readme"
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the README is out of date")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="file with the two marks")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    text = options.readme.read_text(encoding="utf-8")
    wanted = replaced(text, figures(RESULTS))
    if options.check and wanted != text:
        raise DataError(f"{options.readme}: figures are not those of {RESULTS}; run python -m benchmarks.readme")
    if wanted != text:
        with replacing(options.readme) as temporary:
            temporary.write_text(wanted, encoding="utf-8")


def replaced(text: str, between: str) -> str:
    """`text` with what stands between its two marks replaced."""
    start, end = text.find(START), text.find(END)
    if start < 0 or end < start:
        raise DataError(f"no marks `{START} ... -->` and `{END}` in this order")
    head = text[: text.index("\n", start) + 1]
    return f"{head}\n{between}\n{text[end:]}"


def figures(results: Path) -> str:
    """All tables, as Markdown."""
    parts = [_latency(_read(path)) for path in sorted(results.glob("*-latency.json"))]
    parts += [_streaming(_read(path)) for path in sorted(results.glob("*-streaming.json"))]
    parts += [_quality(_read(path)) for path in sorted(results.glob("quality.json"))]
    return "\n\n".join(parts) + "\n"


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _machine(result: dict) -> str:
    machine = result["machine"]
    return f"{machine['cores']} cores of {machine['processor']}"


def _latency(result: dict) -> str:
    rows = [
        [
            row["model"],
            row["backend"],
            row["precision"],
            row["threads"],
            f"{row['p50_ms']:.1f}",
            f"{row['p95_ms']:.1f}",
            f"{row['ratio_to_eager']:.2f}",
            f"{row['psnr_db']:.1f}" if "psnr_db" in row else "reference",
        ]
        for row in result["rows"]
    ]
    title = f"One face of 256 px, {_machine(result)} (`benchmarks/latency.py`):"
    columns = ["model", "backend", "precision", "threads", "p50 ms", "p95 ms", "times eager", "PSNR dB"]
    return f"{title}\n\n{_table(columns, rows)}"


def _streaming(result: dict) -> str:
    rows = [
        ["different cartoon frames sent", f"{result['frames_per_s']:.1f} a second"],
        ["delay, median / 95 %", f"{result['delay_ms_p50']:.0f} / {result['delay_ms_p95']:.0f} ms"],
        ["growth of the delay", f"{result['slope_ms_per_10s']:.1f} ms in 10 s"],
        ["frames with a bare face", f"{result['raw_face_frames']}"],
        ["server / browser", f"{result['server_cpu']:.0f} / {result['browser_cpu']:.0f} % of a core"],
    ]
    title = f"Live, {result['camera']}, server and browser on the same {_machine(result)} (`benchmarks/streaming.py`):"
    return f"{title}\n\n{_table(['', ''], rows)}"


def _quality(result: dict) -> str:
    names = {
        "l1": "L1",
        "ssim": "SSIM",
        "psnr_db": "PSNR dB",
        "alpha_accuracy": "alpha accuracy",
        "identity_same": "identity, same",
        "identity_others": "others",
        "found_as_nearest": "found",
    }
    keys = [key for key in names if key in result["rows"][0]]
    rows = [
        [
            row["model"],
            row["background"],
            *(f"{row[key]:.{PLACES.get(key, 3)}f}" for key in keys),
        ]
        for row in result["rows"]
    ]
    title = f"{result['rows'][0]['pairs']} held-out pairs (`python -m trainer.evaluate`):"
    return f"{title}\n\n{_table(['model', 'background', *(names[key] for key in keys)], rows)}"


def _table(columns: list[str], rows: list[list]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
