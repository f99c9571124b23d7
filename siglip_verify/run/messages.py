"""The messages of one step of one loss, its other exchanges beside it, as one finished result.

Here: which steps are counted, and what is put together from them. Not here: a single step (`counting`), sums
(`checks.totals`), the verdict on numbers, which counting does not give (`whole.check`).
"""

from __future__ import annotations

import msgspec

from siglip_verify.case import EXCHANGES, Case
from siglip_verify.checks.counts import message_row
from siglip_verify.checks.totals import collective_rows, rank_totals
from siglip_verify.result import MessageReport
from siglip_verify.run.counting import count_step
from siglip_verify.run.declare import declaration, exchanges_of, form_of, shown_target
from siglip_verify.run.environment import environment
from siglip_verify.run.gather_backward import gather_backward
from siglip_verify.run.limits import load_traits
from siglip_verify.run.settings import Settings
from siglip_verify.run.whole import lent_or_made
from siglip_verify.world import Worlds


def count_messages(chosen: Settings, case: Case, worlds: Worlds | None = None) -> MessageReport:
    """Count every message of one step of the first loss that the settings name, and of its other exchanges.

    Args:
        chosen: The loss, and how long a rank may take.
        case: The step. A loss that can be told which exchange to use is also run with the other three.
        worlds: Where it is run; None makes worlds of its own and ends them.

    Returns:
        The finished result. Its verdict is mismatch where there is a finding, unknown where a rank failed; the numbers
        of the loss are not judged.

    Raises:
        LossSpecError: The loss cannot be loaded or used as declared.
        WorldError: There are no ranks to run it.
    """
    spec = chosen.losses[0].spec
    with lent_or_made(worlds, chosen.timeout_s) as pool:
        traits = load_traits(pool, spec)
        step = count_step(pool, spec, traits, case)
        steps = [step]
        if traits.takes_exchange and not step.failures:
            for exchange in exchanges_of(spec, EXCHANGES):
                if exchange != case.exchange:
                    other = msgspec.structs.replace(case, exchange=exchange)
                    steps.append(count_step(pool, spec, traits, other))
        costs = gather_backward(pool, case)
        back_end = pool.back_end
    counted = sorted((each for each in steps if not each.failures), key=lambda s: EXCHANGES.index(s.case.exchange))
    return MessageReport(
        name=spec.name,
        target=shown_target(spec),
        declared=declaration(spec),
        step=step,
        totals=rank_totals(step),
        rows=tuple(
            message_row(
                s.case, s.events, s.wire, form=form_of(spec, pool.gather_backward), has_plan=traits.takes_exchange
            )
            for s in counted
        ),
        collectives=tuple(row for each in counted for row in collective_rows(each)),
        gather_backward=costs,
        environment=environment() | {"back end": back_end},
        wrong_beside=tuple(beside for beside in steps[1:] if beside.verdict != "pass"),
    )
