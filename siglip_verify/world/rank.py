"""What runs in a rank: join the group, then answer one job after another.

Here: the rank's own process from fork to exit. Not here: what the parent makes of its silence (`supervise`, `blame`).

Random generators are left as the fork finds them, alike on all ranks for numpy and torch: a job seeds what it uses.
"""

from __future__ import annotations

import datetime
import faulthandler
import mmap
import os
import pickle
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import NoReturn, TextIO, cast

import cloudpickle

from siglip_verify.world import kernel
from siglip_verify.world.channel import Channel
from siglip_verify.world.context import LOG_BYTES, RankContext, enter
from siglip_verify.world.messages import Hello, Job, Raised, Returned

STACK_SIGNAL = signal.SIGUSR1
"""Asks a rank for its Python stack; answered even by an endless loop, which never gives up the interpreter."""

GROUP_TIMEOUT = datetime.timedelta(days=1)
"""Of the process group. The parent has its own deadline for each job and must be the first to judge."""


def output_path(folder: Path, rank: int) -> Path:
    """Name the file that takes what a rank writes to stdout and stderr."""
    return folder / f"rank-{rank}.out"


def stack_path(folder: Path, rank: int) -> Path:
    """Name the file that takes a rank's Python stack, on request and when it crashes."""
    return folder / f"rank-{rank}.stack"


def main(
    *, channel_socket: socket.socket, log_descriptor: int, rank: int, world_size: int, folder: Path, template_pid: int
) -> NoReturn:
    """Be a rank until the parent closes the channel; never return into the template's code."""
    status = 1
    try:
        os.setpgid(0, 0)
        kernel.die_with_parent(template_pid)
        channel_socket.set_inheritable(False)
        channel = Channel(channel_socket)
        try:
            files = _redirect_output(folder, rank)
            log = memoryview(mmap.mmap(log_descriptor, LOG_BYTES))
            os.close(log_descriptor)
            _join_group(rank, world_size, folder)
            enter(RankContext(rank, world_size, log, folder))
        except Exception as error:
            _send(channel, pickle.dumps(Raised.of(error)))
        else:
            _send(channel, pickle.dumps(Hello(threading.get_ident())))
            _serve(channel, files)
        status = 0
    except (EOFError, ConnectionError):
        status = 0  # the parent is gone, and what it asked for with it
    finally:
        os._exit(status)


def _redirect_output(folder: Path, rank: int) -> tuple[int, int]:
    """Send stdout and stderr to this rank's file (appending: the parent may cut it short) and stacks to another.

    Returns:
        A descriptor of each: the files can be emptied where their names are gone.
    """
    output = os.open(output_path(folder, rank), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for stream in (sys.stdout, sys.stderr):
        cast("TextIO", stream).reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[attr-defined]
    stack_file = stack_path(folder, rank).open("a")  # faulthandler keeps it open
    faulthandler.enable(stack_file)
    faulthandler.register(STACK_SIGNAL, stack_file)
    return output, stack_file.fileno()


def _join_group(rank: int, world_size: int, folder: Path) -> None:
    """Join the gloo group and talk once: the hello that follows then means that the group works."""
    import torch  # the template has it; the parent, which imports this module too, has no need of it
    import torch.distributed as dist

    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
    os.environ.update({name: str(value) for name, value in place.items()})  # as torchrun does
    store = dist.FileStore(str(folder / "rendezvous"), world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world_size, timeout=GROUP_TIMEOUT)
    dist.barrier()


def _serve(channel: Channel, files: tuple[int, ...]) -> NoReturn:
    while True:
        message = channel.receive()
        assert message is not None  # the socket blocks
        for file in files:
            os.ftruncate(file, 0)  # what stands there when a job fails is of that job
        _send(channel, _answer(pickle.loads(message)))


def _answer(job: Job) -> bytes:
    """Do the job; whatever it raises, SystemExit and KeyboardInterrupt included, becomes the answer."""
    try:
        os.chdir(job.cwd)
        sys.path[:] = job.sys_path
        function, args = pickle.loads(job.call)
        value = function(*args)
    except BaseException as error:
        return pickle.dumps(Raised.of(error))
    try:
        return cloudpickle.dumps(Returned(value))
    except Exception as error:
        return pickle.dumps(Raised.of(error, f"returned a {type(value).__name__} that cannot be pickled: "))


def _send(channel: Channel, message: bytes) -> None:
    channel.post(message)
    channel.flush()
