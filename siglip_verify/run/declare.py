"""A declaration in words, for reports, and in flags, for the line that replays a case."""

from __future__ import annotations

import shlex

from siglip_verify.adapt import OURS, LossSpec
from siglip_verify.case import Case, format_case

_LEAVES_MESSAGES_ALONE = {"cache_labels", "chunk_size"}


def has_plan(spec: LossSpec) -> bool:
    """Tell whether what a loss sends must be what is planned: ours, without an argument that changes what is sent."""
    return spec.target == OURS and spec.args.keys() <= _LEAVES_MESSAGES_ALONE


def declaration(spec: LossSpec) -> str:
    """Return what was declared of a loss, in words."""
    words = [f"{spec.reduction} over ranks of sums divided by {spec.normalizer}"]
    if not spec.row_wise:
        words.append("local values not row-wise")
    if spec.scale_parameter:
        words.append(f"own parameters {spec.scale_parameter} and {spec.bias_parameter}")
    words.extend(f"{name}={value}" for name, value in spec.args.items())
    return ", ".join(words)


def replay_line(case: Case, spec: LossSpec) -> str:
    """Return the shell line that runs one case of a loss again."""
    words = ["siglip-verify", "replay", format_case(case), *declared_flags(spec)]
    return shlex.join(words)


def declared_flags(spec: LossSpec) -> list[str]:
    """Return the flags that declare a loss on the command line; none for ours."""
    default = LossSpec()
    flags: list[str] = []
    if spec.target != OURS:
        flags += ["--loss", spec.target]
    for name, value in spec.args.items():
        flags += ["--arg", f"{name}={value}"]
    for field in ("reduction", "normalizer", "scale_parameter", "bias_parameter"):
        if getattr(spec, field) != getattr(default, field):
            flags += [f"--{field.replace('_', '-')}", str(getattr(spec, field))]
    if not spec.row_wise:
        flags.append("--no-row-wise")
    flags += ["--log-scale"] * spec.log_scale + ["--any-layout"] * spec.any_layout
    return flags
