"""Stream measures against matrices worked out by hand, and against the definitions written as loops."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from tofro.measures.continual import average_score, backward_transfer, forgetting, forward_transfer, gain

# stage 0 is pretraining; columns are tasks 1 to 3
HAND = [
    [0.50, 0.40, 0.60],
    [0.80, 0.45, 0.58],
    [0.70, 0.75, 0.66],
    [0.65, 0.77, 0.90],
]


def test_a_matrix_by_hand() -> None:
    assert average_score(HAND) == pytest.approx((0.65 + 0.77 + 0.90) / 3)
    assert backward_transfer(HAND) == pytest.approx(((0.65 - 0.80) + (0.77 - 0.75)) / 2)
    assert forward_transfer(HAND) == pytest.approx(((0.45 - 0.40) + (0.66 - 0.60)) / 2)
    assert forward_transfer(HAND, [0.1, 0.3, 0.5]) == pytest.approx(((0.45 - 0.3) + (0.66 - 0.5)) / 2)
    assert forgetting(HAND) == pytest.approx(((0.80 - 0.65) + (0.75 - 0.77)) / 2)
    assert gain(HAND) == pytest.approx((0.15 + 0.37 + 0.30) / 3)


def test_what_pretraining_knew_can_be_forgotten() -> None:
    """Stage 0 counts: a task that its own stage spoiled is forgotten from what pretraining knew."""
    assert forgetting([[0.9, 0.5], [0.7, 0.5], [0.6, 0.5]]) == pytest.approx(0.3)


def test_an_encoder_that_never_changes_transfers_and_forgets_nothing() -> None:
    still = np.tile([0.3, 0.9, 0.6, 0.4], (5, 1))
    assert [backward_transfer(still), forward_transfer(still), forgetting(still), gain(still)] == [0, 0, 0, 0]
    assert average_score(still) == pytest.approx(0.55)


@pytest.mark.parametrize("seed", range(3))
def test_the_definitions_as_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = 2 + seed
    matrix, floor = rng.random((count + 1, count)), rng.random(count)
    score = {(stage, task): matrix[stage, task - 1] for stage in range(count + 1) for task in range(1, count + 1)}
    earlier, later = range(1, count), range(2, count + 1)
    assert backward_transfer(matrix) == pytest.approx(np.mean([score[count, j] - score[j, j] for j in earlier]))
    assert forward_transfer(matrix, floor) == pytest.approx(np.mean([score[j - 1, j] - floor[j - 1] for j in later]))
    assert forgetting(matrix) == pytest.approx(
        np.mean([max(score[i, j] for i in range(count)) - score[count, j] for j in earlier])
    )


def test_what_was_not_measured_makes_no_number() -> None:
    gaps = np.array(HAND)
    gaps[-1, 0] = math.nan
    assert math.isnan(backward_transfer(gaps))
    assert math.isnan(forgetting(gaps))
    assert forward_transfer(gaps) == pytest.approx(forward_transfer(HAND))
    single = [[0.5], [0.9]]
    assert math.isnan(backward_transfer(single))
    assert math.isnan(forward_transfer(single))
    assert math.isnan(forgetting(single))
    assert gain(single) == pytest.approx(0.4)


def test_a_matrix_of_another_shape_is_refused() -> None:
    with pytest.raises(AssertionError, match="T \\+ 1 stages"):
        average_score(np.zeros((3, 3)))


def test_no_torch_comes_with_them() -> None:
    code = "import sys; import tofro.measures.continual; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
