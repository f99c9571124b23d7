"""What a user writes of a simulation, read: cluster, world sizes, dtype, memory; errors say what may be written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from siglip_verify.case import DTYPES, DType
from siglip_verify.errors import UsageError
from siglip_verify.simulate.cluster import Cluster, read_cluster
from siglip_verify.simulate.compute import MEMORY_MODES, MemoryMode
from siglip_verify.simulate.presets import PRESETS

_SHORT: Mapping[str, DType] = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "fp64": "float64"}
_DTYPES: Mapping[str, DType] = {**{dtype: dtype for dtype in DTYPES}, **_SHORT}
_MODES: Mapping[str, MemoryMode] = {mode: mode for mode in MEMORY_MODES}


def cluster_named(name: str) -> Cluster:
    """Return a preset by its name, or one's own cluster by the path of its TOML file.

    Raises:
        UsageError: There is no such preset, or the file cannot be used.
    """
    if name in PRESETS:
        return PRESETS[name]
    if not name.endswith(".toml"):
        raise UsageError(f"a cluster is one of {', '.join(PRESETS)}, or the path of a .toml file; got {name!r}")
    return read_cluster(Path(name))


def parse_world_sizes(text: str) -> tuple[int, ...]:
    """Read world sizes: `8-4096` is the powers of two from 8 to 4,096, `24,48` is these two.

    Raises:
        UsageError: The text is neither.
    """
    sizes: set[int] = set()
    for word in text.split(","):
        ends = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", word)
        if ends is None:
            raise UsageError(
                f"world sizes are numbers, and ranges for their powers of two, as 8-4096 or 24,48; got {text!r}"
            )
        first, last = int(ends[1]), int(ends[2] or ends[1])
        powers = {1 << power for power in range(last.bit_length()) if first <= 1 << power <= last}
        if ends[2] and not powers:
            raise UsageError(
                f"a range stands for its powers of two; got {word.strip()}, which has none: list the numbers"
            )
        sizes |= powers if ends[2] else {first}
    return tuple(sorted(sizes))


def dtype_named(name: str) -> DType:
    """Return a dtype by its name or its short one, such as `bf16`.

    Raises:
        UsageError: There is no such dtype.
    """
    if name not in _DTYPES:
        raise UsageError(f"dtype is one of {', '.join(_DTYPES)}; got {name!r}")
    return _DTYPES[name]


def memory_modes(text: str) -> tuple[MemoryMode, ...]:
    """Read what is kept until backward, names with commas.

    Raises:
        UsageError: A name is unknown, or there is none.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word in _MODES for word in words):
        raise UsageError(f"memory is some of {', '.join(_MODES)}, with commas; got {text!r}")
    return tuple(_MODES[word] for word in words)
