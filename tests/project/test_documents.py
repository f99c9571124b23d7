"""What docs/ says, executed, drawn and looked up.

Oracle: the documents, the plan, the files that they name. Sees: a command or snippet that does not work as written, a
link to nowhere, a picture that is not what the plan says, a diagram in which a block is lost.
"""

from __future__ import annotations

import html
import importlib.util
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from documents import blocks, commands, is_tests, links

from siglip_verify import cli, pytest_plugin
from siglip_verify.case import parse_case
from siglip_verify.run import simulated, whole
from siglip_verify.world import Worlds

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
WORKFLOW = ROOT / "examples" / "ci" / "siglip-verify.yml"
BY_NAME = pytest.mark.parametrize("path", DOCS, ids=lambda path: path.stem)


@pytest.fixture
def quick(small: None, folder: Path, worlds: Worlds, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Check our loss alone where none is named, and plant one bug in place of one of each kind, few ranks."""
    monkeypatch.setattr(pytest_plugin, "_session_worlds", lambda: worlds)
    monkeypatch.setenv("SIGLIP_VERIFY_LOSS", "siglip_verify.loss:SigLipLoss")
    monkeypatch.setattr(whole, "QUICK", ("ddp-scale",))
    monkeypatch.setattr(simulated, "FAKE_WORLD_SIZES", (8,))
    return folder


@BY_NAME
def test_every_command_runs_in_the_order_of_the_page(
    path: Path, quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = path.read_text()
    for index, cluster in enumerate(blocks(text, "toml")):
        (quick / ("my-cluster.toml" if "ranks_per_host" in cluster else f"{index}.toml")).write_text(cluster)
    for command in commands(text):
        code = cli.exit_code(shlex.split(command)[1:])
        shown = capsys.readouterr()
        assert code == 0, (command, shown)
        assert shown.out


@BY_NAME
def test_every_snippet_runs(path: Path, quick: Path) -> None:
    for snippet in blocks(path.read_text(), "python"):
        code = compile(snippet, path.name, "exec")
        if "import pandas" in snippet and importlib.util.find_spec("pandas") is None:
            continue  # not a dependency: there it is only compiled
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(code, names)
        tests = [test for name, test in names.items() if name.startswith("test_")]
        assert bool(tests) == is_tests(snippet)
        for test in tests:
            test()


@BY_NAME
def test_every_link_leads_somewhere(path: Path) -> None:
    for link in links(path.read_text()):
        assert (path.parent / link).exists(), link


@BY_NAME
def test_every_place_inside_a_page_is_a_heading_there(path: Path) -> None:
    for page, place in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text()):
        headings = re.findall(r"^#+ (.*)$", (path.parent / (page or path.name)).read_text(), re.M)
        assert place in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, place


def test_settings_in_pyproject_as_documented_are_taken(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOSS", "WORLD_SIZES"):
        monkeypatch.delenv(f"SIGLIP_VERIFY_{name}")
    (settings,) = blocks((ROOT / "docs" / "ci.md").read_text(), "toml")
    (quick / "pyproject.toml").write_text(settings.replace("1-5", "1-2"))
    assert cli.exit_code(["check"]) == 0
    assert (quick / "reports" / "junit.xml").exists()


def test_the_job_summary_is_written_where_ci_says(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(quick / "summary.md"))
    assert cli.exit_code(["check", "--world-sizes", "1"]) == 0
    assert (quick / "summary.md").read_text().startswith("## ✅ PASS: ")


# ------------------------------------------------------------------ the workflow
def test_the_workflow_runs_what_there_is_and_keeps_what_it_writes() -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert workflow[True] == ["push", "pull_request"], "YAML reads `on` as true"
    (job,) = workflow["jobs"].values()
    (run,) = [step["run"] for step in job["steps"] if "run" in step]
    assert run == "make verify REPORTS=reports"
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^verify: .*\n\t.* check .*--report-dir \$\(REPORTS\)$", makefile, re.M)
    (upload,) = [step for step in job["steps"] if "upload-artifact" in step.get("uses", "")]
    assert upload["if"] == "always()", "the reports of a failing check are wanted most"
    assert upload["with"]["path"] == "reports"


def test_the_command_for_a_loss_of_ones_own_in_the_workflow_is_the_documented_one() -> None:
    said = re.findall(r"#\s+(siglip-verify .*)", WORKFLOW.read_text())
    assert said == commands((ROOT / "docs" / "ci.md").read_text())


# ------------------------------------------------------------------ the sample
MEND = "make sample, or siglip-verify report reports/sample/report.json --format {} --report-dir reports/sample".format(
    "html,junit,md,messages,trace"
)


def test_the_sample_is_rendered_again_into_the_same_bytes_and_names_no_place_of_a_machine() -> None:
    from siglip_verify.report import FORMATS, load

    folder = ROOT / "reports" / "sample"
    report = load((folder / "report.json").read_bytes())
    assert report.verdict == "pass"
    assert report.catalogue is not None
    for made in FORMATS.values():
        written = (folder / made.file_name).read_bytes()
        assert written == made.render(report), f"{made.file_name} is not what is written today: {MEND}"
        assert not re.search(rb"/(home|root|tmp|usr|work|Users)\b|site-packages", written), made.file_name


# ------------------------------------------------------------------ pictures
@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "pictures").glob("*.svg")), ids=lambda path: path.stem)
def test_a_picture_names_no_place_of_a_machine(path: Path) -> None:
    assert not re.search(r"[ >;](/home|/root|/tmp|/work|/usr)/", path.read_text()), "make pictures"


def test_the_replay_line_in_the_picture_is_whole_and_can_be_run() -> None:
    shown = html.unescape(re.sub("<[^>]*>", " ", (ROOT / "docs" / "pictures" / "broken.svg").read_text()))
    words = " ".join(shown.split())
    line = re.search(r"siglip-verify replay '([^']*)' --loss my_loss.py:SigLipLoss", words)
    assert line, "make pictures"
    assert parse_case(line[1]).exchange == "bidir"


# ------------------------------------------------------------------ hop diagrams
def hop_diagrams():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("hop_diagrams", ROOT / "docs" / "hop_diagrams.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["hop_diagrams"] = module
    spec.loader.exec_module(module)
    return module


DIAGRAMS = hop_diagrams()
WITH_MESSAGES = [name for name, (exchange, _) in DIAGRAMS.FORMS.items() if exchange in ("bidir", "shift")]


def test_the_committed_diagrams_are_what_the_plan_says() -> None:
    for name in DIAGRAMS.FORMS:
        picture = ROOT / "docs" / "pictures" / f"hops-{name}.svg"
        assert picture.read_bytes() == DIAGRAMS.diagram(name), f"{picture.name}: make pictures"


@pytest.mark.parametrize("world_size", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("name", WITH_MESSAGES)
def test_in_a_diagram_every_rank_gets_every_text_once_and_every_gradient_comes_home(name: str, world_size: int) -> None:
    exchange, memory = DIAGRAMS.FORMS[name]
    planned = DIAGRAMS.plan(exchange, world_size, 1, 1, 1, memory=memory)
    texts: dict[int, list[int]] = {rank: [rank] for rank in range(world_size)}
    heard: dict[tuple[int, int], set[int]] = {}  # whose contributions to a block's gradient a rank holds, to be sent on
    for phase in ("forward", "backward"):
        for hop in range(len(planned.hops(phase))):
            sent = DIAGRAMS.messages(planned, phase, hop)
            for message in sent:
                assert all(block in texts[message.src] for block in message.texts), "a rank sends what it has"
            for message in sent:
                texts[message.dst] += message.texts
            for message in sent:
                for block in message.gradients:
                    held = heard.pop((message.src, block), set()) | {message.src}
                    heard.setdefault((message.dst, block), set()).update(held)
    assert {rank: sorted(held) for rank, held in texts.items()} == {
        rank: list(range(world_size)) for rank in range(world_size)
    }
    for block in range(world_size):
        assert heard[block, block] | {block} == set(range(world_size)), "each rank's part of a gradient is home"
