"""A distributed training step: two towers under DistributedDataParallel, the loss over the global batch.

Run it on four processes of this machine:

    torchrun --standalone --nproc-per-node 4 examples/training_step.py
"""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import normalize
from torch.nn.parallel import DistributedDataParallel

from siglip_verify import SigLipLoss


class Towers(nn.Module):
    """Encoders of images and texts, with the scale's logarithm and the bias as parameters."""

    def __init__(self, image_dim: int, text_dim: int, dim: int) -> None:
        super().__init__()
        self.image, self.text = nn.Linear(image_dim, dim), nn.Linear(text_dim, dim)
        self.log_scale = nn.Parameter(torch.tensor(10.0).log())
        self.bias = nn.Parameter(torch.tensor(-10.0))

    def forward(self, images, texts):
        """Return unit features, scale and bias, which is what the loss takes."""
        image_features = normalize(self.image(images), dim=-1)
        text_features = normalize(self.text(texts), dim=-1)
        return image_features, text_features, self.log_scale.exp(), self.bias


def main() -> None:
    """Take three steps and print the global loss of each."""
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)  # the same weights everywhere; DistributedDataParallel would see to it too
    towers = DistributedDataParallel(Towers(image_dim=48, text_dim=24, dim=32))
    optimizer = torch.optim.Adam(towers.parameters(), lr=0.01)
    loss_fn = SigLipLoss(rank=rank, world_size=world_size, dist_impl="bidir")

    generator = torch.Generator().manual_seed(rank)  # every rank has its own part of the global batch
    images, texts = torch.randn(16, 48, generator=generator), torch.randn(16, 24, generator=generator)
    for step in range(3):
        optimizer.zero_grad()
        loss = loss_fn(*towers(images, texts))
        loss.backward()
        optimizer.step()
        global_loss = loss.detach()
        dist.all_reduce(global_loss)  # the mean of the ranks' losses is the loss of the global batch
        if rank == 0:
            print(f"step {step}: global loss {global_loss.item() / world_size:.4f}")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
