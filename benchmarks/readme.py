"""`python -m benchmarks.readme`: write the figures of README and guide from benchmarks/results; `--check` compares.

results/<machine>-latency.json     benchmarks/latency.py --json
results/<machine>-streaming.json   benchmarks/streaming.py --json
results/quality.json               python -m trainer.evaluate --json
results/<machine>-quality.json     python -m benchmarks.quality --json
results/<machine>-left-out.json    python -m benchmarks.left_out --json
results/<machine>-training.json    benchmarks/training.py --json
results/comparison*.json           benchmarks/comparison.py --json
results/<machine>-faces.json       benchmarks/faces.py --json
"""

import json
import sys
from pathlib import Path

from benchmarks import comparison
from benchmarks.contenders import EAGER, PYTORCH, SAME_DB
from livetoon import cli
from livetoon.errors import DataError
from livetoon.files import replacing

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PLACES = {"l1": 4, "psnr_db": 2, "alpha_accuracy": 4}
PAGES = (ROOT / "README.md", ROOT / "docs" / "training.md", ROOT / "docs" / "faces.md")
END = "<!-- /figures -->"


def arguments():
    """The command's options."""
    command = "python -m benchmarks.readme"
    parser = cli.parser(command, "Write the figures of README and guide from results.", command)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a page is out of date")
    parser.add_argument("--page", action="append", type=Path, help="file with the marks (default: README and guide)")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    for page in options.page or PAGES:
        text = page.read_text(encoding="utf-8")
        wanted = replaced(text)
        if options.check and wanted != text:
            raise DataError(f"{page}: figures are not those of {RESULTS}; run python -m benchmarks.readme")
        if wanted != text:
            with replacing(page) as temporary:
                temporary.write_text(wanted, encoding="utf-8")


def replaced(text: str) -> str:
    """`text` with the figures of every kind whose marks it has replaced; DataError where there are none."""
    kinds = {f"<!-- {kind}:": make for kind, make in KINDS.items() if f"<!-- {kind}:" in text}
    if not kinds:
        raise DataError(f"no marks `<!-- {' or '.join(KINDS)}: ... -->` and `{END}` in this order")
    for start, make in kinds.items():
        begin, end = text.find(start), text.find(END, text.find(start))
        if end < 0:
            raise DataError(f"no mark `{END}` after `{start} ... -->`")
        head = text[: text.index("\n", begin) + 1]
        text = f"{head}\n{make(RESULTS)}\n{text[end:]}"
    return text


def live_figures(results: Path) -> str:
    """How fast and how good the shipped model is, as Markdown tables."""
    parts = [_latency(_read(path)) for path in sorted(results.glob("*-latency.json"))]
    parts += [_streaming(_read(path)) for path in sorted(results.glob("*-streaming.json"))]
    parts += [_quality(_read(path)) for path in sorted(results.glob("quality.json"))]
    parts += [_people(_read(path)) for path in sorted(results.glob("*-quality.json"))]
    parts += [_left_out(_read(path)) for path in sorted(results.glob("*-left-out.json"))]
    return "\n\n".join(parts) + "\n"


def training_figures(results: Path) -> str:
    """How fast training is, and how the methods compare, as Markdown tables."""
    parts = [_training(_read(path)) for path in sorted(results.glob("*-training.json"))]
    parts += [_comparison(_read(path)) for path in sorted(results.glob("comparison*.json"), key=lambda path: path.stem)]
    return "\n\n".join(parts) + "\n"


def faces_figures(results: Path) -> str:
    """How well faces are found, sorted and followed, as Markdown tables."""
    return "\n\n".join(_faces(_read(path)) for path in sorted(results.glob("*-faces.json"))) + "\n"


KINDS = {"figures": live_figures, "training figures": training_figures, "faces figures": faces_figures}


def _read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def _machine(result: dict) -> str:
    machine = result["machine"]
    return f"{machine['cores']} cores of {machine['processor']}"


def _latency(result: dict) -> str:
    rows = [
        [
            row["model"],
            _runs_in(row),
            row["precision"],
            "GPU" if row["threads"] is None else row["threads"],
            f"{row['p50_ms']:.1f}",
            f"{row['p95_ms']:.1f}",
            f"{row['ratio_to_eager']:.2f}",
            f"{row['psnr_db']:.1f}" if row.get("psnr_db", SAME_DB) < SAME_DB else "reference",
        ]
        for row in result["rows"]
        if _is_shown(row)
    ]
    title = f"One face of 256 px, {_machine(result)} (`benchmarks/latency.py`):"
    columns = ["model", "backend", "precision", "threads", "p50 ms", "p95 ms", "times eager", "PSNR dB"]
    left_out = [row for row in result.get("left_out", []) if row["batch"] == 1]
    said = sorted({f"{row['model']}, {row['backend']} {row['precision']}: {row['why']}." for row in left_out})
    return "\n\n".join([title, _table(columns, rows), *said])


def _is_shown(row: dict) -> bool:
    """One crop a call: of PyTorch eager on all cores and what is strongest, of engines every arithmetic once."""
    if row["batch"] != 1:
        return False
    if row["backend"] in PYTORCH:
        return (row["backend"] == EAGER and row["ratio_to_eager"] == 1) or row["strongest_pytorch"]
    return not (row["precision"] == "fp16" and row.get("arithmetic") == "f32")


def _runs_in(row: dict) -> str:
    graphs = {True: " with CUDA graphs", False: " without CUDA graphs"}.get(row.get("cuda_graphs"), "")
    return row["backend"] + graphs + (", strongest PyTorch" if row.get("strongest_pytorch") else "")


PEOPLE = ("kind ", "skin CIELAB", "glasses ", "still face", "clip ")  # names of figures begin so
ALONE = "of the network alone"


