"""Commands and snippets of a Markdown document."""

from __future__ import annotations

import re


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def commands(text: str) -> list[str]:
    """Return the lines of shell blocks that run this package, without their comments."""
    lines = [line.split("#")[0].strip() for block in blocks(text, "sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("siglip-verify ")]


def launched(text: str) -> list[str]:
    """Return the lines of shell blocks by which a launcher starts this package, continued lines as one."""
    lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if "-m siglip_verify" in line]


def links(text: str) -> list[str]:
    """Return what a document links to within the repository, without the places inside a page."""
    return re.findall(r"\]\((?!http|#)([^)#]+)(?:#[^)]*)?\)", text)


def is_tests(snippet: str) -> bool:
    """Tell whether a snippet is a file of tests."""
    return "def test_" in snippet
