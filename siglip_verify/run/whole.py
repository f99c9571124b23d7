"""The whole run: from settings to one finished result.

Here: the order of things, the worlds' life, and time. Not here: what is done for one loss (`loss_run`).
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import msgspec
import torch

from siglip_verify import given
from siglip_verify.adapt import LossSpec, LossSpecError
from siglip_verify.case import EXCHANGES, Case
from siglip_verify.records import Verdict
from siglip_verify.result import CatalogueResult, LeftOut, LossResult, Modelled, Report, worst
from siglip_verify.run.catalogue import QUICK, all_controls, chosen_bugs, run_catalogue
from siglip_verify.run.cost import modelled
from siglip_verify.run.declare import declaration
from siglip_verify.run.environment import environment
from siglip_verify.run.events import Event, Listener, LossDone, Planted, RunDone, RunStarted
from siglip_verify.run.loss_run import LossRun
from siglip_verify.run.replay import run_one
from siglip_verify.run.settings import LossPlan, Settings, SettingsError, settings
from siglip_verify.run.simulated import calibrated, validate
from siglip_verify.world import WorldError, Worlds
from siglip_verify.world.pool import DEFAULT_TIMEOUT_S


def check(
    loss: str | LossSpec | Sequence[str | LossSpec] | None = None,
    *,
    exchanges: Sequence[str] = EXCHANGES,
    world_sizes: Sequence[int] | str = "1-8",
    examples: int | None = None,
    profile: str = "dev",
    seed: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    features: Path | str | None = None,
    listener: Listener | None = None,
    worlds: Worlds | None = None,
) -> Report:
    """Check that distributed losses give the loss and the gradients of one device, on real processes.

    Args:
        loss: `module:attribute`, `file.py:attribute`, `open_clip`, a `LossSpec`, or several of them. None checks our
            own loss, and open_clip's beside it where that is installed.
        exchanges: Which of bidir, shift, reduce, gather.
        world_sizes: Numbers of ranks, as numbers or as text such as `1-8`.
        examples: Cases for each exchange; None takes the profile's.
        profile: dev, ci or nightly.
        seed: Where the draws start; None takes the profile's (dev: a new one each time, shown in the report).
        timeout_s: Seconds that a rank may take for one case.
        features: A `.npz` or `.safetensors` file with image_features and text_features [N, d], logit_scale and
            logit_bias: a batch of your own, checked at every world size that divides it, beside the drawn cases.
        listener: Called with each event of the run.
        worlds: Warm worlds to run on, which stay as they are; None makes new ones and ends them.

    Returns:
        The finished result: `.verdict` is pass, mismatch or unknown; `.counterexamples` and `.unknowns` say why.

    Raises:
        SettingsError: A setting is out of range.
        LossSpecError: A loss cannot be loaded or used as declared.
    """
    named = [loss] if isinstance(loss, str | LossSpec) else list(loss or ())
    if loss is not None and not named:
        raise SettingsError(f"name at least one loss, or leave it out to check our own; got loss={loss!r}")
    specs = [LossSpec(target=spec) if isinstance(spec, str) else spec for spec in named]
    chosen = settings(
        specs,
        exchanges=exchanges,
        world_sizes=world_sizes,
        examples=examples,
        profile=profile,
        seed=seed,
        timeout_s=timeout_s,
        features=features,
    )
    return run(chosen, listener, worlds)


def run(chosen: Settings, listener: Listener | None = None, worlds: Worlds | None = None) -> Report:
    """Run what the settings say and return the finished result."""
    on_a_cluster = msgspec.structs.replace(modelled(), validation=calibrated(chosen.report_dir))
    return _report(
        chosen, listener, lambda pool, plan, tell: LossRun(pool, plan, chosen, tell)(), worlds, modelled=on_a_cluster
    )


def run_case(chosen: Settings, case: Case, listener: Listener | None = None, worlds: Worlds | None = None) -> Report:
    """Run one case of each loss that the settings name, and return the finished result.

    Raises:
        UsageError: The case names a features file that cannot be read, or holds other features.
    """
    if case.features == "given":
        given.split(case)  # here, before any process starts
    return _report(chosen, listener, lambda pool, plan, tell: run_one(pool, plan.spec, case, tell), worlds)


def _report(
    chosen: Settings,
    listener: Listener | None,
    check_loss: Callable[[Worlds, LossPlan, Listener], LossResult],
    worlds: Worlds | None = None,
    modelled: Modelled | None = None,
) -> Report:
    tell = listener or _nobody
    started, started_at = time.perf_counter(), datetime.datetime.now(datetime.UTC)
    tell(RunStarted(chosen))
    results: list[LossResult] = []
    with lent_or_made(worlds, chosen.timeout_s) as pool, _one_thread():
        pool.start()
        for plan in chosen.losses:
            found = any(result.verdict == "mismatch" for result in results)
            results.append(_checked(check_loss, pool, plan, tell, keep=found))
            tell(LossDone(results[-1]))
        catalogue = _catalogue(pool, chosen, tell)
        back_end = pool.back_end
        if modelled is not None and modelled.validation is not None:
            held = validate(modelled.validation, chosen, results, pool.gather_backward)
            modelled = msgspec.structs.replace(modelled, validation=held)
    verdicts: list[Verdict] = [*(result.verdict for result in results), *([catalogue.verdict] if catalogue else [])]
    report = Report(
        verdict=worst(verdicts),
        started_at=started_at.isoformat(timespec="seconds"),
        elapsed_s=time.perf_counter() - started,
        cases=sum(cell.cases for result in results for cell in result.cells),
        environment=environment() | {"back end": back_end},
        settings=chosen.described(),
        losses=tuple(results),
        catalogue=catalogue,
        modelled=modelled,
    )
    tell(RunDone(report))
    return report


def _catalogue(worlds: Worlds, chosen: Settings, tell: Listener) -> CatalogueResult | None:
    """Hold the same check against known bugs, as far as the settings say."""
    if chosen.bugs == "none" or worlds.lost:
        return None
    everything = chosen.bugs == "all"
    return run_catalogue(
        worlds,
        chosen_bugs(() if everything else QUICK),
        seeds=(chosen.seed,),
        controls=all_controls() if everything else (),
        weaker=everything,
        progress=lambda result: tell(Planted(result)),
    )


def _checked(
    check_loss: Callable[[Worlds, LossPlan, Listener], LossResult],
    pool: Worlds,
    plan: LossPlan,
    tell: Listener,
    *,
    keep: bool,
) -> LossResult:
    """Check a loss; where the worlds are lost for good, or a loss before it fails, the report still says so."""
    try:
        return check_loss(pool, plan, tell)
    except (LossSpecError, WorldError) as error:
        if not keep and not pool.lost:
            raise
        return LossResult(
            name=plan.spec.name,
            target=plan.spec.target,
            declared=declaration(plan.spec),
            verdict="unknown",
            cells=(),
            left_out=(LeftOut(what="every case", why=f"not run: {pool.lost or error}"),),
        )


@contextlib.contextmanager
def lent_or_made(worlds: Worlds | None, timeout_s: float) -> Generator[Worlds]:
    """Lend the worlds that are there, with this run's timeout, or make new ones and end them."""
    if worlds is None:
        with Worlds(timeout_s=timeout_s) as made:
            yield made
        return
    usual_s, worlds.timeout_s = worlds.timeout_s, timeout_s
    try:
        yield worlds
    finally:
        worlds.timeout_s = usual_s


@contextlib.contextmanager
def _one_thread() -> Generator[None]:
    """Let the oracle compute in one thread: its tiles are small, and the ranks need the processors."""
    usual = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def _nobody(event: Event) -> None:
    pass
