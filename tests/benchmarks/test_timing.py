"""Rounds that take turns, and tables. Milliseconds are real, so only sleeping is timed."""

import time

from benchmarks import timing


def slow() -> None:
    time.sleep(0.02)


def test_interleaved_measures_milliseconds_in_turn():
    order = []

    def measure(name: str):
        def call() -> None:
            order.append(name)
            time.sleep(0.02 if name == "slow" else 0)

        return lambda most, seconds, warm_up: timing.timed(call, most, seconds, warm_up)

    found = timing.interleaved({name: measure(name) for name in ("slow", "quick")}, timing.Effort(2, per_round=3))
    assert order == (["slow"] * 4 + ["quick"] * 4) * 2  # each round warms up
    assert found["slow"].calls == 6
    assert 20 <= found["slow"].min_ms <= found["slow"].p50_ms <= found["slow"].p95_ms <= found["slow"].p99_ms
    assert found["slow"].cpu_ms < 20


def test_a_slow_call_is_made_once_a_round_and_not_warmed_up():
    given = []

    def measure(most: int, seconds: float, warm_up: bool) -> list[timing.Sample]:
        given.append((most, seconds, warm_up))
        return [(1e3, 1e3)]

    effort = timing.Effort(rounds=6, per_round=5, round_s=0.5, all_s=1.5, least=3)
    found = timing.interleaved({"slow": measure}, effort)
    assert given == [(5, 0.5, True), (5, 0.5, False), (5, 0.5, False)]  # then it had its seconds and its calls
    assert found["slow"].calls == 3 and found["slow"].p50_ms == 1e3


def test_timed_ends_with_its_seconds_or_its_calls():
    assert len(timing.timed(slow, most=9, seconds=0.03, warm_up=False)) <= 2
    assert len(timing.timed(slow, most=1, seconds=60, warm_up=True)) == 1
    assert len(timing.timed(slow, most=5, seconds=0, warm_up=False)) == 1


def test_memory_has_a_peak():
    _, before = timing.resident()
    held = bytearray(before)
    held[::4096] = b"x" * len(held[::4096])
    now, peak = timing.resident()
    assert peak >= now > before


def test_table_without_rows_and_with_gaps():
    assert timing.table([], {"a": "A"}) == "A"
    assert timing.table([{"a": "x", "b": 1.25}, {"a": "yy"}], {"a": "A", "b": "ms"}) == "A    ms\nx   1.2\nyy    -"
