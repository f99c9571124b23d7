"""The errors that are no fault of ours. Any other that reaches the command line is shown with its traceback."""


class UsageError(ValueError):
    """What was asked for cannot be done; the message names the value and what is allowed. Exit code 2."""


class ReportFolderError(OSError):
    """A file cannot be written where it was asked for; the message names place, reason and mend. Exit code 2."""


class NoAnswerError(RuntimeError):
    """Nothing was judged, because there were no ranks that could. Exit code 3, the verdict `unknown`."""
