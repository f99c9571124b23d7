"""What a result was found with and on: versions and machine."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import torch


def environment() -> dict[str, str]:
    """Return versions and machine, in words."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "hypothesis": importlib.metadata.version("hypothesis"),
        "platform": f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        "processors": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "back end": "gloo, one process a rank, on loopback",
    }
