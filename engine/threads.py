"""How many threads a runner takes: the fewest that are quick enough, measured once and remembered.

Live video shares its cores with a browser and two codecs. There one thread that takes 16 ms leaves more frames
a second than two that take 10: the second core is not idle.
"""

import time
from collections.abc import Callable, Mapping

from engine.cache import Cache
from engine.machine import cores

ENOUGH_MS = 20.0  # a crop; 25 frames a second leave about this much beside search, paste and codecs
CANDIDATES = (1, 2, 4)
WARM_UP, TIMED = 3, 6  # calls; the fastest counts, so that a busy moment does not decide


def choose(milliseconds: Callable[[int], float], cache: Cache, slot: str, fields: Mapping[str, object]) -> int:
    """The first of 1, 2, 4 threads (no more than there are cores) whose `milliseconds(threads)` are enough.

    When none is: the fastest. Remembered in `cache` under `slot` for these `fields`.
    """
    fields = {**fields, "cores": cores(), "enough_ms": ENOUGH_MS}
    if known := cache.load(slot, fields):
        return int(known)
    took = {}
    for threads in CANDIDATES:
        if threads > cores():
            break
        took[threads] = milliseconds(threads)
        if took[threads] <= ENOUGH_MS:
            break
    chosen = min(took, key=took.__getitem__)
    cache.store(slot, fields, str(chosen).encode())
    return chosen


def fastest_ms(call: Callable, *arguments: object) -> float:
    """Milliseconds of the fastest of a few calls of `call(*arguments)`."""
    for _ in range(WARM_UP):
        call(*arguments)
    took = []
    for _ in range(TIMED):
        start = time.perf_counter()
        call(*arguments)
        took.append(time.perf_counter() - start)
    return min(took) * 1e3