def _people(result: dict) -> str:
    """What a judge sees in everybody's drawings as they are shown, beside the photo and the baseline."""
    shown = [f for f in result["figures"] if f["name"].startswith(PEOPLE) and ALONE not in f["name"]]
    models = list(dict.fromkeys(figure["model"] for figure in shown))
    rows = []
    for name in dict.fromkeys(figure["name"] for figure in shown):
        values = {figure["model"]: figure for figure in shown if figure["name"] == name}
        bar = next((figure["bar"] for figure in values.values() if figure["bar"] is not None), None)
        rows.append(
            [name, "-" if bar is None else f"{bar:g}"]
            + [f"{values[model]['value']:.3g}" if model in values else "-" for model in models]
        )
    bars = {m: [f["holds"] for f in result["figures"] if f["model"] == m and f["holds"] is not None] for m in models}
    most = max(bars, key=lambda name: len(bars[name]))  # of the model everything was measured
    title = (
        f"Held-out people as a judge of age and sex sees their drawings, own colours {result['tone']:g} and features "
        f"{result['detail']:g} (`python -m benchmarks.quality`; {sum(bars[most])} of {len(bars[most])} bars hold for "
        f"{most}):"
    )
    return title + "\n\n" + _table(["figure", "aimed at", *models], rows)


def _left_out(result: dict) -> str:
    """The few-shot paper's own drawings beside ours of people whom ours never saw."""
    figures = result["figures"]
    models = list(dict.fromkeys(figure["model"] for figure in figures))
    value = {(figure["name"], figure["model"]): figure["value"] for figure in figures}
    rows = [
        [name.removeprefix("paper "), *(f"{value[name, model]:.3g}" for model in models)]
        for name in dict.fromkeys(figure["name"] for figure in figures)
    ]
    title = (
        f"The few-shot paper's own drawings of {figures[0]['pictures']} people of each group, beside ours by branches "
        "that never saw them (`python -m benchmarks.left_out`; the first group's branch did):"
    )
    return title + "\n\n" + _table(["figure", *models], rows)


def _faces(result: dict) -> str:
    found = [
        [name, f"{100 * part['found']:.1f} % of {part['pictures']}"]
        for name, part in result["search"].items()
        if isinstance(part, dict) and "found" in part
    ]
    empty = result["search"]["face-free"]
    found.append(["false faces", f"{empty['false']} on {empty['crops']} crops without one"])
    if several := result["search"].get("several"):
        found.append(["faces of a picture of six people", str(several)])
    judged = []
    for name, part in result["groups"].items():
        low, high = (f"{100 * edge:.1f}" for edge in part["interval"])
        others = ", ".join(f"{100 * of['balanced_accuracy']:.1f} {who}" for who, of in part["opponents"].items())
        judged.append(
            [name, part["pictures"], f"{100 * part['balanced_accuracy']:.1f} ({low} to {high})"]
            + [f"{100 * group['accuracy']:.1f}" for group in part["per_group"].values()]
            + [others or "-"]
        )
    groups = [name for part in list(result["groups"].values())[:1] for name in part["per_group"]]
    clips = [
        [clip["clip"], f"{clip['eye_shake_px']:.2f}", clip["group_changes"], f"{100 * clip['fitted']:.1f} %"]
        for clip in result["stability"]["clips"]
    ]
    scene = result["stability"]["scene"]
    speed = [[row["what"], f"{row['p50_ms']:.1f}", f"{row['p95_ms']:.1f}"] for row in result["speed"]]
    return "\n\n".join(
        [
            "Found, in held-out photos:",
            _table(["", ""], found),
            "Told apart, in held-out photos, % right (balanced accuracy and its 95 % interval, each group, public "
            "networks at the thresholds that suit them best on these very pictures):",
            _table(["table", "pictures", "balanced", *groups, "public networks"], judged),
            f"A face that stands still before a noisy camera moves {scene['still_px']:.2f} px, the error of a moving "
            f"one changes by {scene['moving_change_px']:.2f} px a frame, and a pan of 200 px/s is followed "
            f"{scene['lag_frames']:.1f} frames late. Clips (eyes by a network that has no part in aligning):",
            _table(["clip", "eyes shake, px over 3 Hz", "group changes", "fitted"], clips),
            f"Milliseconds at 640x480 on one thread of {_machine(result)}:",
            _table(["", "p50 ms", "p95 ms"], speed),
        ]
    )


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


def _training(result: dict) -> str:
    rows = [
        [
            row["preset"],
            row["precision"],
            f"{row['size']} px, {row['batch']}",
            f"{row['step_s']:.1f} / {row['public_step_s']:.1f}",
            f"{row['ratio_to_public']:.2f}",
            f"{row['peak_memory_gb']:.1f} / {row['public_peak_memory_gb']:.1f}",
            f"{row['peak_memory_ratio']:.2f}",
        ]
        for row in result["rows"]
    ]
    title = f"A step beside the public order of work, {_machine(result)} (`benchmarks/training.py`):"
    columns = ["preset", "precision", "size, batch", "step, public s", "ratio", "peak, public GB", "ratio"]
    return f"{title}\n\n{_table(columns, rows)}"


def _comparison(result: dict) -> str:
    title = (
        f"{result['steps']:,} steps of every method, KID x 1000 by {result['features']} on held-out pictures, lower is "
        f"nearer to the drawings, {_machine(result)} (`benchmarks/comparison.py`):"
    )
    groups = tuple(result["rows"][0]["kid"])[:-1]  # the last one is the style of its own
    said = "\n".join(f"- {sentence}" for sentence in result["findings"])
    return f"{title}\n\n{comparison.table(result['rows'], groups)}\n\n{said}"


def _table(columns: list[str], rows: list[list]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
