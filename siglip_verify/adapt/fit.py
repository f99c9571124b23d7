"""Whether a loss that was built fits its declaration: it has the parameters that are named as its own.

Here: what can be said before the loss is called. Not here: building it (`load`), or what it returns (`adapted`).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from siglip_verify.adapt.spec import LossSpec, LossSpecError


def own_parameter(spec: LossSpec, loss: Any, flag: str, name: str) -> nn.Parameter:
    """Return the parameter of a loss that a flag names.

    Args:
        spec: The declaration.
        loss: What is called.
        flag: The flag, for the error.
        name: What was given for it.

    Raises:
        LossSpecError: There is none of that name, or it holds more than one number.
    """
    if not isinstance(loss, nn.Module):
        raise LossSpecError(
            f"{flag} names a parameter of a torch.nn.Module; got {name!r}, and {spec.target} has no parameters: "
            f"leave {flag} out"
        )
    found = dict(loss.named_parameters())
    if name not in found:
        mend = f"name one of {', '.join(found)}" if found else f"it has none, so leave {flag} out"
        raise LossSpecError(f"{spec.target} has no parameter {name!r}, which {flag} names; {mend}")
    if found[name].numel() != 1:
        raise LossSpecError(
            f"{flag} names a parameter that holds one number; got {name!r}, which has shape {tuple(found[name].shape)} "
            f"in {spec.target}"
        )
    return found[name]
