"""`siglip-verify bugs` on real processes, from arguments to what is printed.

Oracle: the finished result that is printed as JSON. Sees: a form that is not the one asked for, or not alone.
"""

from __future__ import annotations

import msgspec
import pytest

from siglip_verify import cli
from siglip_verify.result import CatalogueResult

pytestmark = [pytest.mark.xdist_group("cli"), pytest.mark.usefixtures("warm")]


@pytest.mark.parametrize(
    "asked", [["--json"], pytest.param(["--format", "json"], marks=pytest.mark.long)], ids=" ".join
)
def test_json_is_all_that_is_printed(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(["bugs", "--only", "gather-no-grad", *asked]) == 0
    printed = capsys.readouterr()
    result = msgspec.json.decode(printed.out, type=CatalogueResult)
    assert [bug.id for bug in result.bugs] == ["gather-no-grad"]
    assert printed.err.startswith("gather-no-grad")
