"""The exchanges at thousands of ranks: schedules proved, and their cost modelled, from the same plan as real runs.

Nothing here sends a message or needs torch. Every time, byte and verdict that comes out is modelled.
"""
