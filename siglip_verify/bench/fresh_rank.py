"""One rank in an interpreter of its own: `python -m siglip_verify.bench.fresh_rank RANK FOLDER CASE` prints its loss.

What a test without a pool of warm worlds has to do for each case. Here: that, and nothing more.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from siglip_verify import adapt
from siglip_verify.adapt import LossSpec
from siglip_verify.case import parse_case
from siglip_verify.records import RankRecord
from siglip_verify.run import step
from siglip_verify.world.context import LOG_BYTES, RankContext, enter
from siglip_verify.world.kernel import loopback_interface


def main(rank: int, folder: Path, line: str) -> None:
    """Join a gloo group through a file in the folder, run the case, print this rank's loss as JSON."""
    case = parse_case(line)
    torch.set_num_threads(1)
    interface = loopback_interface()
    if interface:
        os.environ["GLOO_SOCKET_IFNAME"] = interface
    store = dist.FileStore(str(folder / "rendezvous"), case.world_size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=case.world_size)
    enter(RankContext(rank, case.world_size, memoryview(bytearray(LOG_BYTES)), folder))
    record = step.step(LossSpec(), adapt.traits(LossSpec()), case)
    assert isinstance(record, RankRecord), record
    dist.barrier()
    dist.destroy_process_group()
    print(json.dumps(record.loss))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
