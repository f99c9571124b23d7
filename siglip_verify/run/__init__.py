"""The run: cases -> world -> records -> checks -> one result, told as a stream of events while it goes on.

Nothing is imported here: ranks import single modules (`step`, `probe`, `timing`), and need no Hypothesis for that.
"""
