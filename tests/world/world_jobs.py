"""Functions that the tests run in ranks: what a rank may do wrong, and what the others do meanwhile.

Module-level and importing torch alone, so that they travel by name and a rank imports nothing of the tests' tools.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from siglip_verify.world import context


def has_imported(modules: Sequence[str]) -> bool:
    return set(modules) <= set(sys.modules)


def pid() -> int:
    return os.getpid()


def echo(value: Any) -> Any:
    return value


def all_reduced_gradient(seed: int, rows: int, dim: int) -> tuple[int, Any]:
    """This rank and the sum over ranks of the gradient of |x x^T|^2 / 4, with x drawn from seed + rank."""
    generator = torch.Generator().manual_seed(seed + dist.get_rank())
    x = torch.randn(rows, dim, dtype=torch.float64, generator=generator, requires_grad=True)
    ((x @ x.T).square().sum() / 4).backward()
    assert x.grad is not None
    dist.all_reduce(x.grad)
    return context().rank, x.grad.numpy()


def meet() -> None:
    dist.all_reduce(torch.ones(4))


def one_rank_does(culprit: int, misdeed: str) -> None:
    """Rank `culprit` does `misdeed`; the others wait for it in an all-reduce."""
    if dist.get_rank() == culprit:
        globals()[misdeed]()
    meet()


# ------------------------------------------------------------------ misdeeds
def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def abort() -> None:
    os.abort()


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def exit_at_once() -> None:
    os._exit(3)


def stop_itself() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def raise_value_error() -> None:
    raise ValueError("odd number of ranks")


def leave() -> None:
    sys.exit("no reason")


def interrupt() -> None:
    raise KeyboardInterrupt


def sleep_for_ever() -> None:
    time.sleep(1000)


def loop_for_ever() -> None:
    while True:
        pass


def raise_a_class_of_its_own() -> None:
    class OnlyHereError(Exception):
        def __init__(self, first: int, second: int) -> None:
            super().__init__(f"{first} and {second}")

    raise OnlyHereError(1, 2)


def raise_without_text() -> None:
    class UnprintableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    raise UnprintableError


# ------------------------------------------------------------------ trouble among ranks
def receive_from_next() -> None:
    """Every rank waits for a message that nobody sends."""
    dist.recv(torch.ones(4), (dist.get_rank() + 1) % dist.get_world_size())


def wait_for_work_of_next() -> None:
    """The same in the non-blocking form, whose wait leaves no frame of torch on the stack."""
    operation = dist.P2POp(dist.irecv, torch.ones(4), (dist.get_rank() + 1) % dist.get_world_size())
    for work in dist.batch_isend_irecv([operation]):
        work.wait()


def first_rank_returns_early() -> None:
    if dist.get_rank() > 0:
        dist.recv(torch.ones(4), 0)


def send_more_than_is_received() -> None:
    if dist.get_rank() == 0:
        dist.send(torch.ones(8), 1)
    else:
        dist.recv(torch.ones(4), 0)
    time.sleep(1)


def start_a_child(then: str) -> None:
    child = subprocess.Popen(["sleep", "1000"])
    (context().folder.parent / "child").write_text(str(child.pid))
    globals()[then]()


# ------------------------------------------------------------------ answers and output
class FailsToLoad:
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("not a number",)


def return_what_cannot_be_pickled() -> Any:
    return (number for number in range(3))


def return_what_cannot_be_loaded() -> Any:
    return FailsToLoad()


def return_megabytes(num_bytes: int) -> bytes:
    return bytes([context().rank]) * num_bytes


def print_megabytes(num_bytes: int) -> int:
    line = "x" * 999
    for _ in range(num_bytes // 1000):
        print(line)
    return num_bytes


def print_and_fail() -> None:
    print_megabytes(1_000_000)
    print("last words on stdout")
    print("last words on stderr", file=sys.stderr)
    raise ValueError("after much output")


def print_for_ever() -> NoReturn:
    """Print, and count the bytes printed in the first 8 bytes of the log."""
    text = "x" * 999_999
    count = 0
    while True:
        print(text)
        count += 1_000_000
        context().log[:8] = count.to_bytes(8, "big")
        time.sleep(0.01)


def write_log(text: bytes) -> None:
    context().log[: len(text) + 1] = text + bytes([context().rank])


def write_log_and_die(text: bytes) -> None:
    write_log(text)
    context().log[-1:] = b"!"
    meet()
    if context().rank == 0:
        kill_itself()
    meet()


def surroundings() -> dict[str, Any]:
    return {
        "torch_threads": torch.get_num_threads(),
        "stdin": sys.stdin.read(),
        "interface": os.environ.get("GLOO_SOCKET_IFNAME"),
        "place": [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")],
        "session": os.getsid(0),
        "interrupts": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "cwd": str(Path.cwd()),
        "folder_mode": context().folder.parent.stat().st_mode & 0o777,
    }


def open_sockets() -> set[str]:
    """The unix sockets and pidfds that this rank holds, by the kernel's name."""
    descriptors = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]  # the listing's own is closed again
    links = {str(Path(f"/proc/self/fd/{number}").readlink()) for number in descriptors if is_open(number)}
    unix = {f"socket:[{line.split()[6]}]" for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
    return {link for link in links if link in unix or "pidfd" in link}


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
