"""A declaration in words, for reports, in flags, for the line that replays a case, and as the form of our loss.

Here: what follows from a declaration alone. Not here: what a loss that was loaded takes (`limits`).
"""

from __future__ import annotations

import shlex

import msgspec

from siglip_verify.adapt import OPEN_CLIP, OURS, LossSpec, open_clip_installed, resolve
from siglip_verify.case import Case, Exchange, format_case
from siglip_verify.checks.form import Form
from siglip_verify.plan import has_form
from siglip_verify.plan.schedule import GatherBackward
from siglip_verify.world.pool import DEFAULT_TIMEOUT_S

_LEAVES_MESSAGES_ALONE = {"cache_labels", "chunk_size"}
_TORCH = "torch."


# ------------------------------------------------------------------ our loss
def form_of(spec: LossSpec, gather_backward: GatherBackward = "all_to_all") -> Form | None:
    """Return the form in which our loss is declared; None for other losses, and arguments whose messages no plan says.

    Where there is a form, what is recorded must be what is planned.
    """
    if spec.target != OURS:
        return None
    named = {name: value for name, value in spec.args.items() if name not in _LEAVES_MESSAGES_ALONE}
    if isinstance(dtype := named.get("grad_dtype"), str):
        named["grad_dtype"] = dtype.removeprefix(_TORCH)
    try:
        return msgspec.structs.replace(msgspec.convert(named, Form), gather_backward=gather_backward)
    except msgspec.ValidationError:
        return None


def promises_flat_memory(spec: LossSpec) -> bool:
    """Tell whether a loss is a form of ours that keeps no block of another rank for its backward."""
    form = form_of(spec)
    return form is not None and form.memory != "autograd"


def with_own_convention(spec: LossSpec) -> LossSpec:
    """Complete the declaration of our loss by what its arguments say of its convention; others stay as they are."""
    form = form_of(spec)
    if form is None:
        return spec
    return msgspec.structs.replace(
        spec,
        normalizer="N/W" if form.ragged else spec.normalizer,
        same_upstream=spec.same_upstream or form.memory == "constant",
    )


def with_own_checks(spec: LossSpec) -> LossSpec:
    """Return our loss with the checks that it makes of its callers; others stay as they are."""
    form = form_of(spec)
    if form is None:
        return spec
    checks = {"check_shapes": True} | ({"check_upstream": True} if form.memory == "constant" else {})
    return msgspec.structs.replace(spec, args={**checks, **spec.args})


def exchanges_of(spec: LossSpec, exchanges: tuple[Exchange, ...]) -> tuple[Exchange, ...]:
    """Return those of some exchanges that our loss has in its declared form; all for other losses."""
    form = form_of(spec)
    if form is None:
        return exchanges
    return tuple(each for each in exchanges if has_form(each, memory=form.memory, overlap=form.overlap))


# ------------------------------------------------------------------ in words and flags
def declaration(spec: LossSpec) -> str:
    """Return what was declared of a loss, in words."""
    words = [f"{spec.reduction} over ranks of sums divided by {spec.normalizer}"]
    if not spec.row_wise:
        words.append("local values not row-wise")
    if spec.same_upstream:
        words.append("one upstream gradient on all ranks")
    own = [name for name in (spec.scale_parameter, spec.bias_parameter) if name]
    if own:
        words.append(f"own parameter{'s' * (len(own) > 1)} {' and '.join(own)}")
    if spec.dtypes:
        words.append(f"made for {', '.join(spec.dtypes)}")
    words.extend(spec.arguments)
    return ", ".join(words)


def judged_declaration(spec: LossSpec) -> str:
    """Return what was declared of a loss, and which checks it makes of its callers while it is judged."""
    checks = [word for word in with_own_checks(spec).arguments if word not in spec.arguments]
    return declaration(spec) + (f"; judged with {', '.join(checks)}" if checks else "")


def shown_target(spec: LossSpec) -> str:
    """Return where a loss is, as a user names it: open_clip's by its name, wherever that is installed."""
    installed = open_clip_installed() and spec.target == resolve(OPEN_CLIP)
    return OPEN_CLIP if installed else spec.target


def replay_line(case: Case, spec: LossSpec, timeout_s: float = DEFAULT_TIMEOUT_S) -> str:
    """Return the shell line that runs one case of a loss again, in the time that it had."""
    words = ["siglip-verify", "replay", format_case(case)]
    return shlex.join([*words, *declared_flags(spec), *_timeout_flag(timeout_s)])


def check_line(exchange: Exchange, world_sizes: str, spec: LossSpec, timeout_s: float = DEFAULT_TIMEOUT_S) -> str:
    """Return the shell line that measures a loss again, after one case at each of some world sizes."""
    words = ["siglip-verify", "check", "--exchanges", exchange, "--world-sizes", world_sizes, "--examples", "1"]
    return shlex.join([*words, *declared_flags(spec), *_timeout_flag(timeout_s)])


def _timeout_flag(timeout_s: float) -> list[str]:
    """Return the flag for a timeout; none for the usual one."""
    return [] if timeout_s == DEFAULT_TIMEOUT_S else ["--timeout", str(timeout_s).removesuffix(".0")]


def declared_flags(spec: LossSpec) -> list[str]:
    """Return the flags that declare a loss on the command line; none for what ours is without any."""
    default = with_own_convention(LossSpec(target=spec.target, args=spec.args))
    flags: list[str] = []
    if spec.target != OURS:
        flags += ["--loss", shown_target(spec)]
    for argument in spec.arguments:
        flags += ["--arg", argument]
    for field in ("reduction", "normalizer", "scale_parameter", "bias_parameter"):
        if getattr(spec, field) != getattr(default, field):
            flags += [f"--{field.replace('_', '-')}", str(getattr(spec, field))]
    if not spec.row_wise:
        flags.append("--no-row-wise")
    if spec.same_upstream != default.same_upstream:
        flags.append("--same-upstream")
    if spec.dtypes:
        flags += ["--dtypes", ",".join(spec.dtypes)]
    flags += ["--log-scale"] * spec.log_scale + ["--any-layout"] * spec.any_layout
    return flags
