"""Every Python block of the README and the docs runs."""

import re
from pathlib import Path

import pytest

import keras_taps as kt

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "docs/index.md"]


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digits = kt.datasets.load("digits")
    # The same code on a few images of the embedded data, one epoch.
    small = kt.datasets.Dataset(
        digits.info, *((x[:32], y[:32]) for x, y in (digits.train, digits.validation, digits.test))
    )
    monkeypatch.setattr(kt.datasets, "load", lambda name: small)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        block = re.sub(r"epochs=(6|10)\b", "epochs=3", block).replace("(28, 28, 1)", "(8, 8, 1)")
        exec(compile(block, page, "exec"), {})
    assert (tmp_path / "taps.keras").exists()
