"""`python -m trainer.summary RUN`: RUN/summary.html, a run at a glance.

Curves of RUN/log/train.csv, the newest grids of RUN/samples, the last figures and the configuration, in one page that
opens from the disk: curves are inline SVG, there is no script, and nothing is fetched from anywhere.
"""

import json
import re
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

from livetoon import cli
from livetoon.errors import TrainingError, UsageError
from livetoon.files import replacing
from trainer.chart import Series, chart, number
from trainer.loggers import read_csv

NEWEST = 6  # sample sheets that stand open; older ones are folded away
QUALITY = ("KID", "FID", "L1", "identity", "change")  # families that judge come first, the losses after them
ACCURACY = "discriminator accuracy"
NOTES = {
    "KID": "lower is better",
    "FID": "lower is better",
    "L1 ": "distance of a drawing from the cartoon of its photo, lower is better",
    "identity ": "cosine of the faces in what is made and its photo, 1 is the same",
    "change": "distance of output and input",
    ACCURACY: "near 1 on both sides nothing is learnt",
}


@dataclass
class Figures:
    """A run's curves: `families[title]` holds the series of one chart; `stages` where each stage begins on its axis."""

    families: dict[str, list[Series]] = field(default_factory=dict)
    stages: dict[int, int] = field(default_factory=dict)


