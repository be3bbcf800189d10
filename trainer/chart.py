"""One line chart as HTML with inline SVG: title, legend with the last values, axes with round numbers, curves."""

import math
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 420, 230  # units of the viewBox; the page scales it
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 18, 24
MOST_POINTS = 300  # of a curve: more than the chart is wide in pixels cannot be seen; more are averaged
DOTS_UP_TO = 24  # points of a curve that get a dot each, with its value when pointed at
COLOURS, DASHES = 8, 3  # classes k0.. and d0.. of the page's style


@dataclass
class Series:
    """A curve: its name, and (step, value) in the order of steps."""

    name: str
    points: list[tuple[float, float]] = field(default_factory=list)


def chart(title: str, curves: list[Series], note: str, colours: dict[str, int], stages: dict[int, int]) -> str:
    """The chart of `curves`; `colours` numbers the series names, `stages` says at which step each stage begins.

    A value that is no finite number breaks its curve; a chart without any finite value says so.
    """
    seen = [point for one in curves for point in one.points if math.isfinite(point[1])]
    marks = "".join(_legend(one, colours[one.name]) for one in curves)
    head = (
        f'<article class="chart"><h3>{escape(title)}</h3><p class="note">{escape(note)}</p>'
        f'<ul class="legend">{marks}</ul>'
    )
    if not seen:
        return f"{head}<p>no finite value</p></article>\n"
    shown = {one.name: [_thinned(run) for run in _runs(one.points)] for one in curves}
    values = [value for parts in shown.values() for part in parts for _, value in part]
    low, high, x_end = min(values), max(values), max(step for step, _ in seen)
    x_ticks = ticks(0, x_end, 5)
    y_ticks = ticks(0 if 0 < low < 0.5 * high else low, high, 5)  # zero is shown where it is near
    bottom, top = y_ticks[0], y_ticks[-1]

    def at(step: float, value: float) -> tuple[float, float]:
        across = (WIDTH - LEFT - RIGHT) * step / (x_end or 1)
        up = (HEIGHT - TOP - BOTTOM) * (value - bottom) / ((top - bottom) or 1)
        return LEFT + across, HEIGHT - BOTTOM - up

    drawn = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for value in y_ticks:
        _, y = at(0, value)
        drawn.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.2f}" y2="{y:.2f}"/>')
        drawn.append(f'<text class="y" x="{LEFT - 6}" y="{y + 4:.2f}" text-anchor="end">{number(value)}</text>')
    for step in x_ticks:
        if step <= x_end:
            x, _ = at(step, bottom)
            drawn.append(f'<text class="x" x="{x:.2f}" y="{HEIGHT - 6}" text-anchor="middle">{number(step)}</text>')
    for one in curves:
        drawn.append(_curve(one, shown[one.name], colours[one.name], at))
    for stage, step in stages.items():
        if 0 < step < x_end:
            x, _ = at(step, bottom)
            drawn.append(f'<line class="stage" x1="{x:.2f}" x2="{x:.2f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
            drawn.append(f'<text x="{x:.2f}" y="{TOP - 6}" text-anchor="middle">stage {stage}</text>')
    return head + "\n".join([*drawn, "</svg></article>\n"])


def _curve(one: Series, parts: list[list[tuple[float, float]]], colour: int, at) -> str:
    drawn = []
    dotted = sum(len(part) for part in parts) <= DOTS_UP_TO
    for part in parts:
        places = " ".join("{:.2f},{:.2f}".format(*at(*point)) for point in part)
        if len(part) > 1:
            told = f"<title>{escape(one.name)}</title>"
            drawn.append(f'<polyline class="curve {_style(colour)}" points="{places}">{told}</polyline>')
        for step, value in part if dotted or len(part) == 1 else ():
            x, y = at(step, value)
            told = f"<title>{escape(one.name)}: {number(value)} at {step:g}</title>"
            kind = f"dot k{colour % COLOURS}"
            drawn.append(f'<circle class="{kind}" cx="{x:.2f}" cy="{y:.2f}" r="2.4">{told}</circle>')
    return "\n".join(drawn)


def _legend(one: Series, colour: int) -> str:
    line = f'<svg viewBox="0 0 22 8"><line class="curve {_style(colour)}" x1="1" x2="21" y1="4" y2="4"/></svg>'
    return f"<li>{line}{escape(one.name)} <b>{number(one.points[-1][1])}</b></li>"


def _style(colour: int) -> str:
    return f"k{colour % COLOURS} d{colour // COLOURS % DASHES}"


def _runs(points: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The stretches of finite values."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    size = math.ceil(len(points) / MOST_POINTS)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(s for s, _ in part) / len(part), sum(v for _, v in part) / len(part)) for part in parts]


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers, 1, 2 or 5 times a power of ten apart, that enclose [low, high].

    >>> ticks(0, 0.83, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high <= low:
        high = low + (abs(low) or 1)
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def number(value: float) -> str:
    """Four digits at most; from ten thousand on as k, from a million on as M.

    >>> number(0.123456), number(25000), number(-0.00012), number(1500000)
    ('0.1235', '25k', '-0.00012', '1.5M')
    """
    for limit, one, unit in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if math.isfinite(value) and abs(value) >= limit:
            return f"{value / one:.4g}{unit}"
    return f"{value:.4g}"
