"""The loss on one device: nothing is initialised, nothing is sent."""

import torch
from torch.nn.functional import normalize

from siglip_verify import SigLipLoss

batch, dim = 8, 32
torch.manual_seed(0)
image_features = normalize(torch.randn(batch, dim), dim=-1).requires_grad_()
text_features = normalize(torch.randn(batch, dim), dim=-1).requires_grad_()
log_scale = torch.tensor(10.0).log().requires_grad_()  # t' of the paper, which starts at log 10
bias = torch.tensor(-10.0, requires_grad=True)  # b of the paper, which starts at -10

loss = SigLipLoss()(image_features, text_features, log_scale.exp(), bias)
loss.backward()
print(f"loss {loss.item():.4f}, gradient of the bias {bias.grad.item():+.4f}")
