import pytest

from keras_taps.experiments.estimate import estimate_cost
from keras_taps.experiments.recipes import recipe


@pytest.mark.once
def test_cost_of_a_recipe():
    chosen = recipe("digits-0.1-taps", width=1, epochs=10, anneal_epochs=4, attack_steps=1)
    cost = estimate_cost(chosen)
    assert cost["steps_per_epoch"] == 21  # 1293 images in batches of 64
    assert cost["parameters"] == (25 + 1) + (32 + 2) + 8 * 10 + 10
    expected = 21 * (4 * cost["annealing_step_s"] + 6 * cost["main_step_s"])
    assert cost["total_s"] == pytest.approx(expected)
    assert estimate_cost(chosen, limit=64)["steps_per_epoch"] == 1
