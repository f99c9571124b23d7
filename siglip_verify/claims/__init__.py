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

Nothing is imported here: ranks import `jobs` alone.
"""
