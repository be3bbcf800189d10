"""Any number of crops, run in the sizes that there are engines for."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np


def cut(count: int, batches: Sequence[int]) -> list[int]:
    """Batches that `count` crops are run in: the largest that fit; what is left over is padded.

    batches: from small to large.

    >>> cut(7, (1, 4)), cut(7, (2, 4)), cut(3, (8,))
    ([4, 1, 1, 1], [4, 2, 2], [8])
    """
    parts = []
    while count > 0:
        parts.append(max((batch for batch in batches if batch <= count), default=batches[0]))
        count -= parts[-1]
    return parts


def parts(array: np.ndarray, batches: Sequence[int]) -> Iterator[tuple[slice, np.ndarray]]:
    """Where each batch stands in `array`, and its rows: a view, or where it is padded with zeros a copy."""
    start = 0
    for batch in cut(len(array), batches):
        rows = array[start : start + batch]
        if missing := batch - len(rows):
            rows = np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])
        yield slice(start, min(start + batch, len(array))), rows
        start += batch


def fill(
    out: np.ndarray,
    array: np.ndarray,
    batches: Sequence[int],
    run: Callable[[np.ndarray], np.ndarray],
    over: Callable = map,
) -> None:
    """Fill `out` with what `run` makes of `array`, batch by batch. over: a `map`, which may have its own threads."""

    def part(each: tuple[slice, np.ndarray]) -> None:
        place, rows = each
        out[place] = run(rows)[: place.stop - place.start]

    for _ in over(part, parts(array, batches)):
        pass
