import pytest

from engine import threads
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
    assert threads.choose(measured, Cache(tmp_path), "slot", {}) == chosen
    assert measured == tried


def test_never_more_than_the_cores(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(threads, "cores", lambda: 1)
    measured.took = {1: 500.0}
    assert threads.choose(measured, Cache(tmp_path), "slot", {}) == 1
    assert measured == [1]


def test_the_choice_is_remembered_for_its_machine(measured, tmp_path, monkeypatch):
    cache = Cache(tmp_path)
    measured.took = {1: 25.0, 2: 14.0}
    assert threads.choose(measured, cache, "slot", {"device": "a"}) == 2
    assert threads.choose(measured, cache, "slot", {"device": "a"}) == 2
    assert measured == [1, 2]
    monkeypatch.setattr(threads, "cores", lambda: 2)
    threads.choose(measured, cache, "slot", {"device": "a"})
    assert measured == [1, 2, 1, 2]


def test_fastest_ms_counts_every_call_and_returns_milliseconds():
    calls = []
    assert 0 <= threads.fastest_ms(calls.append, 1) < 1000
    assert len(calls) == threads.WARM_UP + threads.TIMED
