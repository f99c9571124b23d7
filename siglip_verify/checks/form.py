"""The forms of our loss: which of its arguments change what it sends, and the plan of a step in each form.

Here: from a case and a form to a plan. Not here: where forms come from (`run.declare`), and any comparison.
"""

from __future__ import annotations

import msgspec

from siglip_verify.case import Case, DType, itemsize
from siglip_verify.plan import Memory, Plan, plan
from siglip_verify.plan.schedule import GatherBackward


class Form(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of our loss's arguments changes what it sends; each means what it means there.

    Attributes:
        memory: What is kept until backward.
        overlap: Whether a block goes on before this rank has looked at it.
        ragged: Whether ranks may differ in rows; they agree on them first, and pad their blocks to the most.
        grad_dtype: What gradients that travel along are added up in; None is float32, or the features' dtype where that
            is wider.
        check_upstream: Whether backward compares upstream gradients with the neighbours.
        check_shapes: Whether the ranks agree on their shapes first.
        gather_backward: How gather's gradients come home; no argument, but what the loss does on the back end.
    """

    memory: Memory = "autograd"
    overlap: bool = False
    ragged: bool = False
    grad_dtype: DType | None = None
    check_upstream: bool = False
    check_shapes: bool = False
    gather_backward: GatherBackward = "all_to_all"

    def takes(self, dtype: DType) -> bool:
        """Tell whether features may be of this dtype: travelling gradients are of no narrower one."""
        return self.grad_dtype in (None, dtype) or itemsize(dtype) < itemsize(self.grad_dtype)

    def gradient_dtype(self, dtype: DType) -> DType:
        """Return the dtype in which text gradients travel, for features of this one; autograd has no other."""
        if self.memory == "autograd":
            return dtype
        return self.grad_dtype or ("float64" if dtype == "float64" else "float32")


def planned_step(case: Case, form: Form) -> Plan:
    """Return the plan of our loss in some form for a case."""
    return plan(
        case.exchange,
        case.world_size,
        case.batch,
        case.dim,
        itemsize(case.dtype),
        image_grad=case.frozen != "image",
        text_grad=case.frozen != "text",
        memory=form.memory,
        overlap=form.overlap,
        grad_itemsize=None if form.memory == "autograd" else itemsize(form.gradient_dtype(case.dtype)),
        agrees=form.ragged or form.check_shapes,
        compares=form.check_upstream,
        gather_backward=form.gather_backward,
    )
