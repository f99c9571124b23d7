"""The process of the command, which loads nothing of the user's: ranks do.

Oracle: the process numbers that a loss's file writes down wherever it is loaded. Sees: a command that loads the file in
its own process, where its imports and side effects would outlive the worlds, or in the template, of which every later
rank is forked.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from siglip_verify import cli
from siglip_verify.world import Worlds

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.xdist_group("cli"),
    pytest.mark.usefixtures("warm"),
]

LOADED = """
import os
from pathlib import Path

from siglip_verify.loss import SigLipLoss as Loss

with (Path(__file__).parent / "loaded-by").open("a") as loaded_by:
    loaded_by.write(f"{os.getpid()}\\n")
"""


@pytest.mark.parametrize(
    "command",
    [
        ["check", "--exchanges", "shift", "--world-sizes", "2", "--examples", "2"],
        ["replay", "shift W=2 b=2 d=3"],
        ["messages", "--exchange", "shift", "--world-size", "2"],
    ],
    ids=lambda command: command[0],
)
def test_no_process_but_ranks_loads_the_users_file(
    command: list[str], worlds: Worlds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"a_loss_of_{command[0]}"
    (tmp_path / f"{name}.py").write_text(LOADED)
    monkeypatch.chdir(tmp_path)
    assert cli.exit_code([*command, "--loss", f"{name}.py:Loss"]) == 0
    loaded_by = {int(pid) for pid in (tmp_path / "loaded-by").read_text().split()}
    template, *ranks = worlds.pids()
    assert loaded_by
    assert loaded_by <= set(ranks), f"this process is {os.getpid()}, the template {template}"
    assert name not in sys.modules
