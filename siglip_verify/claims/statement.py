"""What a statement is made of: what is measured for it, and the rule by which that answers it.

The two are apart, so that a test can hand the rule other measurements and see the answer change.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from siglip_verify.adapt import LossSpec
from siglip_verify.case import Case, Exchange
from siglip_verify.claims.result import Finding
from siglip_verify.records import RankRecord
from siglip_verify.result import StepMessages
from siglip_verify.run import step
from siglip_verify.run.counting import count_step, table_case
from siglip_verify.run.limits import load_traits
from siglip_verify.simulate import Claim, Simulation, claim_simulations, claims
from siglip_verify.world import Worlds

WORLD_SIZES = (2, 3, 4, 5, 8)
OUR_LOSS = LossSpec()
DOCS = "open_clip, documentation of SigLipLoss"
PAPER = "Zhai et al. 2023, arXiv:2303.15343"

E = TypeVar("E")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Statement(Generic[E]):
    """Something that is said of the loss.

    Attributes:
        id: Its name in the ledger.
        says: The statement.
        source: Who makes it.
        how: How it is checked, and by what rule it is answered.
        measure: Measures, on real ranks or in the model.
        judge: Answers from what was measured; pure.
    """

    id: str
    says: str
    source: str
    how: str
    measure: Callable[[Lab], E]
    judge: Callable[[E], Finding]


class Lab:
    """Where statements are measured; what several of them ask for is measured once.

    Args:
        worlds: Where the ranks are.
        spec: The sigmoid loss whose steps and records are looked at; default: ours.
        world_sizes: At which W steps are counted.
    """

    def __init__(self, worlds: Worlds, spec: LossSpec = OUR_LOSS, world_sizes: Sequence[int] = WORLD_SIZES) -> None:
        self.worlds = worlds
        self.world_sizes = tuple(world_sizes)
        self._spec = spec
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what was made under a key; make it if it is asked for the first time."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    @cached_property
    def simulations(self) -> tuple[Simulation, ...]:
        """What an exchange costs at large W, modelled."""
        return claim_simulations()

    @cached_property
    def modelled(self) -> tuple[Claim, ...]:
        """The claims that the model answers: bidir, reduce, gather."""
        return claims(self.simulations)

    def steps(self, exchange: Exchange) -> list[StepMessages]:
        """Return the messages of one step of an exchange at each W, counted on real ranks."""
        return self.once(("steps", exchange), lambda: [self._count(exchange, size) for size in self.world_sizes])

    def records(self, case: Case) -> list[RankRecord]:
        """Return what each rank computed in one step of the loss."""
        replies: list[RankRecord] = self.worlds.run(case.world_size, step.step, self._spec, self._traits, case)
        return replies

    def _count(self, exchange: Exchange, world_size: int) -> StepMessages:
        return count_step(self.worlds, self._spec, self._traits, table_case(exchange, world_size))

    @cached_property
    def _traits(self) -> Any:
        return load_traits(self.worlds, self._spec)
