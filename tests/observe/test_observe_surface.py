"""The public names of `siglip_verify.observe`, and what importing them costs.

Oracle: the list below. Can see: a name that comes or goes unnoticed, torch loaded into a parent that only reads.
"""

from __future__ import annotations

import subprocess
import sys

from siglip_verify import observe


def test_the_public_names_are_these() -> None:
    assert observe.__all__ == [
        "Backend",
        "Gate",
        "LogHeader",
        "LogOverflowError",
        "Observer",
        "Operation",
        "Recorder",
        "SocketCount",
        "Store",
        "WireMeter",
        "WireReading",
        "attribute",
        "clear_log",
        "log_bytes",
        "read_header",
        "read_log",
        "read_sockets",
        "store_gate",
        "tcp_info_available",
    ]
    assert all(hasattr(observe, name) for name in observe.__all__)


def test_reading_logs_needs_no_torch() -> None:
    code = "import sys, siglip_verify.observe; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
