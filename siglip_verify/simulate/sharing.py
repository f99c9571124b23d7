"""Messages under way together, each at its max-min fair share of the links that it takes."""

from __future__ import annotations

import math
from collections import Counter

from siglip_verify.simulate.fabric import Fabric, Flow, LinkId, Path

INSTANT_S = 1e-15
"""What lies nearer together happens at once: it is rounding and not time."""

Key = tuple[int, int]
"""A message: number of its round, place among the flows of the round."""


class Links:
    """The messages under way, and how fast each goes.

    A rate changes only when a message begins or ends, so between those moments all is linear.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._flows: dict[Key, Flow] = {}
        self._left: dict[Key, float] = {}
        self._rates: dict[Path, float] | None = None
        self._known: dict[frozenset[tuple[Path, int]], dict[Path, float]] = {}

    @property
    def under_way(self) -> bool:
        """Whether there is any."""
        return bool(self._flows)

    def add(self, key: Key, flow: Flow) -> None:
        """Put a message on its way."""
        self._flows[key], self._left[key], self._rates = flow, flow.num_bytes, None

    def next_end_s(self) -> float:
        """Return in how many seconds the next message ends, if none begins before."""
        rates = self._shared()
        return min((self._left[key] / rates[flow.path] for key, flow in self._flows.items()), default=math.inf)

    def move_on(self, step_s: float) -> list[Key]:
        """Let time pass; return the messages that end, which are then gone."""
        rates = self._shared()
        ended: list[Key] = []
        for key, flow in self._flows.items():
            rate = rates[flow.path]
            self._left[key] -= rate * step_s
            if self._left[key] <= rate * INSTANT_S:
                ended.append(key)
        for key in ended:
            del self._flows[key], self._left[key]
            self._rates = None
        return ended

    def state(self, number: int) -> list[tuple[Key, float]]:
        """Return what is under way, rounds relative to a number, and the seconds that it would still take alone."""
        return sorted(
            ((each - number, place), left / self._fabric.bytes_per_s(self._flows[each, place].path[0]))
            for (each, place), left in self._left.items()
        )

    def renumber(self, rounds: int) -> None:
        """Take messages for those so many rounds later."""
        self._flows = {(number + rounds, place): flow for (number, place), flow in self._flows.items()}
        self._left = {(number + rounds, place): left for (number, place), left in self._left.items()}

    def _shared(self) -> dict[Path, float]:
        """Return each message's rate; those that take the same way have the same."""
        if self._rates is None:
            crowd = Counter(flow.path for flow in self._flows.values())
            known = frozenset(crowd.items())
            if known not in self._known:
                self._known[known] = self._fair_shares(crowd)
            self._rates = self._known[known]
        return self._rates

    def _fair_shares(self, crowd: Counter[Path]) -> dict[Path, float]:
        """Fill all messages evenly until a link is full; those on it have their share, the others go on filling."""
        users: Counter[LinkId] = Counter()
        for path, count in crowd.items():
            for link in path:
                users[link] += count
        free = {link: self._fabric.bytes_per_s(link) for link in users}
        rates: dict[Path, float] = {}
        while len(rates) < len(crowd):
            tightest = min((link for link in users if users[link]), key=lambda link: free[link] / users[link])
            share = free[tightest] / users[tightest]
            for path in [path for path in crowd if path not in rates and tightest in path]:
                rates[path] = share
                for link in path:
                    free[link] -= share * crowd[path]
                    users[link] -= crowd[path]
        return rates
