"""Training proved: two towers on real digits, distributed in every form, beside one process on the whole batch.

    data       two tasks: digits and their written names, and the two halves of each digit
    towers     the encoders, with scale and bias
    loop       batches and steps, the same for one process and for a rank
    jobs       what runs in a rank, and with which loss
    equality   every parameter after every step, held against one process's
    costs      the same training with known bugs planted
    result     the finished results

scikit-learn has the digits; it is the extra `train`.

Nothing is imported here: ranks import `jobs` alone.
"""
