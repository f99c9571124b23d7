"""Paths that a user wrote: read, and refused in a sentence where they lead nowhere.

What the standard library raises for a name depends on how it is wrong: too long, in a loop of links, with the home of
nobody. Here all of these are one error.
"""

from __future__ import annotations

from pathlib import Path

from siglip_verify.errors import UsageError


def absolute(path: Path | str) -> Path:
    """Return the absolute path, `~` and links resolved.

    Raises:
        UsageError: It is no path; the message says why.
    """
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"a path is needed that can be followed; got {str(path)!r}: {error}") from None


def is_file(path: Path | str) -> bool:
    """Tell whether there is a file of that name; a name that no file can have is none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def read_text(path: Path) -> str:
    """Return what stands in a text file.

    Raises:
        UsageError: It cannot be read, or is not text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"a file is needed that can be read; got {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"a text file is needed; got {str(path)!r}, which is not UTF-8: {error.reason}") from None
