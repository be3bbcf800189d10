"""How a run that learns is asked to stop: Ctrl-C, or a polite end of its process."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger("trainer")


@contextmanager
def asked_to_stop(kept: Callable[[], str]) -> Iterator[list[int]]:
    """A list that is empty until somebody asks, so that what is begun can be done and saved. A second Ctrl-C raises
    KeyboardInterrupt at once; `kept` says in a few words what is saved by then."""
    stop: list[int] = []

    def ask(number: int, _) -> None:
        # torchrun sends its processes the Ctrl-C that they have had from the terminal; it ends them itself after 30 s.
        if stop and number == signal.SIGINT and "TORCHELASTIC_RUN_ID" not in os.environ:
            raise KeyboardInterrupt
        stop.append(number)

    try:
        with _handled(ask):
            yield stop
    except KeyboardInterrupt:
        log.warning("stopped at once; %s", kept())
        raise


@contextmanager
def _handled(ask: Callable[[int, object], None]) -> Iterator[None]:
    """Signals go to `ask`; in another thread than the main one, where Python hears none, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
