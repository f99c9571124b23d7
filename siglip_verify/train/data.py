"""Two tasks on real data: handwritten digits and their written names, and the two halves of each digit.

scikit-learn's digits (1,797 images of 8 x 8 pixels by 43 people) come with the package: nothing is fetched. With names,
many rows of a batch match the same text, and ten texts are all that there is to tell apart; with halves every pair is a
task of its own.

Here: the numbers that towers see. Only the parent loads them; ranks are sent them. Not here: towers (`towers`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from siglip_verify.errors import UsageError

TaskName = Literal["names", "halves"]
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_TEST_ROWS = 360  # a fifth, of a fixed order of all rows
_LETTERS = "efghinorstuvwxz"
_LONGEST = max(map(len, NAMES))
_SIDE, _WHITE = 8, 16

_Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Task:
    """Pairs to train on, and a question to ask of the trained towers: which candidate goes with this image?

    Attributes:
        name: Which task.
        metric: What the share of right answers is called.
        images: [n, p], pixels less their mean.
        texts: [n, q]; row i matches image i.
        test_images: [m, p].
        candidates: [k, q], the texts to choose from.
        answers: [m], the right candidate of each test image.
    """

    name: TaskName
    metric: str
    images: _Array
    texts: _Array
    test_images: _Array
    candidates: _Array
    answers: NDArray[np.int64]


def load(name: TaskName) -> Task:
    """Load a task.

    Raises:
        UsageError: scikit-learn is not installed.
    """
    pixels, labels = _digits()
    return _names(pixels, labels) if name == "names" else _halves(pixels)


def spelled(name: str) -> _Array:
    """Return a name as letters, one of `_LETTERS` at each place: [places x letters], 0 or 1."""
    places = np.zeros((_LONGEST, len(_LETTERS)))
    for place, letter in enumerate(name):
        places[place, _LETTERS.index(letter)] = 1.0
    return places.ravel()


def _names(pixels: _Array, labels: NDArray[np.int64]) -> Task:
    images, names = pixels.reshape(len(pixels), -1), np.stack([spelled(name) for name in NAMES])
    return Task(
        name="names",
        metric="zero-shot accuracy",
        images=images[:-_TEST_ROWS],
        texts=names[labels[:-_TEST_ROWS]],
        test_images=images[-_TEST_ROWS:],
        candidates=names,
        answers=labels[-_TEST_ROWS:],
    )


def _halves(pixels: _Array) -> Task:
    left, right = (half.reshape(len(pixels), -1) for half in np.split(pixels, 2, axis=2))
    return Task(
        name="halves",
        metric="recall at 1",
        images=left[:-_TEST_ROWS],
        texts=right[:-_TEST_ROWS],
        test_images=left[-_TEST_ROWS:],
        candidates=right[-_TEST_ROWS:],
        answers=np.arange(_TEST_ROWS),
    )


@cache
def _digits() -> tuple[_Array, NDArray[np.int64]]:
    """Return pixels [n, 8, 8], about 0, and which digit each is; the last rows are for testing."""
    try:
        from sklearn import datasets
    except ImportError:
        raise UsageError(
            "training takes scikit-learn's digits, and scikit-learn is not installed: "
            "install it, or this package with its extra `train`"
        ) from None
    digits: Any = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    pixels = np.asarray(digits.data, dtype=np.float64)[order].reshape(-1, _SIDE, _SIDE) * 2 / _WHITE
    pixels -= pixels[:-_TEST_ROWS].mean(axis=0)
    return pixels, np.asarray(digits.target, dtype=np.int64)[order]
