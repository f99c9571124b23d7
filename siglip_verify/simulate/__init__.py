"""The exchanges at thousands of ranks: schedules proved, and their cost modelled, from the same plan as real runs.

Nothing here sends a message or needs torch. Every time and byte that comes out is modelled.
"""

from siglip_verify.simulate.claims import Claim, ClaimFigure, claim_simulations, claims
from siglip_verify.simulate.cluster import Cluster, ClusterError, Compute, Link, Uplinks, read_cluster, write_cluster
from siglip_verify.simulate.collectives import ALGORITHMS, Algorithm
from siglip_verify.simulate.compute import MEMORY_MODES, MemoryMode
from siglip_verify.simulate.inputs import cluster_named, dtype_named, memory_modes, parse_world_sizes
from siglip_verify.simulate.predict import MAX_WORLD_SIZE, simulate
from siglip_verify.simulate.presets import PRESETS
from siglip_verify.simulate.proof import Proof, prove
from siglip_verify.simulate.result import Choice, Cost, Form, PhaseCost, Setup, Simulation
from siglip_verify.simulate.timeline import Timeline, timelines

__all__ = [
    "ALGORITHMS",
    "MAX_WORLD_SIZE",
    "MEMORY_MODES",
    "PRESETS",
    "Algorithm",
    "Choice",
    "Claim",
    "ClaimFigure",
    "Cluster",
    "ClusterError",
    "Compute",
    "Cost",
    "Form",
    "Link",
    "MemoryMode",
    "PhaseCost",
    "Proof",
    "Setup",
    "Simulation",
    "Timeline",
    "Uplinks",
    "claim_simulations",
    "claims",
    "cluster_named",
    "dtype_named",
    "memory_modes",
    "parse_world_sizes",
    "prove",
    "read_cluster",
    "simulate",
    "timelines",
    "write_cluster",
]
