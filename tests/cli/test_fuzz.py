"""Whatever a user gives: words that the option parser lets through, and files that are nearly right.

Oracle: the table of exit codes. No rank can be started here, which is exit code 3: whoever gets that far has been
understood. Sees: an exception that nobody turned into a sentence (70), and an exit code of the wrong kind.
"""

from __future__ import annotations

import contextlib
import copy
import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from effort import examples
from hypothesis import given
from hypothesis import strategies as st

from siglip_verify import cli
from siglip_verify.case import EXCHANGES, Case
from siglip_verify.cli import bench, claims, output
from siglip_verify.cli.exit_codes import EXIT_CODES, USAGE
from siglip_verify.report import FORMATS, dump
from siglip_verify.world import WorldError, Worlds
from tests.report import samples

pytestmark = pytest.mark.xdist_group("cli")
UNKNOWN = EXIT_CODES["unknown"]


@pytest.fixture(autouse=True, scope="module")
def _no_ranks() -> Iterator[None]:
    def none(*_: object, **__: object) -> None:
        raise WorldError((), 0, reason="there are none here")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Worlds, "_live_template", none)
        patch.setattr(claims, "check_claims", none)  # to which that is an answer
        patch.setattr(bench, "run_benches", none)  # some need no world
        patch.setattr(output, "run_faults", none)  # to which a world that cannot be made is an outcome
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to be in, some levels down: what is written to `..` is still within the tests' own."""
    inner = tmp_path_factory.mktemp("fuzz") / "a" / "b"
    inner.mkdir(parents=True)
    return inner


def code_of(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run a command in a folder; return its exit code and what it said."""
    said = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        return cli.exit_code([*arguments]), said.getvalue()


# ------------------------------------------------------------------ words
WORDS = """
    0 1 2 -1 2-3 1,2 3.5 nan inf -inf 1e400 999999999999999999999 true {} [1] none . .. /dev/null ~nobody/a.npz a:b
    a.py:b k=v k={ k=\udcff \udcff bidir shift,gather mean sum b N fp32 float16 bf16 ci dev text json html,json quick
    all image h100-ib loopback a.toml a.npz one auto gather-no-grad stopped bidir-steps
"""
NEARLY_RIGHT = st.sampled_from(WORDS.split())
ANYTHING = st.text(
    st.characters(exclude_characters="\0/~", exclude_categories=["Cs"], include_characters="\udcff"), max_size=12
)
COMMANDS = [
    "check",
    "replay",
    "messages",
    "calibrate",
    "bugs",
    "train",
    "claims",
    "simulate",
    "bench",
    "faults",
    "soak",
]


def options(command: str) -> list[str]:
    """Return the names of a command's options, as the command itself declares them."""
    collected = cli.app[command].assemble_argument_collection()
    return sorted({name for argument in collected for name in argument.names if name.startswith("--")})


@st.composite
def command_lines(draw: st.DrawFn, command: str) -> list[str]:
    words = [command]
    if command == "replay":
        words.append(draw(st.one_of(st.sampled_from(EXCHANGES), case_lines(), ANYTHING)))
    if command == "simulate":
        words += ["--world-sizes", draw(st.sampled_from(["8", "8,16", "2-8", "9"]))]
    for option in draw(st.lists(st.sampled_from(options(command)), max_size=3, unique=True)):
        if option in words:
            continue
        words.append(option)
        if not is_flag(command, option):
            words.append(draw(NEARLY_RIGHT | ANYTHING))
    return words


def is_flag(command: str, option: str) -> bool:
    collected = cli.app[command].assemble_argument_collection()
    return any(option in argument.names and argument.hint is bool for argument in collected)


@pytest.mark.parametrize("command", COMMANDS)
@examples(10)
@given(data=st.data())
def test_words_that_the_parser_lets_through_are_understood_or_named(
    command: str, folder: Path, data: st.DataObject
) -> None:
    words = data.draw(command_lines(command))
    code, said = code_of(folder, *words)
    assert code in ({USAGE, 0} if command == "simulate" else {USAGE, UNKNOWN}), said


# ------------------------------------------------------------------ a case
NAMES = st.sampled_from(["W", "b", "d", "chunk", *Case.__struct_fields__[4:], "nonsense"])
VALUES = st.one_of(
    NEARLY_RIGHT,
    ANYTHING,
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["given", "ragged", "1-dim", "a.npz", "%00", "%ff"]),
)


def case_lines() -> st.SearchStrategy[str]:
    words = st.lists(st.tuples(NAMES, VALUES).map("=".join), max_size=5)
    return st.tuples(st.sampled_from([*EXCHANGES, "ring"]), words).map(lambda parts: " ".join([parts[0], *parts[1]]))


def case_json() -> st.SearchStrategy[str]:
    value = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), ANYTHING, NEARLY_RIGHT), st.lists, max_leaves=3
    )
    return st.dictionaries(st.sampled_from(Case.__struct_fields__), value, max_size=4).map(json.dumps)


