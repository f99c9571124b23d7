"""Wrong terms: a scale, a bias or an image that is lost, detached or applied wrongly before the sigmoid.

Here: what the logits of a block are made of. Not here: which logits are positives (`labels`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from siglip_verify.bugs.entry import ALL, Bug, Where, neighbour_of, seen_in, thread
from siglip_verify.bugs.plant import Meeting, Plant, block, block_at_once
from siglip_verify.loss.block import logits


def _bias_dropped(m: Meeting) -> Tensor:
    return block(m if m.is_own else m._replace(bias=torch.zeros_like(m.bias)))  # bug: not handed on


def _bias_detached(m: Meeting) -> Tensor:
    return block(m if m.is_own else m._replace(bias=m.bias.detach()))  # bug


def _scale_detached(m: Meeting) -> Tensor:
    return block(m if m.is_own else m._replace(scale=m.scale.detach()))  # bug


def _image_detached(m: Meeting) -> Tensor:
    return block(m if m.is_own else m._replace(image=m.image.detach()))  # bug


def _value_alone(m: Meeting) -> Tensor:
    return block(m) if m.is_own else block(m).detach()  # bug: loss.item(), as when summing for a log


def _logarithm(m: Meeting) -> Tensor:
    return block(m._replace(scale=m.scale.log()))  # bug: the parameter, which holds log t, without .exp()


def _positives_unscaled(m: Meeting) -> Tensor:
    if not m.is_own:
        return block(m)
    diagonal = torch.eye(len(m.image), dtype=torch.bool)
    return block_at_once(m, torch.where(diagonal, torch.ones_like(m.scale), m.scale))  # bug: <x, y> + c on the diagonal


def _log_of_sigmoid(m: Meeting) -> Tensor:
    z = logits(m.image, m.texts, m.scale, m.bias)
    y = torch.eye(len(z)).to(z) if m.is_own else torch.zeros_like(z)
    p = torch.sigmoid(z)  # bug: 0 or 1 beyond some z, of which the logarithm is infinite
    return -(y * p.log() + (1 - y) * (1 - p).log()).sum() / len(m.image)


BUGS = (
    Bug(
        id="bias-dropped",
        sentence="Remote blocks are computed without the bias.",
        source=thread("mlfoundations/open_clip", 1076),
        make=Plant(block=_bias_dropped),
        quantities=ALL,
        diagnosis=r"bias",
    ),
    Bug(
        id="bias-detached",
        sentence="The bias is detached on remote blocks.",
        source=neighbour_of("bias-dropped"),
        make=Plant(block=_bias_detached),
        quantities=seen_in("b"),
        diagnosis=r"bias.*gradient|gradient.*bias",
    ),
    Bug(
        id="scale-detached",
        sentence="The scale is detached on remote blocks.",
        source=neighbour_of("bias-dropped"),
        make=Plant(block=_scale_detached),
        quantities=seen_in("s"),
        diagnosis=r"scale.*gradient|gradient.*scale",
    ),
    Bug(
        id="image-detached",
        sentence="Image features are detached on remote blocks.",
        source=neighbour_of("bias-dropped"),
        make=Plant(block=_image_detached),
        quantities=seen_in("I"),
        diagnosis=r"image.*gradient|gradient.*image",
    ),
    Bug(
        id="remote-value-alone",
        sentence="Remote blocks enter the loss as plain numbers, without any gradient.",
        source=neighbour_of("image-detached"),
        make=Plant(block=_value_alone),
        quantities=seen_in("ITsb"),
        diagnosis=r"gradient.*remote|remote.*gradient",
    ),
    Bug(
        id="scale-logarithm",
        sentence="The logarithm of the scale is used in its place.",
        source=thread("BAAI-DCAI/M3D", 52),
        make=Plant(block=_logarithm),
        where=Where(min_world_size=1),
        quantities=ALL,
        diagnosis=r"scale",
    ),
    Bug(
        id="positives-unscaled",
        sentence="The scale is not applied to the logits of positive pairs.",
        source=thread("RElbers/info-nce-pytorch", 17),
        make=Plant(block=_positives_unscaled),
        where=Where(min_world_size=1),
        quantities=ALL,
        diagnosis=r"positive|scale",
    ),
    Bug(
        id="log-of-sigmoid",
        sentence="The sigmoid is taken before the logarithm: where |z| is large the loss is infinite or nan.",
        source=thread("deepspeedai/DeepSpeedExamples", 501),
        make=Plant(block=_log_of_sigmoid),
        where=Where(min_world_size=1, dtypes=("float32", "bfloat16"), features=("antipodal",), min_scale=120.0),
        quantities=ALL,
        diagnosis=r"inf|nan|large|saturat|logit",
    ),
)
