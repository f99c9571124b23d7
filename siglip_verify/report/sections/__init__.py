"""One function for each part of a report: from the finished result to blocks of text.

Here: which figures are shown, in which order, under which names. Not here: how a block looks, and any judgement.
"""

from siglip_verify.report.sections.compared import costs, coverage, coverage_matrices, modelled
from siglip_verify.report.sections.facts import about, environment, not_checked, settings, summary
from siglip_verify.report.sections.known_bugs import bug_line, bug_tables, bugs_headline
from siglip_verify.report.sections.overview import overview
from siglip_verify.report.sections.sent import messages, step_of
from siglip_verify.report.sections.shares import QUANTITY_GROUPS, by_dtype, equivalence, nearest
from siglip_verify.report.sections.wrong import counterexamples, failing, unjudged, unjudged_cases, what_went_wrong

__all__ = [
    "QUANTITY_GROUPS",
    "about",
    "bug_line",
    "bug_tables",
    "bugs_headline",
    "by_dtype",
    "costs",
    "counterexamples",
    "coverage",
    "coverage_matrices",
    "environment",
    "equivalence",
    "failing",
    "messages",
    "modelled",
    "nearest",
    "not_checked",
    "overview",
    "settings",
    "step_of",
    "summary",
    "unjudged",
    "unjudged_cases",
    "what_went_wrong",
]
