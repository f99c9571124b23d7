"""Loss files that cannot be imported.

Oracle: what each raises, and where it stands. Sees: an exit that is taken for a rank's own, a line that is not named.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from siglip_verify.adapt import LossSpec, LossSpecError, traits


@pytest.mark.parametrize(
    ("text", "raised", "line"),
    [
        ("import sys\n\nsys.exit(7)", "SystemExit: 7", 3),
        ("def fails():\n    raise RuntimeError('no GPU')\n\nfails()", "RuntimeError: no GPU", 2),
        ("import helper", "KeyError: 'helper'", 1),
        ("import no_such_module_of_all", "ModuleNotFoundError: No module named 'no_such_module_of_all'", 1),
        ("x = 1\nx = = 2", "SyntaxError: invalid syntax", 2),
    ],
    ids=["exits", "raises", "a neighbour raises", "imports what is not there", "is no Python"],
)
@pytest.mark.parametrize("named", ["path", "module"])
def test_what_an_import_raises_is_named_with_its_line(
    text: str, raised: str, line: int, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"unloadable_{tmp_path.name}"
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    (tmp_path / "helper.py").write_text("raise KeyError('helper')")
    with pytest.raises(LossSpecError) as error:
        traits(LossSpec(target=f"{path if named == 'path' else name}:Loss"))
    said = str(error.value)
    assert f"raised {raised} (" in said
    assert said.endswith(f"{path.name}, line {line})")


@pytest.mark.parametrize(
    ("module", "mend"),
    [
        ("here", ": name the file, here.py:Loss"),
        ("folder.here", ": name the file, folder/here.py:Loss"),
        ("nowhere", ": install its package, or name its file, as in path/to/nowhere.py:Loss"),
        ("folder.nowhere", ": install its package, or name its file, as in path/to/nowhere.py:Loss"),
    ],
)
def test_a_module_that_is_not_there_may_be_a_file(
    module: str, mend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (tmp_path, tmp_path / "folder"):
        place.mkdir(exist_ok=True)
        (place / "here.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LossSpecError) as error:
        traits(LossSpec(target=f"{module}:Loss"))
    assert str(error.value).endswith(f" raised ModuleNotFoundError: No module named '{module.split('.')[0]}'{mend}")


def test_a_module_that_is_there_and_imports_what_is_not_gets_no_such_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "importing_one.py").write_text("import no_such_module_of_all")
    with pytest.raises(LossSpecError, match=r"line 1\)$"):
        traits(LossSpec(target="importing_one:Loss"))
