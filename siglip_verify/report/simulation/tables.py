"""A simulation as blocks of text: what to choose, what each form costs at each W, and on what it rests.

Here: which figures are shown, and their words. Not here: charts and timelines, and any modelling.
"""

from __future__ import annotations

import math

import msgspec
from rich.console import Console

from siglip_verify.report import words
from siglip_verify.report.blocks import Column, Table, Value
from siglip_verify.report.console.final import say, table
from siglip_verify.simulate import Choice, Cost, Simulation

_IN_TURN = "a rank computes and communicates in turn"
_AHEAD = "; with overlap a hop leaves before the blocks of the last one are computed, as the loss does if asked to"


def render(simulation: Simulation, console: Console) -> None:
    """Print the choice in one line, then what it rests on; all of it is modelled."""
    say(console, headline(simulation), style="bold", wrap=console.is_terminal)
    for line in about(simulation):
        say(console, line, indent=2, wrap=console.is_terminal)
    table(costs(simulation), console)
    table(choices(simulation), console)


def dump(simulation: Simulation) -> bytes:
    """Write the result as JSON."""
    return msgspec.json.format(msgspec.json.encode(simulation), indent=2) + b"\n"


def headline(simulation: Simulation) -> str:
    """Say which form is fastest where."""
    said = [f"{_form(choice)} at W = {_sizes(choice)}" for choice in simulation.choices]
    return f"MODELLED: fastest on {words.one_line(simulation.setup.cluster.name)}: {'; '.join(said)}"


def about(simulation: Simulation) -> list[str]:
    """Say what was simulated, and how."""
    setup = simulation.setup
    algorithm = setup.collective or "the fastest algorithm for each"
    events = sum("events" in (cost.forward.how, cost.backward.how) for cost in simulation.costs)
    took, last = sum(simulation.took_s.values()), simulation.took_s[simulation.world_sizes[-1]]
    proved = "every schedule proved" if simulation.proved else "A SCHEDULE IS WRONG"
    closed = len(simulation.costs) - events
    lines = [
        f"cluster {setup.cluster.name}{': ' * bool(setup.cluster.about)}{setup.cluster.about}",
        f"one step, forward + backward, b = {setup.batch}, d = {setup.dim}, {setup.dtype}; collectives by {algorithm}",
        _IN_TURN + _AHEAD * any(form.overlap for form in simulation.forms),
        f"{proved}: each block seen once, each gradient home, nobody waits for ever",
        f"{words.plural(len(simulation.costs), 'step')} simulated in {words.seconds(took)} (measured), "  # noqa: ISC004
        f"{events} by events and {closed} in closed form; {words.seconds(last)} for W = {simulation.world_sizes[-1]:,}",
        *simulation.notes,
    ]
    return [words.one_line(line) for line in lines]


def costs(simulation: Simulation) -> Table:
    """Show what each form costs at each W."""
    best = {choice_size: choice.form for choice in simulation.choices for choice_size in choice.world_sizes}
    columns = (
        Column("W"),
        Column("exchange", is_number=False),
        Column("step", "ms"),
        Column("compute", "ms"),
        Column("communication", "ms", is_extra=True),
        Column("exposed", "ms"),
        Column("sent", "MB"),
        Column("to hosts", "MB", is_extra=True),
        Column("held", "GB"),
        Column("remark", is_number=False),
        Column("collectives", is_number=False, is_extra=True),
    )
    rows: list[tuple[Value, ...]] = []
    for cost in simulation.costs:
        is_best = best[cost.world_size] == cost.form
        remark = "fastest" if is_best else "" if cost.fits else "too large"
        rows.append(
            (
                Value(words.count(cost.world_size)),
                Value(str(cost.form)),
                Value(milliseconds(cost.step_s)),
                Value(milliseconds(cost.compute_s)),
                Value(milliseconds(cost.communication_s)),
                Value(milliseconds(cost.exposed_s)),
                Value(significant(cost.sent_bytes / 1e6)),
                Value(significant(cost.host_bytes / 1e6)),
                Value(significant(cost.memory.peak_bytes / 1e9)),
                Value(remark, "pass" if is_best else "unknown"),
                Value(_algorithms(cost)),
            )
        )
    return Table(
        caption=(
            "Modelled: a step, until the last rank is through; exposed is communication that no computing hides. "
            "Sent and held by a rank, and sent by a host to others."
        ),
        columns=columns,
        rows=tuple(rows),
    )


def choices(simulation: Simulation) -> Table:
    """Show the fastest form that fits, where it changes, and how much is lost by the next best."""
    return Table(
        caption="Modelled: the fastest that fits, and how much longer the next best takes.",
        columns=(
            Column("W", is_number=False),
            Column("exchange", is_number=False),
            Column("next best", "longer by"),
        ),
        rows=tuple(
            (Value(_sizes(choice)), Value(_form(choice), "" if choice.form else "unknown"), Value(_lead(choice)))
            for choice in simulation.choices
        ),
    )


def _form(choice: Choice) -> str:
    return "none fits" if choice.form is None else str(choice.form)


def _sizes(choice: Choice) -> str:
    first, last = choice.world_sizes[0], choice.world_sizes[-1]
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def _lead(choice: Choice) -> str:
    if choice.lead is None:
        return words.NOTHING
    said = [f"{share:.1%}" for share in choice.lead]
    return said[0] if said[0] == said[1] else " to ".join(said)


def _algorithms(cost: Cost) -> str:
    return ", ".join(dict.fromkeys(cost.algorithms.values()))


def milliseconds(seconds: float) -> str:
    """Say a duration in milliseconds, four digits of it."""
    return significant(seconds * 1e3)


def significant(value: float) -> str:
    """Say a number with four digits, thousands apart."""
    digits = 3 - math.floor(math.log10(abs(value))) if value else 0
    return f"{value:,.{min(max(digits, 0), 3)}f}"
