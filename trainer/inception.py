"""Inception v3 up to its last pooled features (2048): the network in which published FID and KID are measured.

Facts: arXiv 1512.00567 and the two weight files that people have, whose tensors are named alike:
`pt_inception-2015-12-05-6726825d.pth` (the network of the FID paper, 1008 classes; average pools do not count the
padding and the last block pools by maximum) and torchvision's `inception_v3_google-*.pth` (1000 classes; average pools
count the padding). Figures of the two cannot be compared. Nothing is ever downloaded.
"""

import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from livetoon.errors import ModelError

VARIABLE = "LIVETOON_INCEPTION"  # environment variable that names a weight file
FILES = ("pt_inception-2015-12-05-6726825d.pth", "inception_v3_google-0cc3c7bd.pth", "inception_v3_google-1a9a5a14.pth")
CLASSES = {1008: "inception-fid", 1000: "inception-torchvision"}
UNUSED = ("fc.", "AuxLogits.")  # class scores, and the side output that helped training
SIDE = 299


def installed() -> Path | None:
    """The weight file to use: what LIVETOON_INCEPTION names, else the first found in torch hub's checkpoints folder."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def load(path: Path) -> "Inception":
    """The frozen network of a weight file of either kind; ModelError says what is wrong with the file."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        classes = tensors["fc.weight"].shape[0]
        with torch.device("meta"):  # its own first weights would be thrown away
            made = Inception(CLASSES[classes])
        used = {name: value for name, value in tensors.items() if not name.startswith(UNUSED)}
        made.load_state_dict(used, assign=True)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; {VARIABLE} names Inception weights, or is left out") from None
    except Exception as error:  # torch raises classes of its own for each way a file can be cut or foreign
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: not Inception weights of pytorch-fid or torchvision ({said[:120]})") from None
    return made.requires_grad_(False).eval()


class Unit(nn.Module):
    """Convolution, batch normalization, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel, stride: int = 1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, their outputs joined: `units` by the names of the weight files, `paths` over them.

    A path is a row of unit names; a tuple at its end forks (both outputs are joined). `pool` goes before the unit
    `branch_pool`, or stands alone where there is none.
    """

    def __init__(self, units: dict[str, Unit], paths: list[list], pool: nn.Module):
        super().__init__()
        for name, unit in units.items():
            self.add_module(name, unit)
        self.paths, self.pool = paths, pool

    def forward(self, x: Tensor) -> Tensor:
        joined = []
        for path in self.paths:
            y = x
            for name in path:
                if isinstance(name, tuple):
                    joined += [self.get_submodule(fork)(y) for fork in name]
                    break
                y = self.get_submodule(name)(y)
            else:
                joined.append(y)
        pooled = self.pool(x)
        joined.append(self.branch_pool(pooled) if hasattr(self, "branch_pool") else pooled)
        return torch.cat(joined, dim=1)


def _average(fid: bool) -> nn.Module:
    return nn.AvgPool2d(3, 1, 1, count_include_pad=not fid)


def _block_a(inputs: int, pooled: int, fid: bool) -> Mixed:
    units = {
        "branch1x1": Unit(inputs, 64, 1),
        "branch5x5_1": Unit(inputs, 48, 1),
        "branch5x5_2": Unit(48, 64, 5, padding=2),
        "branch3x3dbl_1": Unit(inputs, 64, 1),
        "branch3x3dbl_2": Unit(64, 96, 3, padding=1),
        "branch3x3dbl_3": Unit(96, 96, 3, padding=1),
        "branch_pool": Unit(inputs, pooled, 1),
    }
    double = ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]
    return Mixed(units, [["branch1x1"], ["branch5x5_1", "branch5x5_2"], double], _average(fid))


def _block_b(inputs: int) -> Mixed:
    units = {
        "branch3x3": Unit(inputs, 384, 3, stride=2),
        "branch3x3dbl_1": Unit(inputs, 64, 1),
        "branch3x3dbl_2": Unit(64, 96, 3, padding=1),
        "branch3x3dbl_3": Unit(96, 96, 3, stride=2),
    }
    double = ["branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"]
    return Mixed(units, [["branch3x3"], double], nn.MaxPool2d(3, 2))


