import threading
import time

import pytest

from engine import threads
from engine.backends import LATENCY, THROUGHPUT
from engine.cache import Cache


@pytest.fixture
def measured(monkeypatch):
    """Thread counts that were measured, with four cores; `took` says how long each took."""

    class Measured(list):
        took: dict[int, float]

        def __call__(self, count: int) -> float:
            self.append(count)
            return self.took[count]

    monkeypatch.setattr(threads, "cores", lambda: 4)
    return Measured()


@pytest.mark.parametrize(
    ("took", "chosen", "tried"),
    [
        ({1: 16.0}, 1, [1]),
        ({1: 25.0, 2: 14.0}, 2, [1, 2]),
        ({1: 90.0, 2: 50.0, 4: 30.0}, 4, [1, 2, 4]),
        ({1: 30.0, 2: 28.0, 4: 29.0}, 2, [1, 2, 4]),
    ],
)
def test_the_fewest_that_are_quick_enough(measured, tmp_path, took, chosen, tried):
    measured.took = took
    assert threads.choose(measured, Cache(tmp_path), "slot", {}, LATENCY) == chosen
    assert measured == tried


def test_never_more_than_the_cores(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 1)
    measured.took = {1: 500.0}
    assert threads.choose(measured, Cache(tmp_path), "slot", {}, LATENCY) == 1
    assert measured == [1]


@pytest.mark.parametrize(("took", "chosen"), [({2: 5.0, 4: 3.0}, 4), ({2: 4.0, 4: 4.5}, 2)])
def test_for_throughput_the_faster_of_all_cores_and_half_of_them(measured, tmp_path, took, chosen):
    measured.took = took
    assert threads.choose(measured, Cache(tmp_path), "slot", {}, THROUGHPUT) == chosen
    assert measured == [2, 4]


def test_two_that_choose_at_once_measure_once(measured, tmp_path):
    """The second comes while the first measures: it waits, and takes what was found."""
    cache, chosen = Cache(tmp_path), []

    def choose() -> None:
        chosen.append(threads.choose(measured, cache, "slot", {}, LATENCY))

    second = threading.Thread(target=choose)
    measured.took = {1: 5.0}
    with cache.lock("slot"):
        second.start()
        time.sleep(0.05)
        cache.store("slot", {"cores": 4, "enough_ms": threads.ENOUGH_MS}, b"2")
    second.join()
    assert (chosen, measured) == ([2], [])


def test_the_choice_is_remembered_for_its_machine(measured, tmp_path, monkeypatch):
    cache = Cache(tmp_path)
    measured.took = {1: 25.0, 2: 14.0}
    assert threads.choose(measured, cache, "slot", {"device": "a"}, LATENCY) == 2
    assert threads.choose(measured, cache, "slot", {"device": "a"}, LATENCY) == 2
    assert measured == [1, 2]
    monkeypatch.setattr(threads, "cores", lambda: 2)
    threads.choose(measured, cache, "slot", {"device": "a"}, LATENCY)
    assert measured == [1, 2, 1, 2]


def test_fastest_ms_counts_every_call_and_returns_milliseconds():
    calls = []
    assert 0 <= threads.fastest_ms(calls.append, 1) < 1000
    assert len(calls) == threads.WARM_UP + threads.TIMED
