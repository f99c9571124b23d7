"""A user's own batch from a file.

Oracle: the arrays that were written. Sees: rows cut wrongly between ranks, a file that is accepted and should not be,
an error that does not name what is wrong.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given as given_inputs
from hypothesis import strategies as st
from safetensors.torch import save_file

from siglip_verify import features, given
from siglip_verify.adapt import LossSpec
from siglip_verify.case import format_case, parse_case
from siglip_verify.errors import UsageError
from siglip_verify.run.settings import SettingsError, settings
from siglip_verify.run.whole import check, run_case

GENERATOR = np.random.default_rng(3)
IMAGES, TEXTS = GENERATOR.normal(size=(2, 6, 4))
GOOD = {"image_features": IMAGES, "text_features": TEXTS, "logit_scale": 3.7, "logit_bias": np.array([-0.6])}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "my features.npz"  # a space: the case line must survive it
    np.savez(path, **{name: value for name, value in (GOOD | changes).items() if value is not None})
    return path


def test_each_rank_gets_its_rows_in_the_order_of_the_file(tmp_path: Path) -> None:
    cases = given.cases(write(tmp_path), "shift", range(1, 9))
    assert list(cases) == [1, 2, 3, 6]
    for case in cases.values():
        inputs = features.draw(case)
        np.testing.assert_array_equal(torch.cat(inputs.images), IMAGES)
        np.testing.assert_array_equal(torch.cat(inputs.texts), TEXTS)
        assert (inputs.scale.item(), inputs.bias.item()) == (3.7, -0.6)
        assert parse_case(format_case(case)) == case


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_safetensors_keep_their_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "batch.safetensors"
    save_file({name: torch.as_tensor(value).to(dtype) for name, value in GOOD.items()}, path)
    case = given.cases(path, "bidir", [2])[2]
    assert case.dtype == str(dtype).removeprefix("torch.")
    assert torch.equal(torch.cat(features.draw(case).images), torch.from_numpy(IMAGES).to(dtype))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logit_bias": None}, r"it lacks logit_bias and has image_features, text_features, logit_scale"),
        ({"image_features": IMAGES[0]}, r"image_features must be \[N, d\]; got shape \(4,\)"),
        ({"text_features": TEXTS[:3]}, r"one shape and dtype; got \(6, 4\) .* and \(3, 4\)"),
        ({"text_features": TEXTS.astype("float32")}, r"one shape and dtype"),
        ({"image_features": IMAGES.astype(int)}, r"image_features must be one of float64.*got torch.int64"),
        ({"image_features": np.where(IMAGES[4, 1] == IMAGES, np.nan, IMAGES)}, r"must be finite; row 4"),
        ({"logit_scale": np.ones(2)}, r"logit_scale must be one finite number; got shape \(2,\)"),
        ({"logit_scale": np.inf}, r"logit_scale must be one finite number"),
        ({"image_features": np.array([object()])}, r"not a .npz file of plain arrays"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        given.read(write(tmp_path, **changes))


def test_a_file_that_is_not_there_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*No such file"):
        given.read(tmp_path / "nothing.npz")
    with pytest.raises(UsageError, match=r"from .npz or .safetensors files; got"):
        given.read(tmp_path / "batch.csv")


def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    assert given.read(write(tmp_path)).scale == 3.7
    assert given.read(write(tmp_path, logit_scale=-2.125, logit_bias=0.25)).scale == -2.125


def test_features_that_no_world_size_divides_are_refused_before_any_process_starts(tmp_path: Path) -> None:
    message = r"must divide their rows; got N=6 and world sizes 4-5: name one of 1-3,6 with --world-sizes"
    with pytest.raises(SettingsError, match=message):
        check(world_sizes="4-5", features=write(tmp_path))


def test_a_case_whose_features_are_gone_is_refused_before_any_process_starts(tmp_path: Path) -> None:
    case = given.cases(write(tmp_path), "shift", [2])[2]
    (tmp_path / "my features.npz").unlink()
    with pytest.raises(UsageError, match=r"cannot read .*No such file"):
        run_case(settings([LossSpec()], world_sizes="2"), case)


@given_inputs(st.binary(max_size=200), st.sampled_from([".npz", ".safetensors"]))
def test_any_bytes_are_read_or_refused(content: bytes, suffix: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"batch{suffix}"
        path.write_bytes(content)
        with pytest.raises(UsageError):
            given.read(path)


@pytest.mark.xdist_group("check")
@pytest.mark.usefixtures("warm")
def test_the_users_own_batch_is_judged_beside_the_drawn_cases(tmp_path: Path) -> None:
    told: list[object] = []
    report = check(
        "siglip_verify.loss:SigLipLoss", exchanges=["bidir"], world_sizes="1-4", examples=4, seed=1,
        features=write(tmp_path), listener=told.append,
    )  # fmt: skip
    assert report.verdict == "pass"
    judged = [event.result.case for event in told if hasattr(event, "shrinking")]
    assert [case.world_size for case in judged if case.features == "given"] == [1, 2, 3]
    assert report.settings["own features"].endswith("my features.npz")
