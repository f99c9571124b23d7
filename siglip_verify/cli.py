"""The command line: arguments in, exit code out; no logic of its own.

Exit codes, the same whatever the output: 0 pass, 1 mismatch, 2 usage, 3 unknown (a rank died or hung, nothing ran),
130 interrupted.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import cyclopts
import msgspec
from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from siglip_verify.adapt import OURS, Argument, LossSpec
from siglip_verify.bench import BENCHES, run_benches
from siglip_verify.case import DType, Exchange, Frozen, parse_case
from siglip_verify.errors import UsageError
from siglip_verify.report import (
    FORMATS,
    ConsoleListener,
    ReportFolderError,
    append_summary,
    load,
    render,
    render_messages,
    write,
    write_files,
    write_step,
)
from siglip_verify.report import bench as bench_report
from siglip_verify.report import bugs as bug_report
from siglip_verify.report import simulation as simulation_report
from siglip_verify.result import Report
from siglip_verify.run import count_messages, run, run_case, settings
from siglip_verify.run.catalogue import QUICK, all_controls, chosen_bugs, run_catalogue
from siglip_verify.run.events import Listener
from siglip_verify.simulate import (
    PRESETS,
    Algorithm,
    Setup,
    cluster_named,
    dtype_named,
    memory_modes,
    parse_world_sizes,
    timelines,
)
from siglip_verify.simulate import simulate as run_simulation
from siglip_verify.world import WorldError, Worlds

EXIT_CODES = {"pass": 0, "mismatch": 1, "unknown": 3}
USAGE, INTERRUPTED = 2, 130
ALL_FORMATS = ",".join(FORMATS)

_CONFIG = (
    cyclopts.config.Env("SIGLIP_VERIFY_", command=False),
    cyclopts.config.Toml(
        "pyproject.toml", root_keys=("tool", "siglip_verify"), search_parents=True, use_commands_as_keys=False
    ),
)

app = App(
    name="siglip-verify",
    help="Prove, on real processes, that a distributed SigLIP loss computes the loss and the gradients of one device.",
    version=lambda: importlib.metadata.version("siglip_verify"),
    help_epilogue="Exit codes: 0 pass, 1 mismatch, 2 usage, 3 unknown (a rank died or hung), 130 interrupted.",
    help_format="markdown",
    suppress_keyboard_interrupt=False,
)


@Parameter(name="*")
@dataclass(frozen=True)
class LossFlags:
    """The loss to check, and the convention by which it counts. Nothing of it is guessed."""

    loss: Annotated[
        tuple[str, ...], Parameter(help="`MODULE:ATTR`, `FILE.py:ATTR` or `open_clip`; may be repeated.")
    ] = ()
    arg: Annotated[tuple[str, ...], Parameter(help="Extra constructor argument, `KEY=VALUE`; may be repeated.")] = ()
    reduction: Annotated[
        Literal["mean", "sum"], Parameter(help="How the ranks' local losses make the global loss.")
    ] = "mean"
    normalizer: Annotated[
        Literal["b", "N", "b*b", "1"], Parameter(help="What a rank's sum over its pairs is divided by.")
    ] = "b"
    row_wise: Annotated[bool, Parameter(help="A rank's own value is that of its own images against all texts.")] = True
    scale_parameter: Annotated[str | None, Parameter(help="The loss's own parameter that holds the scale.")] = None
    bias_parameter: Annotated[str | None, Parameter(help="The loss's own parameter that holds the bias.")] = None
    log_scale: Annotated[bool, Parameter(help="The scale parameter holds its logarithm.", negative=())] = False
    any_layout: Annotated[bool, Parameter(help="The loss promises to take strided features.", negative=())] = False

    def specs(self) -> list[LossSpec]:
        """Return a declaration for each loss named; none where nothing is declared."""
        declared = LossSpec(
            args=dict(_argument(word) for word in self.arg),
            reduction=self.reduction,
            normalizer=self.normalizer,
            row_wise=self.row_wise,
            scale_parameter=self.scale_parameter,
            bias_parameter=self.bias_parameter,
            log_scale=self.log_scale,
            any_layout=self.any_layout,
        )
        if not self.loss and declared == LossSpec():
            return []
        return [msgspec.structs.replace(declared, target=target) for target in self.loss or (OURS,)]


@app.command(config=_CONFIG)
def check(
    *,
    flags: LossFlags = LossFlags(),
    exchanges: Annotated[str, Parameter(help="Which exchanges, with commas.")] = "bidir,shift,reduce,gather",
    world_sizes: Annotated[str, Parameter(help="Numbers of ranks, such as `1-8` or `2,4`.")] = "1-8",
    examples: Annotated[int | None, Parameter(help="Cases for each exchange; default: the profile's.")] = None,
    profile: Annotated[Literal["dev", "ci", "nightly"], Parameter(help="How much to check.")] = "dev",
    seed: Annotated[int | None, Parameter(help="Where the draws start; default: a new one, shown.")] = None,
    timeout: Annotated[float, Parameter(help="Seconds that a rank may take for one case.")] = 20.0,
    features: Annotated[Path | None, Parameter(help="A batch of your own: .npz or .safetensors.")] = None,
    report_dir: Annotated[Path | None, Parameter(help="Write reports into this folder.")] = None,
    report: Annotated[str, Parameter(help="Which reports, with commas.")] = ALL_FORMATS,
) -> int:
    """Hold a distributed loss against a single-device float64 oracle, on real gloo processes.

    Without `--loss`, checks this package's own loss, and open_clip's beside it where that is installed.

    ```
    siglip-verify check
    siglip-verify check --loss my_loss.py:SigLipLoss --exchanges bidir --world-sizes 2-5
    siglip-verify check --loss my_pkg.loss:SigLipLoss --arg local_loss=true --examples 500
    ```

    Every setting may also stand in the environment (`SIGLIP_VERIFY_WORLD_SIZES=1-4`) or in `[tool.siglip_verify]` of
    pyproject.toml; flags come first, then the environment, then the file. A features file holds image_features and
    text_features [N, d], logit_scale (exponentiated) and logit_bias; it is checked at every W that divides N.
    """
    chosen = settings(
        flags.specs(),
        exchanges=[name.strip() for name in exchanges.split(",") if name.strip()],
        world_sizes=world_sizes,
        examples=examples,
        profile=profile,
        seed=seed,
        timeout_s=timeout,
        report_dir=report_dir,
        features=features,
    )
    return _show(lambda listener: run(chosen, listener), report_dir, report)


@app.command
def replay(
    case: Annotated[str, Parameter(help="The line that a counterexample printed, or a file that holds it.")],
    *,
    flags: LossFlags = LossFlags(),
    timeout: Annotated[float, Parameter(help="Seconds that a rank may take.")] = 20.0,
    report_dir: Annotated[Path | None, Parameter(help="Write reports into this folder.")] = None,
    report: Annotated[str, Parameter(help="Which reports, with commas.")] = ALL_FORMATS,
) -> int:
    """Run one case again, as a counterexample printed it.

    ```
    siglip-verify replay 'bidir W=2 b=1 d=1 seed=0' --loss my_loss.py:SigLipLoss
    ```

    Fields that the line leaves out take their defaults.
    """
    path = Path(case)
    line = path.read_text() if len(case) < 200 and path.is_file() else case
    parsed = parse_case(line)
    chosen = settings(
        flags.specs() or [LossSpec()],
        exchanges=[parsed.exchange],
        world_sizes=[parsed.world_size],
        examples=1,
        seed=parsed.seed,
        timeout_s=timeout,
        report_dir=report_dir,
    )
    return _show(lambda listener: run_case(chosen, parsed, listener), report_dir, report)


@app.command
def messages(
    *,
    flags: LossFlags = LossFlags(),
    exchange: Annotated[Exchange, Parameter(help="The exchange that is shown hop by hop.")] = "bidir",
    world_size: Annotated[int, Parameter(help="Number of ranks.")] = 4,
    batch: Annotated[int, Parameter(help="Rows of images and of texts on each rank.")] = 8,
    dim: Annotated[int, Parameter(help="Numbers in a row.")] = 64,
    dtype: Annotated[DType, Parameter(help="Dtype of the features.")] = "float32",
    frozen: Annotated[Frozen, Parameter(help="The tower that needs no gradient.")] = "none",
    timeout: Annotated[float, Parameter(help="Seconds that a rank may take for one step.")] = 20.0,
    report_dir: Annotated[Path | None, Parameter(help="Write messages.jsonl and trace.json into this folder.")] = None,
) -> int:
    """Count every message of one step: who sends what to whom in each hop, and what it costs on the wire.

    One forward and one backward are run on real gloo processes. Each operation is recorded as it is posted (*counted*),
    the kernel says what the sockets sent (*measured*), the plan says what should be sent (*modelled*). The other three
    exchanges are run beside it.

    ```
    siglip-verify messages --world-size 5
    siglip-verify messages --exchange gather --batch 64 --dim 512 --dtype bfloat16
    siglip-verify messages --loss open_clip --report-dir reports
    ```

    A fault in the messages has a name, such as `unmatched-send`, and exits with 1; the numbers of the loss are not
    judged here, `check` does that. messages.jsonl holds one event a line; trace.json opens in ui.perfetto.dev.
    """
    case = parse_case(
        f"{exchange} W={world_size} b={batch} d={dim} dtype={dtype} frozen={frozen} seed=1"  # which checks each value
    )
    specs = flags.specs() or [LossSpec()]
    if len(specs) > 1:
        raise UsageError(f"messages are counted of one loss; got {len(specs)} times --loss")
    chosen = settings(specs, exchanges=[exchange], world_sizes=[world_size], examples=1, timeout_s=timeout)
    report = count_messages(chosen, case)
    console = Console()
    render_messages(report, console)
    if report_dir is not None:
        for path in write_step(report.step, report_dir):
            console.print(f"wrote {path}", markup=False, highlight=False)
    return EXIT_CODES[report.verdict]


@app.command
def bench(
    names: Annotated[tuple[str, ...], Parameter(help=f"Which: {', '.join(BENCHES)}; default: all.")] = (),
    /,
    *,
    turns: Annotated[int, Parameter(help="How often each thing is measured.")] = 100,
    report_dir: Annotated[Path | None, Parameter(help="Write bench.json into this folder.")] = None,
) -> int:
    """Measure what this package costs, as ratios of things that are measured in turn on this machine.

    ```
    siglip-verify bench
    siglip-verify bench recording --turns 300 --report-dir reports
    ```

    `recording` holds a recorded step against the same step unrecorded, torch's CommDebugMode beside it; `warm-worlds`
    holds a case on warm ranks against one on ranks that are started for it. Exits with 1 where a ratio is not what is
    required of it. A timing on loopback is never that of a cluster.
    """
    told = Console(stderr=True)
    result = run_benches(
        names,
        turns=turns,
        progress=lambda done: told.print(bench_report.line(done), style="dim", markup=False, highlight=False),
    )
    console = Console()
    bench_report.render(result, console)
    if report_dir is not None:
        for path in write_files([(bench_report.FILE_NAME, bench_report.dump(result))], report_dir):
            console.print(f"wrote {path}", markup=False, highlight=False)
    return EXIT_CODES["pass" if result.passes else "mismatch"]


@app.command
def bugs(
    *,
    only: Annotated[tuple[str, ...], Parameter(help="Ids of the catalogue; may be repeated.", negative=())] = (),
    quick: Annotated[bool, Parameter(help="One bug of each kind, and nothing else.", negative=())] = False,
    seed: Annotated[int, Parameter(help="Where the draws start.")] = 0,
    timeout: Annotated[float, Parameter(help="Seconds that a rank may take for one case.")] = 5.0,
    output: Annotated[
        Literal["text", "json", "markdown"], Parameter(name="--format", help="What is printed.")
    ] = "text",
) -> int:
    """Plant every known bug in a correct loss, and see whether the check catches it and says what it is.

    The full run holds right losses that are written differently against the same check, and says what weaker checkers
    (the loss alone, two ranks alone, ...) would have missed.

    ```
    siglip-verify bugs
    siglip-verify bugs --only gather-no-grad --only bidir-ping-pong
    siglip-verify bugs --quick --format json
    ```
    """
    chosen = chosen_bugs(only or (QUICK if quick else ()))
    whole = not only and not quick
    told = Console(stderr=True)
    with Worlds(timeout_s=timeout) as worlds:
        result = run_catalogue(
            worlds,
            chosen,
            seed=seed,
            controls=all_controls() if whole else (),
            weaker=whole,
            progress=lambda done: told.print(bug_report.line(done), style="dim", markup=False, highlight=False),
        )
    if output == "text":
        bug_report.render(result, Console())
    else:
        print(bug_report.json(result).decode() if output == "json" else bug_report.markdown(result), end="")
    return EXIT_CODES[result.verdict]


@app.command
def simulate(
    *,
    cluster: Annotated[
        str, Parameter(help=f"{', '.join(f'`{name}`' for name in PRESETS)}, or the path of one's own .toml file.")
    ] = "h100-ib",
    world_sizes: Annotated[str, Parameter(help="`8-4096` for its powers of two, or `24,48`.")] = "8-4096",
    batch: Annotated[int, Parameter(help="Rows on each rank, b.")] = 2048,
    dim: Annotated[int, Parameter(help="Feature dimension, d.")] = 1152,
    dtype: Annotated[str, Parameter(help="Of the features: `bf16`, `fp32` ...")] = "bf16",
    collective: Annotated[Algorithm | None, Parameter(help="Default: the fastest for each.")] = None,
    memory: Annotated[str, Parameter(help="What is kept until backward, with commas; also `chunked`.")] = (
        "autograd,constant"
    ),
    chunk_size: Annotated[int, Parameter(help="Rows of logits held at once; 0: what fits a cache.")] = 0,
    overlap: Annotated[bool, Parameter(help="Compute while hops are under way.", negative=())] = False,
    trace: Annotated[Path | None, Parameter(help="Write a timeline for ui.perfetto.dev.")] = None,
    svg: Annotated[Path | None, Parameter(help="Write charts.")] = None,
    json: Annotated[Path | None, Parameter(help="Write every figure.")] = None,
) -> int:
    """Model what each exchange costs at thousands of ranks, from the plan that real runs are checked against.

    ```
    siglip-verify simulate --world-sizes 8-4096 --batch 2048 --dim 1152 --dtype bf16 --cluster h100-ib
    siglip-verify simulate --cluster my-cluster.toml --memory autograd,chunked --svg charts.svg --trace trace.json
    ```

    For each exchange and W: time, exposed communication, bytes, memory, and which is fastest. Everything is modelled;
    docs/simulate.md says how, and where it ends.
    """
    setup = Setup(
        cluster=cluster_named(cluster),
        batch=batch,
        dim=dim,
        dtype=dtype_named(dtype),
        chunk_size=chunk_size,
        collective=collective,
        overlap=overlap,
    )
    result = run_simulation(setup, parse_world_sizes(world_sizes), memory_modes(memory))
    files = [
        *([(json, simulation_report.dump(result))] if json else []),
        *([(svg, simulation_report.charts(result))] if svg else []),
        *([(trace, simulation_report.trace(setup, timelines(result)))] if trace else []),
    ]
    console = Console()
    simulation_report.render(result, console)
    for path, content in files:
        for written in write_files([(path.name, content)], path.parent):
            console.print(f"wrote {written}", markup=False, highlight=False)
    return EXIT_CODES["pass" if result.proved else "mismatch"]


@app.command(name="report")
def render_again(
    source: Annotated[Path, Parameter(help="A report.json that an earlier run wrote.")],
    *,
    output: Annotated[str, Parameter(name="--format", help="text, or other formats, with commas.")] = "text",
    report_dir: Annotated[Path | None, Parameter(help="Where files go; default: beside the source.")] = None,
) -> int:
    """Render a finished result again from its JSON alone, and exit with its verdict's code.

    ```
    siglip-verify report reports/report.json
    siglip-verify report reports/report.json --format html,junit --report-dir pages
    ```
    """
    try:
        text = source.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from None
    result = load(text)
    names = _formats(output, "text", *FORMATS)
    if "text" in names:
        render(result, Console())
    _write(result, [name for name in names if name != "text"], report_dir or source.parent)
    return EXIT_CODES[result.verdict]


def _show(go: Callable[[Listener], Report], report_dir: Path | None, formats: str) -> int:
    """Run something while showing how it goes on, then show and write what came out."""
    names = _formats(formats, *FORMATS)
    console = Console()
    with ConsoleListener(console) as listener:
        result = go(listener)
    render(result, console)
    if report_dir is not None:
        _write(result, names, report_dir)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:  # a CI system's own file, to which every step adds
        append_summary(result, Path(summary))
    return EXIT_CODES[result.verdict]


def _formats(text: str, *known: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(f"a report is written as one of {', '.join(known)}; got {name!r}")
    return names


def _write(result: Report, names: list[str], folder: Path) -> None:
    console = Console()
    for path in write(result, names, folder):
        console.print(f"wrote {path}", markup=False, highlight=False)


def _argument(word: str) -> tuple[str, Argument]:
    """Read KEY=VALUE, the value as JSON where it is JSON and as text where it is not."""
    key, equals, value = word.partition("=")
    if not equals or not key:
        raise UsageError(f"--arg takes KEY=VALUE; got {word!r}")
    try:
        return key, msgspec.json.decode(value, type=Argument)
    except msgspec.MsgspecError:
        return key, value


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code."""
    sys.exit(exit_code(arguments))


def exit_code(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    errors = Console(stderr=True)
    try:
        return app(arguments, exit_on_error=False, error_console=errors, result_action="return_value") or 0
    except CycloptsError:
        return USAGE  # cyclopts has printed it
    except KeyboardInterrupt:
        errors.print("interrupted", style="yellow")
        return INTERRUPTED
    except (UsageError, ReportFolderError) as error:
        errors.print(f"siglip-verify: {error}", style="red", markup=False)
        return USAGE
    except WorldError as error:  # no rank gave a record, so there is no result to show
        errors.print(f"siglip-verify: {error}", style="red", markup=False)
        return EXIT_CODES["unknown"]
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
