"""A user's loss: what is declared of it, loading it inside a rank, and calling it as ours is called."""

from siglip_verify.adapt.adapted import AdaptedLoss
from siglip_verify.adapt.load import Traits, traits
from siglip_verify.adapt.spec import (
    OF_EACH_CASE,
    OPEN_CLIP,
    OURS,
    Argument,
    LossSpec,
    LossSpecError,
    open_clip_installed,
    resolve,
)

__all__ = [
    "OF_EACH_CASE",
    "OPEN_CLIP",
    "OURS",
    "AdaptedLoss",
    "Argument",
    "LossSpec",
    "LossSpecError",
    "Traits",
    "open_clip_installed",
    "resolve",
    "traits",
]