def arguments():
    """The command's options."""
    parser = cli.parser(
        "python -m trainer.summary",
        "Write RUN/summary.html: curves, sample pictures, figures and configuration of a run.",
        "python -m trainer.summary runs/mine",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run, finished or not")
    return parser


def main(argv: list[str] | None = None) -> int:
    return cli.run(_run, arguments(), argv)


def _run(options) -> None:
    print(write_summary(options.run))


def write_summary(run: Path) -> Path:
    """Write RUN/summary.html, whole or not at all, and return its path.

    UsageError when no run lies in the folder; TrainingError when its config.json is not JSON.
    """
    table = run / "log" / "train.csv"
    rows = read_csv(table) if table.is_file() else []
    config = _config(run / "config.json")
    samples = sorted((run / "samples").glob("*.jpg"), key=lambda path: (path.stat().st_mtime_ns, path.name))[::-1]
    if not (rows or config or samples):
        raise UsageError(f"{run}: no run lies there; expected config.json, log/train.csv or samples/")
    figures = collect(rows)
    when = datetime.fromtimestamp(max(p.stat().st_mtime for p in (table, *samples, run) if p.exists()), UTC)
    page = _page(run.resolve().name, config, figures, rows, [path.name for path in samples], when)
    path = run / "summary.html"
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _config(path: Path) -> dict:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError
        return config
    except FileNotFoundError:
        return {}
    except ValueError:
        raise TrainingError(f"{path}: not JSON; restore it or take it away") from None


def family(name: str) -> tuple[str, str]:
    """Chart and series of a figure's name.

    >>> family("young-women/cycle"), family("kid/kids/photo-cartoon"), family("A/d_real_accuracy")
    (('cycle', 'young-women'), ('KID photo-cartoon', 'kids'), ('discriminator accuracy', 'A real'))
    """
    first, *rest = name.split("/")
    last = rest[-1] if rest else first
    if side := re.fullmatch(r"d_(real|fake)_accuracy", last):
        return ACCURACY, " ".join([*name.split("/")[:-1], side[1]])
    if len(rest) >= 2:
        return f"{first.upper() if first in ('kid', 'fid', 'l1') else first} {' '.join(rest[1:])}", rest[0]
    return last, first


def collect(rows: list[tuple[int, int, str, float]]) -> Figures:
    """Rows of train.csv as curves; the steps of a stage follow those of the stage before."""
    ends: dict[int, int] = {}
    for stage, step, _, _ in rows:
        ends[stage] = max(step, ends.get(stage, 0))
    figures, begin = Figures(), 0
    for stage in sorted(ends):
        figures.stages[stage] = begin
        begin += ends[stage]
    series: dict[tuple[str, str], Series] = {}
    for stage, step, name, value in rows:
        key = family(name)
        if key not in series:
            series[key] = Series(key[1])
            figures.families.setdefault(key[0], []).append(series[key])
        series[key].points.append((figures.stages[stage] + step, value))
    for one in series.values():
        one.points.sort(key=lambda point: point[0])
    figures.families = dict(sorted(figures.families.items(), key=lambda item: _rank(item[0])))
    return figures


def _rank(title: str) -> int:
    order = (*(f"{name} " for name in QUALITY), ACCURACY)  # "identity " is a figure, "identity" alone a loss
    return next((place for place, start in enumerate(order) if title.startswith(start)), len(order))


def _colours(figures: Figures) -> dict[str, int]:
    """One colour for a series name wherever it stands: a group looks alike in all charts."""
    shared: dict[str, int] = {}
    for curves in figures.families.values():
        for one in curves:
            shared.setdefault(one.name, len(shared))
    return shared


def _page(name: str, config: dict, figures: Figures, rows: list, samples: list[str], when: datetime) -> str:
    settings = _flat(config)
    features = config.get("metric_features")
    preset = config.get("preset", {})
    kind = preset.get("name", "") if isinstance(preset, dict) else str(preset)
    place = f"stage {rows[-1][0]}, step {rows[-1][1]}" if rows else "no step logged yet"
    told = " · ".join(filter(None, [kind and f"preset {kind}", place, f"{when:%Y-%m-%d %H:%M} UTC"]))
    colours = _colours(figures)
    charts = "".join(
        chart(title, curves, _note(title, features), colours, figures.stages)
        for title, curves in figures.families.items()
    )
    parts = [
        f"<header><h1>{escape(name)}</h1><p>{escape(told)}</p></header>",
        _section("Samples", _samples(samples)),
        _section("Curves", f'<div class="charts">{charts}</div>' if charts else ""),
        _section("Figures", _figures(figures)),
        _section("Configuration", _table(["name", "value"], settings)),
    ]
    return (
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{escape(name)}: livetoon</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<style>{STYLE}</style>\n<main>\n" + "\n".join(filter(None, parts)) + "\n</main>\n</html>\n"
    )


def _note(title: str, features: str | None) -> str:
    note = next((text for start, text in NOTES.items() if title.startswith(start)), "")
    by_features = title.startswith(("KID ", "FID "))
    return f"{features or 'network not named'}, {note}" if by_features else note


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>" if body else ""


def _samples(names: list[str]) -> str:
    sheets = [
        f'<figure><a href="samples/{quote(name)}"><img src="samples/{quote(name)}" alt="" loading="lazy"></a>'
        f"<figcaption>{escape(Path(name).stem)}</figcaption></figure>"
        for name in names
    ]
    newest, older = sheets[:NEWEST], sheets[NEWEST:]
    body = f'<div class="samples">{"".join(newest)}</div>' if newest else ""
    if older:
        body += f'<details><summary>{len(older)} older</summary><div class="samples">{"".join(older)}</div></details>'
    return body


def _figures(figures: Figures) -> str:
    lines = []
    for title, curves in figures.families.items():
        for one in curves:
            values = [value for _, value in one.points if value == value]
            told = (
                [number(one.points[-1][1]), *(number(v) for v in (min(values), max(values)))] if values else ["nan"] * 3
            )
            lines.append((title, one.name, *told))
    return _table(["figure", "of", "last", "lowest", "highest"], lines)


def _flat(value: object, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [row for key, each in value.items() for row in _flat(each, f"{name}.{key}" if name else str(key))]
    if isinstance(value, dict):
        return [(name, "")] if name else []
    if isinstance(value, list):
        return [(name, ", ".join(str(each) for each in value))]
    return [(name, str(value))]


def _table(head: list[str], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    cells = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return (
        f"<table><thead><tr>{''.join(f'<th>{each}</th>' for each in head)}</tr></thead><tbody>\n{cells}</tbody></table>"
    )


STYLE = (
    """
:root { --paper: #f7f4ee; --card: #fffdf9; --ink: #1f1b16; --soft: #6a6258; --line: #e4ddd1; --accent: #b9311c;
  --c0: #2a78d6; --c1: #eb6834; --c2: #1baf7a; --c3: #c98500; --c4: #d55181; --c5: #008300; --c6: #4a3aa7;
  --c7: #c22f2e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14120f; --card: #1e1b17; --ink: #f3eee5; --soft: #a89f91;
  --line: #35302a; --accent: #ff7a5f; --c0: #3987e5; --c1: #e8733a; --c2: #1fb07c; --c3: #d99a1c; --c4: #e87ba4;
  --c5: #39a339; --c6: #9085e9; --c7: #e66767; } }
* { box-sizing: border-box; margin: 0; }
body { background: var(--paper); color: var(--ink); font: 15px/1.5 ui-rounded, "SF Pro Rounded", Nunito, "Segoe UI",
  system-ui, -apple-system, Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main { width: min(1240px, 100%); margin-inline: auto; padding: 28px clamp(14px, 3vw, 28px) 60px; }
h1 { font-size: 1.7rem; line-height: 1.2; letter-spacing: -0.02em; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 34px 0 12px; }
header p, figcaption, .note { color: var(--soft); }
a { color: inherit; }
.charts { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 370px), 1fr)); }
.chart, .samples figure, table { background: var(--card); border: 1px solid var(--line); border-radius: 14px; }
.chart { display: flex; flex-direction: column; padding: 14px 16px 10px; min-width: 0; }
.chart h3 { font-size: 0.95rem; overflow-wrap: anywhere; }
.note { font-size: 0.8rem; }
.note:empty { display: none; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; padding: 0; font-size: 0.8rem; list-style: none; }
.legend svg { width: 22px; height: 8px; margin-right: 5px; vertical-align: middle; }
.legend b { font-weight: 600; font-variant-numeric: tabular-nums; }
.chart > svg { display: block; width: 100%; height: auto; margin-top: auto; padding-top: 8px; }
svg text { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--line); }
.stage { stroke: var(--soft); stroke-dasharray: 2 4; }
.curve { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.d1 { stroke-dasharray: 6 4; }
.d2 { stroke-dasharray: 1.5 4; }
"""
    + "".join(f".k{n} {{ stroke: var(--c{n}); }} .dot.k{n} {{ fill: var(--c{n}); }}\n" for n in range(8))
    + """
.samples { display: grid; gap: 16px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 370px), 1fr)); }
.samples figure { padding: 10px; }
.samples img { display: block; width: 100%; height: auto; border-radius: 8px; background: #fff; }
figcaption { padding-top: 6px; font-size: 0.85rem; }
details { margin-top: 14px; }
summary { cursor: pointer; padding: 6px 0 12px; }
section { overflow-x: auto; }
table { width: 100%; border-collapse: separate; border-spacing: 0; overflow: hidden; font-size: 0.87rem; }
th { text-align: left; font-weight: 600; color: var(--soft); }
th, td { padding: 5px 14px; overflow-wrap: anywhere; }
tbody td { border-top: 1px solid var(--line); font-variant-numeric: tabular-nums; }
"""
)


if __name__ == "__main__":
    sys.exit(main())
