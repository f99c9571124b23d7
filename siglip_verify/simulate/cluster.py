"""A cluster in a few numbers: links within and between hosts, and how fast a rank computes.

Here: the record, and reading one's own from a TOML file. Not here: known clusters (`presets`), and what comes of the
numbers.
"""

from __future__ import annotations

import re
import tomllib
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from siglip_verify.case import DTYPES, DType
from siglip_verify.errors import UsageError

Duplex = Literal["full", "half"]
GatherBackward = Literal["all_to_all", "reduce_scatter"]
_Positive = Annotated[float, Meta(gt=0)]
_NotNegative = Annotated[float, Meta(ge=0)]
_Number = Annotated[int, Meta(ge=1)]


class ClusterError(UsageError):
    """A cluster file cannot be used; the message names the key and the mend."""


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A link by the alpha-beta model: a message of n bytes that has it alone takes latency + n / bandwidth.

    Messages that share a link share its bandwidth fairly, and no latency occupies it.

    Attributes:
        latency_us: alpha, microseconds a message.
        gbytes_per_s: Bandwidth one way, 1e9 bytes a second.
        duplex: "full": as much comes in at the same time; "half": both ways share the bandwidth.
    """

    latency_us: _NotNegative
    gbytes_per_s: _Positive
    duplex: Duplex = "full"

    @property
    def latency_s(self) -> float:
        """Alpha, in seconds."""
        return self.latency_us * 1e-6

    @property
    def bytes_per_s(self) -> float:
        """Bandwidth one way; the inverse of beta."""
        return self.gbytes_per_s * 1e9


class Uplinks(Link, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The links of a host to all others; the network between them is taken to be never the bottleneck.

    Attributes:
        latency_us, gbytes_per_s, duplex: Of one uplink.
        per_host: How many; the ranks of a host share them evenly, those next to each other the same one.
    """

    per_host: _Number = 1


class Compute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast one rank computes a block; see `compute` for what is made of it.

    Attributes:
        tflops_per_s: Products that are attained, 1e12 floating point operations a second, by dtype of the features.
        memory_gbytes_per_s: Attained in passes over the logits.
        operation_us: Microseconds from one operation (kernel) to the next that cannot be undercut, however small.
    """

    tflops_per_s: dict[DType, _Positive]
    memory_gbytes_per_s: _Positive
    operation_us: _NotNegative


class Cluster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cluster of hosts that are alike; ranks are numbered host by host.

    Attributes:
        name: What to call it.
        about: What it is, and where the numbers come from.
        ranks_per_host: How many ranks a host has; a world smaller than that has one host.
        memory_gbytes: Memory of one rank's device, 1e9 bytes.
        call_us: Microseconds that posting a hop or calling a collective takes before anything is sent.
        message_us: Microseconds that posting each further message of a hop, or of an all_to_all, adds to that.
        collective_call_us: The same for collectives alone, where that differs.
        gather_backward: The collective that brings gather's gradients home.
        within_host: The link of one rank to the others of its host.
        between_hosts: The links of one host to the others; without it there is one host.
        compute: How fast a rank is.
    """

    name: str
    about: str = ""
    ranks_per_host: _Number
    memory_gbytes: _Positive
    call_us: _NotNegative = 0.0
    message_us: _NotNegative = 0.0
    collective_call_us: _NotNegative | None = None
    gather_backward: GatherBackward = "reduce_scatter"
    within_host: Link
    between_hosts: Uplinks | None = None
    compute: Compute

    def __post_init__(self) -> None:
        uplinks = self.between_hosts
        if uplinks and self.ranks_per_host % uplinks.per_host:
            raise ValueError(
                f"the ranks of a host share its uplinks evenly; got ranks_per_host={self.ranks_per_host} with "
                f"between_hosts.per_host={uplinks.per_host}: give a divisor of {self.ranks_per_host}"
            )

    @property
    def message_s(self) -> float:
        """What posting each message beside the first takes, in seconds."""
        return self.message_us * 1e-6

    def posting_s(self, messages: int) -> float:
        """Return what posting a hop of so many messages takes, in seconds."""
        return self.call_us * 1e-6 + (messages - 1) * self.message_s

    @property
    def collective_call_s(self) -> float:
        """What calling a collective takes, in seconds."""
        return (self.call_us if self.collective_call_us is None else self.collective_call_us) * 1e-6

    def check_world_size(self, world_size: int) -> None:
        """Raise UsageError if such a world does not fill whole hosts, or needs more hosts than there are."""
        if world_size <= self.ranks_per_host:
            return
        if self.between_hosts is None:
            raise UsageError(
                f"W = {world_size} needs more than one host of {self.ranks_per_host} ranks, and {self.name!r} has no "
                f"[between_hosts]: give one, or a smaller W"
            )
        if world_size % self.ranks_per_host:
            raise UsageError(
                f"ranks fill whole hosts, so W is a multiple of {self.ranks_per_host} on {self.name!r}; got "
                f"W = {world_size}: take {world_size - world_size % self.ranks_per_host}, or change ranks_per_host"
            )


def read_cluster(path: Path) -> Cluster:
    """Read one's own cluster from a TOML file, whose keys are the attributes above (docs/simulate.md has one).

    Raises:
        ClusterError: The file cannot be read, or a key is missing, unknown or of a wrong value.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise ClusterError(f"a cluster file is read; got {str(path)!r}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ClusterError(f"a cluster file is TOML; got {str(path)!r}: {error}") from error
    try:
        return msgspec.convert({"name": path.stem} | content, Cluster)
    except msgspec.ValidationError as error:
        raise ClusterError(f"cluster file {str(path)!r}: {_explained(str(error))}") from error


def write_cluster(cluster: Cluster) -> str:
    """Write a cluster as the TOML file that `read_cluster` reads."""
    top: dict[str, Any] = msgspec.to_builtins(cluster)
    tables = {key: top.pop(key) for key in ("within_host", "between_hosts", "compute")}
    lines = _written(top)
    for name, table in tables.items():
        if table is not None:
            lines += ["", f"[{name}]", *_written(table)]
    return "\n".join(lines) + "\n"


def _written(table: dict[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items() if value is not None]


def _value(value: Any) -> str:
    """Write a value as TOML: strings as JSON writes them, tables in one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(_written(value)) + " }"
    return msgspec.json.encode(value).decode()


def _explained(error: str) -> str:
    """Say which key is wrong, and what could stand there."""
    what, _, where = error.partition(" - at ")
    key = re.sub(r".*\$\.?|`", "", where)
    if "enum" in what:
        return f"{key}: {what}; one of {', '.join(_VALUES[key.split('.')[-1]])}"
    if not what.startswith("Object "):  # one value, or a check of keys against each other, which says all itself
        return f"{key}: {what}" if key else what
    fields = [field for field in msgspec.structs.fields(_TABLES.get(key, Cluster)) if field.name != "name"]
    needed, optional = (", ".join(f.name for f in fields if f.required == is_needed) for is_needed in (True, False))
    return f"{f'[{key}]' if key else 'top level'}: {what}. Needed keys: {needed}; optional keys: {optional or 'none'}"


_TABLES: dict[str, Any] = {"within_host": Link, "between_hosts": Uplinks, "compute": Compute}
_VALUES: dict[str, tuple[str, ...]] = {
    "tflops_per_s": DTYPES,
    "duplex": typing.get_args(Duplex),
    "gather_backward": typing.get_args(GatherBackward),
}
