"""The loss in what a loss returns.

Oracle: the rule, written out for dicts of a few keys. Sees: another entry taken for the loss, and one that is guessed.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify.adapt import LossSpecError
from siglip_verify.adapt.adapted import loss_of

KEYS = ["loss", "contrastive_loss", "sigmoid_loss", "caption_loss", "logits", 0]


@given(st.lists(st.sampled_from(KEYS), unique=True))
def test_the_entry_of_a_dict_is_the_one_that_names_the_loss(keys: list[str | int]) -> None:
    returned = {key: torch.tensor(float(KEYS.index(key))) for key in keys}
    others = [key for key in keys if key in ("sigmoid_loss", "caption_loss")]
    if "contrastive_loss" in keys:
        named = "contrastive_loss"
    elif "loss" in keys:
        named = "loss"
    elif len(others) == 1:
        named = others[0]
    else:
        with pytest.raises(
            LossSpecError, match=r"x:y returned a dict with the keys \[.*must name the loss: call it 'l"
        ):
            loss_of(returned, "x:y")
        return
    assert loss_of(returned, "x:y").item() == KEYS.index(named)
