"""A card that fails: at the start, or while it draws."""

import logging
import threading
from dataclasses import replace

import numpy as np
import pytest

from engine import backends, machine
from engine.runner import open_runner
from livetoon.errors import EngineError
from streamer import fallback
from streamer.fallback import NOTICE, open_lasting
from streamer.pipeline import Pipeline

CARD = "a card of tests"


class Card:
    """A backend that computes as another one does, until it is pulled out."""

    opens, gone = True, False

    @staticmethod
    def precisions(stored):
        return ("fp32",)

    @staticmethod
    def engine_keys(files, precision, options):
        return {}

    def __init__(self, files, precision, options, cache):
        if not self.opens:
            raise EngineError("cudaMalloc: out of memory")
        self._inner = open_runner(files.folder, files.group, "onnxruntime", "fp32", threads=1)
        self.spec = replace(self._inner.spec, backend="card", device=CARD, on_card=True)

    def __call__(self, crops):
        if self.gone:
            raise RuntimeError("CUDA error: device lost")
        return self._inner(crops)

    def infer(self, x):
        return self._inner.infer(x)


@pytest.fixture
def card(monkeypatch):
    monkeypatch.setattr(backends, "_REGISTRY", dict(backends._REGISTRY))
    monkeypatch.setattr(machine, "nvidia_gpus", lambda: 1)
    made = type("Card", (Card,), {})
    return backends.backend("card", library="numpy", rank=-9)(made)


@pytest.fixture
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), np.uint8)


def test_without_a_card_nothing_stands_between():
    assert not isinstance(open_lasting("live", "kids", "auto", "auto"), fallback.Fallback)


def test_a_card_that_is_lost_is_followed_by_the_processor_with_the_same_frame(card, crops, caplog):
    runner = open_lasting("live", "kids", "auto", "auto")
    assert (runner.spec.device, runner.notice) == (CARD, "")
    drawn = runner(crops)
    card.gone = True
    with caplog.at_level(logging.WARNING, "livetoon.server"):
        again = runner(crops)
    assert runner.spec.device == machine.processor() and runner.notice == NOTICE
    assert np.abs(again.astype(int) - drawn).mean() < 2
    assert [record.message for record in caplog.records if "device lost; going on with openvino" in record.message]
    card.gone = False
    runner(crops)
    assert runner.spec.device == machine.processor()  # not back and forth


def test_visitors_that_share_a_lost_card_all_go_on(card, crops, monkeypatch):
    runner = open_lasting("live", "kids", "auto", "auto")
    card.gone = True
    opened, real = [], fallback.open_runner
    monkeypatch.setattr(fallback, "open_runner", lambda *asked: opened.append(asked) or real(*asked))
    drawn = []
    visitors = [threading.Thread(target=lambda: drawn.append(runner(crops))) for _ in range(4)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert len(drawn) == 4 and all((each == drawn[0]).all() for each in drawn)
    assert len(opened) == 1


def test_a_card_that_cannot_be_had_is_told_and_the_processor_draws(card, crops):
    card.opens = False
    runner = open_lasting("live", "kids", "auto", "auto")
    assert runner.spec.device == machine.processor() and runner.notice == NOTICE
    assert runner(crops).shape == (1, 256, 256, 4)


def test_without_a_card_a_processor_that_fails_is_not_called_one(monkeypatch):
    def fails(*asked):
        raise EngineError("openvino cannot compile it")

    monkeypatch.setattr(fallback, "open_runner", fails)
    with pytest.raises(EngineError, match="openvino cannot compile"):
        open_lasting("live", "kids", "auto", "auto")


def test_a_precision_that_was_asked_for_is_kept(card, crops):
    runner = open_lasting("live", "kids", "auto", "fp32")
    card.gone = True
    runner(crops)
    assert (runner.spec.device, runner.spec.precision) == (machine.processor(), "fp32")


def test_a_card_that_was_asked_for_by_name_has_to_open(card):
    card.opens = False
    with pytest.raises(EngineError, match="out of memory"):
        open_lasting("live", "kids", "card", "auto")


def test_crops_that_nobody_can_draw_are_no_fault_of_the_card(card, caplog, monkeypatch):
    runner = open_lasting("live", "kids", "auto", "auto")
    opened, real = [], fallback.open_runner
    monkeypatch.setattr(fallback, "open_runner", lambda *asked: opened.append(asked) or real(*asked))
    for _ in range(3):
        with caplog.at_level(logging.WARNING, "livetoon.server"), pytest.raises(EngineError, match="takes arrays"):
            runner(np.zeros((1, 32, 32, 3), np.uint8))
    assert (runner.spec.device, runner.notice) == (CARD, "")
    assert len(opened) == 1 and not caplog.records


def test_the_notice_comes_with_every_picture(card):
    runners = {"kids": open_lasting("live", "kids", "auto", "auto")}
    pipeline = Pipeline(runners, ["kids"])
    frame = np.zeros((64, 64, 3), np.uint8)
    assert pipeline.process(frame, 0.0).notice == ""
    card.gone = True
    runners["kids"](np.zeros((1, 256, 256, 3), np.uint8))
    assert pipeline.process(frame, 0.1).notice == NOTICE
