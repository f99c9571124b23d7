"""Report files: whole or not at all, in one folder, and nowhere else.

Oracle: the folder itself. Can see: half-written files, leftovers, files touched outside the folder, unclear errors.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from siglip_verify.report import FORMATS, ReportFolderError, append_summary, dump, markdown, write
from siglip_verify.report.files import Format

from . import samples


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_format_gives_one_file_in_a_folder_that_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    paths = write(samples.passing(), FORMATS, folder)
    assert paths == [folder / made.file_name for made in FORMATS.values()]
    assert names(folder) == sorted(made.file_name for made in FORMATS.values())
    assert (folder / "report.json").read_bytes() == dump(samples.passing())


def test_a_format_named_twice_is_written_once(tmp_path: Path) -> None:
    assert write(samples.passing(), ["json", "json"], tmp_path) == [tmp_path / "report.json"]


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a report is written as one of html, json, .*; got 'pdf'"):
        write(samples.passing(), ["json", "pdf"], tmp_path / "new")
    assert names(tmp_path) == []


def test_a_link_in_the_folder_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("precious")
    folder = tmp_path / "reports"
    folder.mkdir()
    (folder / "report.json").symlink_to(outside)
    (folder / f".report.json.{os.getpid()}").symlink_to(outside)
    write(samples.passing(), ["json"], folder)
    assert outside.read_text() == "precious"
    assert names(folder) == ["report.json"]
    assert not (folder / "report.json").is_symlink()


def test_a_write_that_fails_leaves_the_earlier_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(samples.passing(), ["json"], tmp_path)

    def disk_full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", disk_full)
    with pytest.raises(ReportFolderError, match="No space left on device"):
        write(samples.mismatching(), ["json"], tmp_path)
    assert (tmp_path / "report.json").read_bytes() == dump(samples.passing())
    assert names(tmp_path) == ["report.json"]


def test_a_folder_that_cannot_be_made_is_named_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ReportFolderError, match=r"reports need a folder.*file/reports'.*--report-dir"):
        write(samples.passing(), ["json"], tmp_path / "file" / "reports")


def test_a_result_that_cannot_be_rendered_is_not_taken_for_a_bad_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(report: object) -> bytes:
        raise RuntimeError("a defect in a report")

    monkeypatch.setitem(FORMATS, "json", Format("report.json", broken))  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="a defect in a report"):
        write(samples.passing(), ["json"], tmp_path)
    assert names(tmp_path) == []


def test_files_can_be_read_by_whom_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        (path,) = write(samples.passing(), ["json"], tmp_path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


# ------------------------------------------------------------------ a CI job summary
def test_the_summary_is_added_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_bytes(b"earlier\n")
    append_summary(samples.passing(), path)
    assert path.read_bytes() == b"earlier\n" + markdown.render(samples.passing())


@pytest.mark.parametrize("room", [0, 500, 5_000])
def test_a_summary_that_is_nearly_full_stays_within_its_limit(tmp_path: Path, room: int) -> None:
    path = tmp_path / "summary.md"
    path.write_bytes(b"x" * (markdown.LIMIT_BYTES - room))
    append_summary(samples.large(), path)
    assert path.stat().st_size <= markdown.LIMIT_BYTES
    assert (path.stat().st_size > markdown.LIMIT_BYTES - room) == (room == 5_000)


def test_a_summary_that_cannot_be_written_is_named_with_the_mend(tmp_path: Path) -> None:
    with pytest.raises(ReportFolderError, match=r"a job summary needs a file.*unset GITHUB_STEP_SUMMARY"):
        append_summary(samples.passing(), tmp_path)
