"""The error that a user can mend."""


class UsageError(ValueError):
    """What was asked for cannot be done; the message names the value and what is allowed. Exit code 2.

    Any other exception that reaches the command line is a fault of ours and is shown with its traceback.
    """
