"""Wrong arguments: an error that names the value and the mend, before anything is sent.

Oracle: the wording. Sees: an argument that slips through, or a message that does not help.
"""

from __future__ import annotations

import numpy as np
import pytest
import ranks
import torch
import torch.distributed as dist
from msgspec.structs import replace

from siglip_verify.loss import SigLipLoss
from siglip_verify.world import Worlds

IMAGE, TEXT = torch.randn(3, 4), torch.randn(3, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dist_impl": "ring"}, r"dist_impl must be one of bidir, gather, reduce, shift; got dist_impl='ring'"),
        ({"rank": 2, "world_size": 2}, r"rank must be in 0\.\.world_size-1; got rank=2 with world_size=2"),
        ({"rank": -1}, r"got rank=-1 with world_size=1"),
        ({"world_size": 0}, r"world_size must be at least 1; got world_size=0"),
        ({"dist_impl": ""}, r"got dist_impl='': None is 'bidir'"),
        ({"dist_impl": ["bidir"]}, r"got dist_impl=\['bidir'\]"),
        ({"rank": "0"}, r"rank must be a whole number; got rank='0': pass an int"),
        ({"world_size": "2"}, r"got world_size='2'"),
        ({"world_size": None}, r"got world_size=None"),
        ({"world_size": True}, r"got world_size=True"),
        ({"chunk_size": 2.5}, r"chunk_size must be a whole number; got chunk_size=2\.5"),
        ({"chunk_size": np.float64(2)}, r"chunk_size must be a whole number"),
        ({"overlap": "no"}, r"overlap must be True or False; got overlap='no'"),
        ({"ragged": 0.0}, r"ragged must be True or False; got ragged=0\.0"),
        ({"cache_labels": 1}, r"cache_labels must be True or False"),
        ({"check_shapes": None}, r"check_shapes must be True or False"),
        ({"memory": None}, r"memory must be one of autograd, constant, recompute; got memory=None"),
        ({"memory": "constant", "grad_dtype": "float32"}, r"got grad_dtype='float32' .* such as torch\.float32"),
        ({"chunk_size": -1}, r"chunk_size must be a number of rows, or 0 .* got chunk_size=-1"),
    ],
)
def test_the_constructor_names_what_is_wrong(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SigLipLoss(**arguments)


@pytest.mark.parametrize(
    ("image", "text", "scale", "bias", "message"),
    [
        (IMAGE, TEXT, 1.0, None, r"logit_bias is required.*got logit_bias=None"),
        (IMAGE, TEXT, None, 0.0, r"logit_scale is required"),
        (IMAGE, TEXT, torch.ones(2), 0.0, r"logit_scale must be one number.*shape \(2,\)"),
        (IMAGE, TEXT, torch.ones(1, 1), 0.0, r"logit_scale must be one number.*shape \(1, 1\)"),
        (IMAGE, TEXT, torch.tensor(1), 0.0, r"logit_scale must be a float tensor or a number; .*torch.int64"),
        (IMAGE, TEXT, "10", 0.0, r"logit_scale must be a float tensor or a number; got logit_scale='10'"),
        (IMAGE, TEXT, 1.0, [0.0], r"logit_bias must be a float tensor or a number; got logit_bias=\[0\.0\]"),
        (IMAGE, TEXT, True, 0.0, r"got logit_scale=True"),
        (IMAGE.numpy(), TEXT, 1.0, 0.0, r"image_features must be a tensor; got .* of type ndarray: use torch.as_t"),
        (IMAGE[0], TEXT, 1.0, 0.0, r"image_features must be \[batch, dim\]; got .*\(4,\)"),
        (IMAGE, TEXT[None], 1.0, 0.0, r"text_features must be \[batch, dim\]; got .*\(1, 3, 4\)"),
        (IMAGE, TEXT[:2], 1.0, 0.0, r"the same shape; got \(3, 4\) for images and \(2, 4\) for texts"),
        (IMAGE, TEXT.double(), 1.0, 0.0, r"the same dtype; got torch.float32 for images and torch.float64 for texts"),
        (IMAGE, TEXT.to("meta"), 1.0, 0.0, r"the same device; got cpu for images and meta for texts"),
        (IMAGE.long(), TEXT.long(), 1.0, 0.0, r"image_features must be a float tensor; .*torch.int64"),
        (IMAGE[:0], TEXT[:0], 1.0, 0.0, r"at least one row and one column; got shape \(0, 4\)"),
    ],
)
def test_forward_names_what_is_wrong(
    image: torch.Tensor, text: torch.Tensor, scale: object, bias: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SigLipLoss()(image, text, scale, bias)


def test_whole_numbers_may_be_numpys_and_are_kept_as_ints() -> None:
    loss = SigLipLoss(rank=np.int64(1), world_size=np.int32(2), chunk_size=np.uint8(3))
    assert [(type(n), n) for n in (loss.rank, loss.world_size, loss.chunk_size)] == [(int, 1), (int, 2), (int, 3)]


def test_many_ranks_need_a_process_group() -> None:
    with pytest.raises(ValueError, match=r"world_size=2 and none is initialised: call torch.distributed.init_process"):
        SigLipLoss(world_size=2)(IMAGE, TEXT, 1.0, 0.0)


def disagreement() -> list[str]:
    told = []
    for rank, world_size in ((0, 2), ((dist.get_rank() + 1) % 3, 3)):
        try:
            SigLipLoss(rank=rank, world_size=world_size)(*ranks.leaves(replace(ranks.CASE, world_size=3)))
            told.append("no error")
        except ValueError as error:
            told.append(str(error))
        except RuntimeError as error:
            told.append(f"sent something: {error}")
    return told


@pytest.mark.xdist_group("loss")
def test_a_group_that_disagrees_is_named_on_every_rank_before_anything_is_sent(worlds: Worlds) -> None:
    for rank, (size, number) in enumerate(worlds.run(3, disagreement)):
        assert f"rank={rank} and world_size=3; got rank=0 and world_size=2" in size
        assert f"rank={rank} and world_size=3; got rank={(rank + 1) % 3} and world_size=3" in number


def outside() -> str:
    pair = dist.new_group([0, 1])
    if dist.get_rank() < 2:
        return ""
    with pytest.raises(ValueError, match="not in the group") as caught:
        SigLipLoss(rank=0, world_size=2, group=pair)(*ranks.leaves(replace(ranks.CASE, world_size=3)))
    return str(caught.value)


@pytest.mark.xdist_group("loss")
def test_a_rank_outside_the_group_is_told_so(worlds: Worlds) -> None:
    assert worlds.run(3, outside)[2] == "this process is not in the group that the loss was given; its global rank is 2"
