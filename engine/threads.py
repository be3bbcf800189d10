"""How many threads a runner takes, measured once and remembered.

Live video shares its cores with a browser and two codecs. There one thread that takes 16 ms leaves more frames
a second than two that take 10: the second core is not idle. So for latency: the fewest that are quick enough. For
throughput: as many as pay.
"""

import time
from collections.abc import Callable, Mapping

from engine.backends import THROUGHPUT, Options, fields_of, slot
from engine.cache import Cache
from engine.machine import cores
from engine.manifest import WEIGHTS, ModelFiles

ENOUGH_MS = 20.0  # a crop; 25 frames a second leave about this much beside search, paste and codecs
CANDIDATES = (1, 2, 4)
WARM_UP, TIMED = 3, 6  # calls; the fastest counts, so that a busy moment does not decide


def chosen(
    milliseconds: Callable[[int], float],
    files: ModelFiles,
    precision: str,
    options: Options,
    machine: Mapping[str, object],
    cache: Cache,
) -> int:
    """What `options` ask for, else what `choose` finds, once for all groups of a model.

    machine: what the time depends on beside model and options; its "backend" is name and version.
    """
    if options.threads:
        return options.threads
    fields = {
        **fields_of(files, precision, options.mode),
        "digest": files.manifest.files[WEIGHTS],
        "batches": options.batches,
        **machine,
    }
    sizes = ".".join(map(str, options.batches))
    name = slot(files, str(machine["backend"]).split()[0], precision, options.mode, f"batch{sizes}", "threads")
    return choose(milliseconds, cache, name, fields, options.mode)


def choose(
    milliseconds: Callable[[int], float], cache: Cache, slot: str, fields: Mapping[str, object], mode: str
) -> int:
    """Of 1, 2, 4 threads (no more than there are cores) the first whose `milliseconds(threads)` are enough.

    When none is: the fastest. For throughput the faster of all cores and half of them, of which two are often one.
    milliseconds: of one crop. Remembered in `cache` under `slot` for these `fields`.
    """
    fields = {**fields, "cores": cores(), "enough_ms": ENOUGH_MS}
    if known := cache.load(slot, fields):
        return int(known)
    with cache.lock(slot) as waited:
        if waited and (known := cache.load(slot, fields)):
            return int(known)
        chosen = _fastest(milliseconds, mode)
        cache.store(slot, fields, str(chosen).encode())
    return chosen


def _fastest(milliseconds: Callable[[int], float], mode: str) -> int:
    all_cores = cores()
    for_all = mode == THROUGHPUT
    candidates = sorted({max(1, all_cores // 2), all_cores}) if for_all else [n for n in CANDIDATES if n <= all_cores]
    took = {}
    for threads in candidates:
        took[threads] = milliseconds(threads)
        if took[threads] <= ENOUGH_MS and not for_all:
            break
    return min(took, key=took.__getitem__)


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
