"""docs/precision.md: the table is that of the script that writes it, and the words above it hold for its figures.

Oracle: the script's own list of forms, and the claims written down here. Sees: a form without a row, a figure that
contradicts the page. Cannot see: a figure that is out of date (`make precision` measures them again).
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from docs_script import docs_script

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return docs_script("make_precision")


@pytest.fixture(scope="module")
def errors(script: ModuleType) -> dict[tuple[str, str], dict[str, float]]:
    table = (DOCS / "precision.md").read_text().split(script.BEGIN)[1].split(script.END)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    assert rows[0] == ["features", "form", *script.QUANTITIES]
    return {(row[0], row[1]): dict(zip(script.QUANTITIES, map(float, row[2:]), strict=True)) for row in rows[2:]}


def test_every_form_has_a_row_for_every_kind_of_features(script: ModuleType, errors: dict) -> None:
    assert list(errors) == [
        (name, form)
        for name, (dtype, _) in script.FEATURES.items()
        for form, (_, is_narrow) in script.FORMS.items()
        if dtype != "float32" or not is_narrow
    ]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_gradients_that_travel_cost_no_more_than_those_that_do_not_unless_narrow(errors: dict, dtype: str) -> None:
    for memory in ("constant", "recompute"):
        usual, narrow = errors[dtype, memory], errors[dtype, f"{memory}, narrow"]
        assert usual["text"] < 1.1 * usual["image"] < narrow["text"]
        assert narrow["text"] <= errors[dtype, "autograd"]["text"]
        assert usual["image"] <= errors[dtype, "autograd"]["image"]


def test_loss_and_gradients_of_scale_and_bias_keep_more_than_the_features_have(errors: dict) -> None:
    for dtype, eps in (("bfloat16", 2**-8), ("float16", 2**-11), ("float32, autocast to bfloat16", 2**-8)):
        for (name, _), found in errors.items():
            if name == dtype:
                assert max(found["loss"], found["scale"], found["bias"]) < eps / 5
