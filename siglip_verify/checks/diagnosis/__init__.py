"""Diagnosis: what is wrong with a loss that fails, in words that name ranks and cause.

A hypothesis is a small function from the evidence to a statement or None; most build a model of all ranks with one
part replaced and hold its numbers against those that were recorded. They are tried in the order of their plainness.

    evidence    the runs that were made, and whether a model explains one
    model       what a loss with a known fault would compute
    fit         reading a model's parts off gradients
    messages    findings and failed ranks
    factors     everything times one factor; another declaration
    counts      blocks unseen or counted twice
    labels      positives on wrong pairs
    gradients   gradients that are lost, multiplied or reach another rank
    terms       another scale, bias, text or row weight
    values      upstream, reduced values, precision, not a number
    diagnose    the order, and the whole sentence
"""

from siglip_verify.checks.diagnosis.diagnose import diagnose
from siglip_verify.checks.diagnosis.evidence import Evidence, Observation

__all__ = ["Evidence", "Observation", "diagnose"]