@examples(50)
@given(
    st.one_of(case_lines(), case_json(), ANYTHING).map(lambda text: text.encode(errors="surrogateescape"))
    | st.binary(max_size=40)
)
def test_a_file_that_should_hold_a_case_is_a_case_or_named(folder: Path, content: bytes) -> None:
    (folder / "case").write_bytes(content)
    code, said = code_of(folder, "replay", "case")
    assert code in (USAGE, UNKNOWN), said


# ------------------------------------------------------------------ features
DTYPES = [
    np.float64,
    np.float32,
    np.float16,
    np.int64,
    np.uint16,
    np.complex64,
    np.bool_,
    np.dtype("U3"),
    np.dtype("M8[s]"),
]


NUMBERS = itertools.count()


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    shape = draw(st.one_of(st.just((4, 3)), st.lists(st.integers(0, 4), max_size=3).map(tuple)))
    array = np.ones(shape, dtype=draw(st.sampled_from(DTYPES)))
    if array.size and array.dtype.kind == "f":
        array.flat[0] = draw(st.sampled_from([0.5, np.nan, np.inf]))
    return array


@st.composite
def batches(draw: st.DrawFn) -> dict[str, np.ndarray[Any, Any]]:
    """Draw a right batch with some of its arrays taken away or another's."""
    batch: dict[str, np.ndarray[Any, Any]] = {
        "image_features": np.ones((4, 3)),
        "text_features": np.ones((4, 3)),
        "logit_scale": np.array(2.0),
        "logit_bias": np.array([-1.0]),
    }
    for name in draw(st.lists(st.sampled_from(sorted(batch)), max_size=2, unique=True)):
        if draw(st.booleans()):
            batch[name] = draw(arrays())
        else:
            del batch[name]
    return batch


@examples(40)
@given(batches(), st.integers(0, 2000), st.binary(max_size=4))
def test_a_features_file_is_a_batch_or_named(
    folder: Path, batch: dict[str, np.ndarray[Any, Any]], place: int, patch: bytes
) -> None:
    path = folder / f"batch-{next(NUMBERS)}.npz"  # a file that was right is not read again
    np.savez(path, **batch)
    content = bytearray(path.read_bytes())
    content[place : place + len(patch)] = patch
    path.write_bytes(content)
    code, said = code_of(folder, "check", "--features", path.name, "--world-sizes", "2")
    path.unlink()
    assert code in (USAGE, UNKNOWN), said


# ------------------------------------------------------------------ a report
SAMPLES = [json.loads(dump(report)) for report in (samples.passing(), samples.mismatching(), samples.hostile())]
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["", "nan", "-inf", "gather", "\x1b[31m", "<b>", "[red]", [], {}, [[]], 1e308, -1, 0, 10**400]),
)


def places(value: Any, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Name every place within a value of JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*way, key)
        yield from places(item, (*way, key))


@st.composite
def nearly_reports(draw: st.DrawFn) -> bytes:
    """Draw a report in which something else stands in one place."""
    changed = copy.deepcopy(draw(st.sampled_from(SAMPLES)))
    *way, last = draw(st.sampled_from(sorted(places(changed), key=str)))
    at: Any = changed
    for step in way:
        at = at[step]
    at[last] = draw(LEAVES)
    return json.dumps(changed).encode()


@examples(25)
@given(nearly_reports(), st.sampled_from(["text", *FORMATS, "pdf"]))
def test_a_report_file_is_rendered_or_named(folder: Path, content: bytes, form: str) -> None:
    (folder / "report.json").write_bytes(content)
    code, said = code_of(folder, "report", "report.json", "--format", form, "--report-dir", "out")
    verdicts = {EXIT_CODES[json.loads(content)["verdict"]]} if code != USAGE else set[int]()
    assert code in {USAGE} | verdicts, said
