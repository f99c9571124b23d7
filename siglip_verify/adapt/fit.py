"""Whether a loss that was built fits its declaration: it has the parameters named as its own, and takes the rest.

Here: what can be said before the loss is called. Not here: building it (`load`), or what it returns (`adapted`).
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from siglip_verify.adapt.load import Kind
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


def check_call(spec: LossSpec, loss: Any, kind: Kind) -> None:
    """Check that a loss can be called with what it does not own, as far as its signature says.

    Args:
        spec: The declaration.
        loss: What is called.
        kind: What the target is.

    Raises:
        LossSpecError: It takes something else; the message says what, and the mend.
    """
    given = ["images", "texts"]
    given += ["scale"] * (spec.scale_parameter is None) + ["bias"] * (spec.bias_parameter is None)
    takes = _signature(loss)
    if takes is None:
        return
    try:
        takes.bind(*given)
    except TypeError:
        called = f"what {spec.target} returns" if kind == "factory" else spec.target
        raise LossSpecError(
            f"{called} is called with ({', '.join(given)}), in this order and without names; it takes "
            f"{_in_short(takes)}: {_mend(loss)}"
        ) from None


def _mend(loss: Any) -> str:
    """Say what makes a loss of another signature one that can be called."""
    own = [name for name, _ in loss.named_parameters()] if isinstance(loss, nn.Module) else []
    factory = "name a factory make(rank, world_size, exchange) that returns a function of these"
    if not own:
        return factory
    return f"say with --scale-parameter and --bias-parameter which of {', '.join(own)} it keeps them in, or {factory}"


def _signature(loss: Any) -> inspect.Signature | None:
    """Return what a loss takes itself, whatever it wraps; None where Python cannot say, as of what is not in Python."""
    called_by_torch = isinstance(loss, nn.Module) and type(loss).__call__ is nn.Module.__call__
    try:
        return inspect.signature(loss.forward if called_by_torch else loss, follow_wrapped=False)
    except (TypeError, ValueError):
        return None


def _in_short(signature: inspect.Signature) -> str:
    """Write a signature without its annotations."""
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
