"""The lines of README and docs/ by which a launcher starts this package, read as bash, torchrun and we read them.

Oracle: bash, torchrun's parser, our command line. Sees: an option that torchrun or the command does not have, a
variable of a launcher that is not set, a quote that is not closed. `tests/world/joined` shows that they work.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from documents import blocks, launched
from torch.distributed.run import get_args_parser

from siglip_verify.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINES = [line for page in PAGES for line in launched(page.read_text())]
SCRIPTS = [script for page in PAGES for script in blocks(page.read_text(), "sh") if "-m siglip_verify" in script]


def ours(words: list[str]) -> list[str]:
    """Return the arguments of this package's command line."""
    assert words[:2] == ["-m", "siglip_verify"], words
    return words[2:]


def test_readme_and_the_page_of_clusters_have_each_launcher() -> None:
    for page in ("README.md", "docs/clusters.md"):
        lines = launched((ROOT / page).read_text())
        assert any("--standalone" in line for line in lines)
        assert any("--nnodes" in line for line in lines)
        assert any(line.startswith("srun") for line in lines)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("torchrun")])
def test_torchrun_and_the_command_take_every_option(line: str) -> None:
    read = get_args_parser().parse_args(shlex.split(line)[1:])
    assert (read.module, read.training_script) == (True, "siglip_verify")
    assert read.standalone or (read.rdzv_backend, read.rdzv_endpoint) == ("c10d", "head:29500")
    app.parse_args(read.training_script_args, exit_on_error=False)


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith("torchrun")])
def test_slurm_sets_what_a_rank_reads_and_the_command_takes_every_option(line: str) -> None:
    srun, bash, flag, script = shlex.split(line)
    assert (srun, bash, flag) == ("srun", "bash", "-c")
    words = shlex.split(script)
    assert {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= {word.partition("=")[0] for word in words if "=" in word}
    app.parse_args(ours(words[words.index("python") + 1 :]), exit_on_error=False)


@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_can_read_every_block_and_the_address_of_rank_0_is_set(script: str) -> None:
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=10)
    if "srun" in script:
        assert re.search(r"MASTER_ADDR=\$\(.*?\) MASTER_PORT=\d+", script)
