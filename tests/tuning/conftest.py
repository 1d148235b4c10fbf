"""What tests of tuning share."""

import gc

import pytest


@pytest.fixture(autouse=True, scope="module")
def quick_collection():
    """KerasTuner collects garbage twice a trial, among all that pytest and a backend hold."""
    gc.collect()
    gc.freeze()  # what the whole run has frozen stays so
