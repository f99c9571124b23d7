"""The settings of a run, checked before any process starts.

Here: what may be asked for, and the errors that say what may. Not here: where settings come from (`cli`).
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import msgspec

from siglip_verify import given, paths
from siglip_verify.adapt import OF_EACH_CASE, OPEN_CLIP, Argument, LossSpec, LossSpecError, open_clip_installed, resolve
from siglip_verify.case import EXCHANGES, Exchange
from siglip_verify.errors import UsageError
from siglip_verify.run.declare import exchanges_of, with_own_convention
from siglip_verify.run.strategies import PROFILES, Profile
from siglip_verify.world.pool import DEFAULT_TIMEOUT_S, MOST_RANKS

Planted = Literal["none", "quick", "all"]
PLANTED: tuple[Planted, ...] = get_args(Planted)


class SettingsError(UsageError):
    """A setting has a value that it cannot have; the message names both and the mend."""


class LossPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One loss to check, and how often."""

    spec: LossSpec
    examples: int


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The effective settings of one run.

    Attributes:
        losses: What to check, in order, with the number of cases for each exchange.
        exchanges: Which exchanges.
        world_sizes: Which W, ascending.
        profile: The profile that gave the defaults.
        seed: Where the draws start.
        timeout_s: Seconds that a rank may take for one case.
        report_dir: Where reports are written; None writes none.
        features: A file with the user's own batch, checked beside the drawn cases; None is none.
        bugs: Which known bugs are planted to see them caught.
    """

    losses: tuple[LossPlan, ...]
    exchanges: tuple[Exchange, ...]
    world_sizes: tuple[int, ...]
    profile: str
    seed: int
    timeout_s: float
    report_dir: Path | None
    features: Path | None = None
    bugs: Planted = "none"

    def described(self) -> dict[str, str]:
        """Return every setting in words, for the report."""
        return {
            "losses": ", ".join(f"{plan.spec.name} ({plan.examples} cases an exchange)" for plan in self.losses),
            "exchanges": ", ".join(self.exchanges),
            "world sizes": _runs(self.world_sizes),
            "profile": self.profile,
            "seed": str(self.seed),
            "timeout": f"{self.timeout_s:g} s a case",
            "report folder": str(self.report_dir or "none"),
            "own features": str(self.features or "none"),
            "known bugs": f"{self.bugs} planted",
        }


def settings(
    losses: Sequence[LossSpec] | None = None,
    *,
    exchanges: Sequence[str] = EXCHANGES,
    world_sizes: Sequence[int] | str = "1-8",
    examples: int | None = None,
    profile: str = "dev",
    seed: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    report_dir: Path | str | None = None,
    features: Path | str | None = None,
    bugs: str = "none",
    most_ranks: int = MOST_RANKS,
) -> Settings:
    """Check what was asked for and fill in what was not.

    Without a loss, ours is checked in all its forms, and open_clip's beside it where that is installed.

    World sizes go up to `most_ranks`: what one host bears, or what a launcher started.

    Raises:
        SettingsError: A value is out of range; the message names it and what is allowed.
        LossSpecError: A loss is not where its target says.
        UsageError: The features file does not hold what it should.
    """
    if profile not in PROFILES:
        raise SettingsError(f"profile must be one of {', '.join(PROFILES)}; got {profile!r}")
    of = PROFILES[profile]
    if examples is not None and examples < 1:
        raise SettingsError(f"examples must be at least 1, the cases for each exchange; got {examples}")
    if bugs not in PLANTED:
        raise SettingsError(f"known bugs are planted as one of {', '.join(PLANTED)}; got {bugs!r}")
    if os.environ.get("TORCH_DISTRIBUTED_DEBUG", "").upper() == "DETAIL":
        raise SettingsError(
            "messages are counted without torch's own checks, which send some too; "
            "got TORCH_DISTRIBUTED_DEBUG=DETAIL: unset it"
        )
    chosen = of.seed if seed is None else checked_seed(seed)
    sizes = _world_sizes(world_sizes, most_ranks)
    chosen_exchanges = _exchanges(exchanges)
    return Settings(
        losses=_named(losses, examples or of.examples) if losses else _usual(chosen_exchanges, examples, of),
        exchanges=chosen_exchanges,
        world_sizes=sizes,
        profile=profile,
        seed=secrets.randbelow(1 << 32) if chosen is None else chosen,
        timeout_s=checked_timeout(timeout_s),
        report_dir=Path(report_dir) if report_dir is not None else None,
        features=_features(features, sizes, most_ranks),
        bugs=bugs,
    )


def checked_timeout(timeout_s: float) -> float:
    """Return a timeout as it is.

    Raises:
        SettingsError: It is none that can be waited for.
    """
    if not 0 < timeout_s <= 86_400:
        raise SettingsError(f"timeout must be more than 0 and at most 86400 seconds; got {timeout_s:g}")
    return timeout_s


def checked_seed(seed: int) -> int:
    """Return a seed as it is.

    Raises:
        SettingsError: It is out of range.
    """
    if not 0 <= seed < 1 << 63:
        raise SettingsError(f"seed must be in 0..2**63-1; got {seed}")
    return seed


def parse_world_sizes(text: str, most_ranks: int = MOST_RANKS) -> tuple[int, ...]:
    """Read world sizes such as `1-8`, `2,4,8` or `1-4,8`.

    Raises:
        SettingsError: It is not of that form, or a number is out of range.
    """
    sizes: list[int] = []
    if not text.strip():
        raise SettingsError(
            "world sizes are numbers and ranges such as 1-8 or 2,4,8; got none: name some, or leave --world-sizes out"
        )
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})\s*(?:-\s*(\d{1,9})\s*)?", part)
        if not match:
            raise SettingsError(f"world sizes are numbers and ranges such as 1-8 or 2,4,8; got {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise SettingsError(f"a range of world sizes goes upwards; got {part.strip()!r}")
        _world_sizes([first, last], most_ranks)
        sizes.extend(range(first, last + 1))
    return _world_sizes(sizes, most_ranks)


def _world_sizes(sizes: Sequence[int] | str, most_ranks: int) -> tuple[int, ...]:
    if isinstance(sizes, str):
        return parse_world_sizes(sizes, most_ranks)
    if not sizes or min(sizes) < 1 or max(sizes) > most_ranks:
        raise SettingsError(f"world sizes must be in 1..{most_ranks}; got {list(sizes)}")
    return tuple(sorted(set(sizes)))


def _exchanges(names: Sequence[str]) -> tuple[Exchange, ...]:
    for name in names:
        if name not in EXCHANGES:
            raise SettingsError(f"exchanges must be among {', '.join(EXCHANGES)}; got {name!r}")
    if not names:
        raise SettingsError(f"name at least one exchange of {', '.join(EXCHANGES)}; got none")
    return tuple(exchange for exchange in EXCHANGES if exchange in names)


def _features(path: Path | str | None, world_sizes: tuple[int, ...], most_ranks: int) -> Path | None:
    """Return the absolute path of a features file, read once to see that it holds what it should."""
    if path is None:
        return None
    absolute = paths.absolute(path)
    num_rows = len(given.read(absolute).images)
    if all(num_rows % size for size in world_sizes):
        divisors = [size for size in range(1, min(num_rows, most_ranks) + 1) if num_rows % size == 0]
        raise SettingsError(
            f"own features are cut into equal parts, so some world size must divide their rows; got N={num_rows} and "
            f"world sizes {_runs(world_sizes)}: name one of {_runs(divisors)} with --world-sizes, or leave rows out"
        )
    return absolute


FORMS: tuple[Mapping[str, Argument], ...] = (
    {"memory": "constant"},
    {"memory": "constant", "overlap": True},
    {"memory": "recompute"},
    {"overlap": True},
    {"ragged": True},
)
"""The forms of our loss that are checked beside the default one, each on the exchanges that have it."""


def _named(losses: Sequence[LossSpec], examples: int) -> tuple[LossPlan, ...]:
    return tuple(LossPlan(spec=_resolved(spec), examples=examples) for spec in losses)


def _usual(exchanges: tuple[Exchange, ...], examples: int | None, of: Profile) -> tuple[LossPlan, ...]:
    """Plan our loss, its other forms on the exchanges that have them, and open_clip's where that is installed."""
    forms = [LossSpec(args=dict(form)) for form in FORMS]
    return (
        *_named([LossSpec()], examples or of.examples),
        *_named([form for form in forms if exchanges_of(form, exchanges)], examples or of.comparison_examples),
        *_named([LossSpec(target=OPEN_CLIP)] * open_clip_installed(), examples or of.comparison_examples),
    )


def _resolved(spec: LossSpec) -> LossSpec:
    if spec.log_scale and spec.scale_parameter is None:
        raise LossSpecError("log_scale speaks of the parameter that holds the scale: name it with --scale-parameter")
    for name in OF_EACH_CASE:
        if name in spec.args:
            said = "name exchanges with --exchanges" if name in ("dist_impl", "exchange") else "leave it out"
            raise LossSpecError(f"each case brings its own {name}; got {name}={spec.args[name]!r}: {said}")
    return with_own_convention(msgspec.structs.replace(spec, target=resolve(spec.target)))


def _runs(sizes: Sequence[int]) -> str:
    """Write 1,2,3,5 as `1-3,5`."""
    runs: list[list[int]] = []
    for size in sizes:
        if runs and size == runs[-1][1] + 1:
            runs[-1][1] = size
        else:
            runs.append([size, size])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)
