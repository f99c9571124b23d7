"""The ledger of claims: what is said of this loss, how each statement was checked here, and what came out.

    statement       what a statement is made of, and the lab in which it is measured
    hops            bidir, shift and reduce hop by hop; what is simplest
    cost            what is efficient and what takes memory at large W, modelled
    softmax_beside  independent pairs and memory, beside the softmax loss
    trained         bias and unit length, by short trainings
    blocks          the local block and the remote ones
    softmax         the softmax loss, on one device and distributed
    jobs            what runs in a rank
    ledger          all of it, one after the other
    result          the finished ledger

Nothing is answered from memory: every figure is counted, measured or modelled when the command runs.
"""

from siglip_verify.claims.ledger import STATEMENTS, check_claims
from siglip_verify.claims.result import Answer, Figure, Finding, Ledger, Row
from siglip_verify.claims.softmax import ClipLoss
from siglip_verify.claims.statement import Lab, Statement

__all__ = [
    "STATEMENTS",
    "Answer",
    "ClipLoss",
    "Figure",
    "Finding",
    "Lab",
    "Ledger",
    "Row",
    "Statement",
    "check_claims",
]
