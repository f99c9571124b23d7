"""One file that a user named, outside a folder of reports: whole or not at all, and in no other file's place."""

from __future__ import annotations

import os
from pathlib import Path

from siglip_verify.errors import ReportFolderError
from siglip_verify.report.files import replace_file


def check_file(path: Path, mend: str = "") -> None:
    """See, before what stands in it is worked for, that a file can be written; its folder is made.

    Args:
        path: The file.
        mend: What to do where there is such a file; nothing if it may be replaced.

    Raises:
        ReportFolderError: It cannot be written; the message names it, the reason and the mend.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name in ("", "..") or (path.exists() and not path.is_file()):
            reason = "that is no file; name one"
        elif mend and os.path.lexists(path):
            reason = f"there is one; {mend}"
        else:
            return
    except OSError as error:
        reason = f"{error.strerror}; name another"
    raise ReportFolderError(f"a file is written where there is none; got {str(path)!r}: {reason}")


def write_file(path: Path, content: bytes, mend: str = "") -> Path:
    """Write a file that `check_file` allows.

    Raises:
        ReportFolderError: It cannot be written; the message names it, the reason and the mend.
    """
    check_file(path, mend)
    try:
        return replace_file(path, content)
    except OSError as error:
        raise ReportFolderError(
            f"a file is written where that can be done; got {str(path)!r}: {error.strerror or error}; name another"
        ) from error
