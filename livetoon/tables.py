"""Figures as aligned plain text, for people at a terminal."""

from collections.abc import Mapping, Sequence


def table(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str]) -> str:
    """Plain text, one line a row; `columns`: key -> heading. A missing value is a dash.

    >>> print(table([{"name": "eager", "ms": 24.51}, {"name": "openvino"}], {"name": "backend", "ms": "ms"}))
    backend     ms
    eager     24.5
    openvino     -
    """
    lines = [list(columns.values()), *([_cell(row.get(key)) for key in columns] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    texts = [isinstance(rows[0].get(key), str) if rows else True for key in columns]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(line, widths, texts, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