def _block_c(width: int, fid: bool) -> Mixed:
    row, column = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
    units = {
        "branch1x1": Unit(768, 192, 1),
        "branch7x7_1": Unit(768, width, 1),
        "branch7x7_2": Unit(width, width, **row),
        "branch7x7_3": Unit(width, 192, **column),
        "branch7x7dbl_1": Unit(768, width, 1),
        "branch7x7dbl_2": Unit(width, width, **column),
        "branch7x7dbl_3": Unit(width, width, **row),
        "branch7x7dbl_4": Unit(width, width, **column),
        "branch7x7dbl_5": Unit(width, 192, **row),
        "branch_pool": Unit(768, 192, 1),
    }
    single = [f"branch7x7_{n}" for n in (1, 2, 3)]
    double = [f"branch7x7dbl_{n}" for n in (1, 2, 3, 4, 5)]
    return Mixed(units, [["branch1x1"], single, double], _average(fid))


def _block_d() -> Mixed:
    units = {
        "branch3x3_1": Unit(768, 192, 1),
        "branch3x3_2": Unit(192, 320, 3, stride=2),
        "branch7x7x3_1": Unit(768, 192, 1),
        "branch7x7x3_2": Unit(192, 192, (1, 7), padding=(0, 3)),
        "branch7x7x3_3": Unit(192, 192, (7, 1), padding=(3, 0)),
        "branch7x7x3_4": Unit(192, 192, 3, stride=2),
    }
    seven = [f"branch7x7x3_{n}" for n in (1, 2, 3, 4)]
    return Mixed(units, [["branch3x3_1", "branch3x3_2"], seven], nn.MaxPool2d(3, 2))


def _block_e(inputs: int, pool: nn.Module) -> Mixed:
    row, column = {"kernel": (1, 3), "padding": (0, 1)}, {"kernel": (3, 1), "padding": (1, 0)}
    units = {
        "branch1x1": Unit(inputs, 320, 1),
        "branch3x3_1": Unit(inputs, 384, 1),
        "branch3x3_2a": Unit(384, 384, **row),
        "branch3x3_2b": Unit(384, 384, **column),
        "branch3x3dbl_1": Unit(inputs, 448, 1),
        "branch3x3dbl_2": Unit(448, 384, 3, padding=1),
        "branch3x3dbl_3a": Unit(384, 384, **row),
        "branch3x3dbl_3b": Unit(384, 384, **column),
        "branch_pool": Unit(inputs, 192, 1),
    }
    single = ["branch3x3_1", ("branch3x3_2a", "branch3x3_2b")]
    double = ["branch3x3dbl_1", "branch3x3dbl_2", ("branch3x3dbl_3a", "branch3x3dbl_3b")]
    return Mixed(units, [["branch1x1"], single, double], pool)


class Inception(nn.Module):
    """RGB (N, 3, 299, 299) in [-1, 1] -> (N, 2048). `name` is a value of CLASSES and chooses how blocks pool."""

    def __init__(self, name: str):
        super().__init__()
        self.name = name
        fid = name == "inception-fid"
        self.Conv2d_1a_3x3 = Unit(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Unit(32, 32, 3)
        self.Conv2d_2b_3x3 = Unit(32, 64, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = Unit(64, 80, 1)
        self.Conv2d_4a_3x3 = Unit(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = (
            _block_a(inputs, pooled, fid) for inputs, pooled in ((192, 32), (256, 64), (288, 64))
        )
        self.Mixed_6a = _block_b(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (
            _block_c(width, fid) for width in (128, 160, 160, 192)
        )
        self.Mixed_7a = _block_d()
        self.Mixed_7b = _block_e(1280, _average(fid))
        self.Mixed_7c = _block_e(2048, nn.MaxPool2d(3, 1, 1) if fid else _average(fid))

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():  # in the order of the names above
            x = part(x)
        return x.mean(dim=(2, 3))
