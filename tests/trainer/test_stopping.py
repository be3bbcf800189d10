"""Asking a run to stop: once politely, twice at once, and through torchrun."""

import os
import signal
import threading

import pytest

from trainer.stopping import asked_to_stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_asks_once_is_heard_and_nothing_else_happens(number):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with asked_to_stop(str) as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_ends_at_once_and_says_what_is_kept(first, caplog):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), asked_to_stop(lambda: "nothing is kept"):
        os.kill(os.getpid(), first)
        os.kill(os.getpid(), signal.SIGINT)
    assert caplog.messages == ["stopped at once; nothing is kept"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_polite_end_changes_nothing():
    with asked_to_stop(str) as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop


def test_the_ctrl_c_that_torchrun_passes_on_is_no_second_one(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with asked_to_stop(str) as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop


def test_in_a_thread_there_is_nothing_to_hear():
    before, heard = signal.getsignal(signal.SIGINT), []

    def learn():
        with asked_to_stop(str) as stop:
            heard.append((stop, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=learn)
    thread.start()
    thread.join()
    assert heard == [([], before)]
