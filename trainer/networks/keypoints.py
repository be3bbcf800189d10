"""The keypoint project's predictor: five points of a face, in pixels."""

import torch.nn.functional as F
from torch import Tensor, nn

from faces.align import POINTS
from trainer.networks import network


@network("keypoints")
class KeypointPredictor(nn.Module):
    """picture (N, 3, S, S) in [-1, 1] -> (N, 10) pixels: left eye x, y, right eye, nose, left and right of the mouth.

    Published for S = 178 (41 x 41 maps before the linear layers).
    """

    def __init__(self, size: int = 178):
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2
        self.conv1 = nn.Conv2d(3, 5, 5)
        self.conv2 = nn.Conv2d(5, 16, 5)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, 2 * len(POINTS))
        self.settings = {"size": size}

    def forward(self, x: Tensor) -> Tensor:
        for convolution in (self.conv1, self.conv2):
            x = F.max_pool2d(F.relu(convolution(x)), 2)
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x.flatten(1))))))
