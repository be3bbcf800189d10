"""The keypoint predictor's lessons: taken in pieces, with a stop after any, they are the same to the bit."""

import json

import numpy as np
import torch

from trainer import predictor
from trainer.collect import Unpaired
from trainer.networks import build


def lessons(preset, photos: int = 5) -> predictor.Lessons:
    random = np.random.default_rng(0)
    pictures = list(random.integers(0, 256, (photos, preset.size, preset.size, 3), dtype=np.uint8))
    points = list(random.uniform(0, preset.size, (photos, 10)).astype(np.float32))
    points[1] = None
    torch.manual_seed(0)
    network = build("keypoints", size=preset.size)
    return predictor.Lessons(network, Unpaired(pictures, [], points), preset, torch.device("cpu"))


def test_pieces_with_a_stop_after_each_are_the_whole(tiny, monkeypatch, caplog):
    preset = tiny("keypoint2", "keypoint_epochs=3,2", "keypoint_batch=3")
    weights, told = [], []
    for size in (100, 1):
        monkeypatch.setattr(predictor, "PIECE", size)
        made, pieces, figures = lessons(preset), [], []
        optimizer = torch.optim.Adam(made._predictor.parameters(), 1e-3)
        for step in range(5):
            pieces.append(0)
            while made.piece(step, optimizer):
                pieces[-1] += 1
                again = lessons(preset)
                again._predictor = made._predictor
                again.load_state_dict(json.loads(json.dumps(made.state_dict())))
                made = again
            figures.append(made.figures(step))
        assert pieces == ([1, 0, 1, 0, 0] if size == 100 else [6, 0, 4, 0, 0])  # four photos with points, two batches
        assert [bool(each) for each in figures] == [True, False, True, False, False]
        assert not any(value.requires_grad or value.grad is not None for value in made._predictor.parameters())
        weights.append([value.clone() for value in made._predictor.parameters()])
        told.append((figures, caplog.messages))
        caplog.clear()
    assert all(map(torch.equal, *weights)) and told[0] == told[1]


def test_every_photo_with_points_is_seen_once_an_epoch_in_another_order(tiny):
    made = lessons(tiny("keypoint2"), photos=30)
    made._step = 0
    one, other = made._order_of(0), made._order_of(1)
    assert sorted(one) == sorted(other) == [index for index in range(30) if index != 1]
    assert list(one) != list(other) and list(made._order_of(0)) == list(one)
