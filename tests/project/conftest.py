"""A reader's folder: what someone who follows the documents has, and settings that keep a run small."""

from __future__ import annotations

from pathlib import Path

import pytest

# What a reader who follows the README has in my_loss.py.
MY_LOSS = '''
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import logsigmoid

from siglip_verify.loss import SigLipLoss


def make(rank, world_size, exchange):
    return SigLipLoss(rank=rank, world_size=world_size, dist_impl=exchange)


def loss(image, text, scale, bias):
    """A sum over ranks of sums divided by N."""
    world_size = dist.get_world_size()
    return SigLipLoss(rank=dist.get_rank(), world_size=world_size)(image, text, scale, bias) / world_size


class Loss(nn.Module):
    """A loss that owns its scale, as a logarithm, and its bias."""

    def __init__(self, rank=0, world_size=1, dist_impl=None, local_loss=True):
        super().__init__()
        self.loss = SigLipLoss(rank=rank, world_size=world_size, dist_impl=dist_impl)
        self.t = nn.Parameter(torch.zeros(()))
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, image, text, scale=None, bias=None):
        own = (self.t.exp(), self.b) if scale is None else (scale, bias)
        return {"contrastive_loss": self.loss(image, text, *own)}
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_loss.py").write_text(MY_LOSS)
    return tmp_path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, folder: Path, warm: None) -> None:
    """Be in the reader's folder, with settings of the environment that make a run small."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SIGLIP_VERIFY_WORLD_SIZES", "1-2")
    monkeypatch.setenv("SIGLIP_VERIFY_EXAMPLES", "4")
    monkeypatch.setenv("SIGLIP_VERIFY_EXCHANGES", "shift,gather")
