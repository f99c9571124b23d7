"""What was really sent: each operation as seen from inside its rank, and each rank's bytes as seen by the kernel.

In the rank: `Recorder` writes a log of its operations, `WireMeter` reads its sockets. In the parent: `read_log` and
`attribute` make records of them. `held` counts what a rank holds. Only what runs in a rank needs torch.
"""

from siglip_verify.observe.backend import Backend, Observer
from siglip_verify.observe.log import (
    LogHeader,
    LogOverflowError,
    Operation,
    clear_log,
    log_bytes,
    read_header,
    read_log,
)
from siglip_verify.observe.recorder import Recorder
from siglip_verify.observe.sockets import SocketCount, read_sockets, tcp_info_available
from siglip_verify.observe.wire import Gate, Store, WireMeter, WireReading, attribute, store_gate

__all__ = [
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
