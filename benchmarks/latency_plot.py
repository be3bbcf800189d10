"""The picture of a latency run: how long one crop takes in every row, how many crops a second larger batches give."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.contenders import SAME_DB
from livetoon.files import replacing

Row = Mapping[str, object]

# Colours that people with any colour vision tell apart (Okabe and Ito); PyTorch, the opponent, is grey
COLOURS = {
    "pytorch eager": "#6e6e6e",
    "pytorch eager passive": "#888888",
    "pytorch channels_last": "#a0a0a0",
    "torch.compile": "#404040",
    "torch": "#d55e00",
    "torch-tensorrt": "#cc79a7",
    "onnxruntime": "#e69f00",
    "openvino": "#0072b2",
    "tensorrt": "#009e73",
    "tensorrt-rtx": "#56b4e9",
}
MARKS = {"fp32": "o", "fp16": "s", "bf16": "D", "int8": "^"}
PANEL, BAR, LINES, ENDS = 7.5, 0.3, 3.6, 1.6  # inches: width of a model, height of a row, of the lower half, of titles
ROOM = 1.55  # of the longest bar: what its words need beside it


def write(result: Mapping[str, object], path: Path) -> None:
    """Draw `result` (latency.py --json) to `path`, .png, .svg or .pdf."""
    models = list(result["models"])
    alone = {name: [row for row in result["rows"] if row["model"] == name and row["batch"] == 1] for name in models}
    together = len({row["batch"] for row in result["rows"]}) > 1
    upper = max(1.5, BAR * max(len(rows) for rows in alone.values()))
    heights = [upper] * any(alone.values()) + [LINES] * together
    figure = Figure((PANEL * len(models), sum(heights) + ENDS * len(heights)), layout="constrained")
    grid = figure.subplots(len(heights), len(models), height_ratios=heights, squeeze=False)
    for place, name in enumerate(models):
        below = iter(grid[:, place])
        if any(alone.values()):
            _bars(next(below), name, alone[name], result["models"][name])
        if together:
            _lines(next(below), name, [row for row in result["rows"] if row["model"] == name])
    figure.suptitle(_title(result), fontsize=10)
    with replacing(path, path.suffix) as temporary:
        figure.savefig(temporary, dpi=110, format=path.suffix.removeprefix("."))


def _bars(axes: Axes, name: str, rows: Sequence[Row], asked: Row) -> None:
    """Milliseconds of one crop, the fastest row on top."""
    rows = sorted(rows, key=lambda row: row["p50_ms"], reverse=True)
    axes.set_title(f"{name}: one crop of {asked['size']} px, {asked['gmac']:.2f} GMAC", fontsize=11)
    for place, row in enumerate(rows):
        one_of_many = row["threads"] == 1 and any(other["threads"] not in (1, None) for other in rows)
        axes.barh(place, row["p50_ms"], color=COLOURS.get(row["backend"], "#000000"), alpha=0.55 if one_of_many else 1)
        axes.plot([row["p50_ms"], row["p95_ms"]], [place, place], color="#202020", linewidth=1)
        axes.plot(row["p95_ms"], place, "|", color="#202020", markersize=6)
        axes.annotate(
            _words(row),
            (row["p95_ms"], place),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},  # over the line of the roof
        )
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows], fontsize=8)
    longest = max((row["p95_ms"] for row in rows), default=1)
    axes.set_xlim(0, longest * ROOM)
    axes.set_xlabel("milliseconds, median and 95th percentile; times as fast as PyTorch eager on all cores; PSNR")
    if roof := _roof_ms(rows):
        axes.axvline(roof, color="#202020", linewidth=1, linestyle=":")
        axes.text(roof, len(rows) - 0.35, f" float32 roof {roof:.0f} ms", fontsize=7, va="bottom")
    _tidy(axes)


def _lines(axes: Axes, name: str, rows: Sequence[Row]) -> None:
    """Crops a second by batch, of the rows that take all cores."""
    axes.set_title(f"{name}: crops a second", fontsize=11)
    most = max((row["threads"] or 1 for row in rows), default=1)
    series: dict[str, list[Row]] = {}
    for row in rows:
        if row["threads"] in (most, None):
            series.setdefault(_label(row, threads=False), []).append(row)
    for label, of_one in sorted(series.items(), key=lambda item: -max(row["images_per_s"] for row in item[1])):
        first = of_one[0]
        axes.plot(
            [row["batch"] for row in of_one],
            [row["images_per_s"] for row in of_one],
            color=COLOURS.get(first["backend"], "#000000"),
            marker=MARKS.get(first["precision"], "o"),
            linestyle="--" if first["cuda_graphs"] is False else "-",
            markersize=5,
            linewidth=1.2,
            label=label,
        )
    axes.set_xticks(sorted({row["batch"] for row in rows}))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("crops a call")
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
    _tidy(axes)


def _title(result: Mapping[str, object]) -> str:
    machine = result["machine"]
    where = machine.get("gpu") or f"{machine['processor']}, {machine['cores']} cores"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if name != "numpy")
    crops = result["crops"]
    hurried = " (quick: a look, not a figure)" if result["quick"] else ""
    return (
        f"livetoon latency on {where}{hurried}\n{versions}\n"
        f"PSNR: mean over {crops['judged']} crops against PyTorch in float32, range 2"
    )


def _label(row: Row, threads: bool = True) -> str:
    words = [row["backend"], row["precision"]]
    if threads and row["threads"] is not None:
        words.append(f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}")
    if row["device"] == "cuda":
        words.append({True: "GPU, graphs", False: "GPU, no graphs", None: "GPU"}[row["cuda_graphs"]])
    return ", ".join([" ".join(words[:2]), *words[2:]])


def _words(row: Row) -> str:
    decibels = "same" if row["psnr_db"] >= SAME_DB else f"{row['psnr_db']:.0f} dB"
    strongest = ", strongest PyTorch" if row["strongest_pytorch"] else ""
    milliseconds = f"{row['p50_ms']:.{0 if row['p50_ms'] >= 100 else 1}f} ms"
    return f"{milliseconds}, {row['ratio_to_eager']:.1f}x, {decibels}{strongest}"


def _roof_ms(rows: Sequence[Row]) -> float | None:
    """Of all cores of the processor; a picture that is about a GPU has none."""
    if any(row["device"] != "cpu" for row in rows):
        return None
    return min((row["roofline_share"] * row["p50_ms"] for row in rows), default=None)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_size(8)
