"""Training proved: two towers on real digits, distributed in every form, beside one process on the whole batch.

    data       two tasks: digits and their written names, and the two halves of each digit
    towers     the encoders, with scale and bias
    loop       batches and steps, the same for one process and for a rank
    jobs       what runs in a rank, and with which loss
    equality   every parameter after every step, held against one process's
    costs      the same training with known bugs planted
    result     the finished results

scikit-learn has the digits; it is the extra `train`.
"""

from siglip_verify.train.costs import BUGS, SEEDS, WORLD_SIZE, bug_costs
from siglip_verify.train.equality import TIMEOUT_S, prove_training
from siglip_verify.train.jobs import FORMS, Form
from siglip_verify.train.loop import Training
from siglip_verify.train.result import BugCost, BugScores, CostReport, EqualityReport, FormRun

__all__ = [
    "BUGS",
    "FORMS",
    "SEEDS",
    "TIMEOUT_S",
    "WORLD_SIZE",
    "BugCost",
    "BugScores",
    "CostReport",
    "EqualityReport",
    "Form",
    "FormRun",
    "Training",
    "bug_costs",
    "prove_training",
]
