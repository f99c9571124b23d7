"""The loss as a dictionary, the way open_clip's training loop takes it."""

import torch
from torch.nn.functional import normalize

from siglip_verify import SigLipLoss

torch.manual_seed(0)
image_features = normalize(torch.randn(8, 32), dim=-1)
text_features = normalize(torch.randn(8, 32), dim=-1)

losses = SigLipLoss()(image_features, text_features, logit_scale=10.0, logit_bias=-10.0, output_dict=True)
total_loss = sum(losses.values())
print({name: round(value.item(), 4) for name, value in losses.items()}, f"total {total_loss.item():.4f}")
