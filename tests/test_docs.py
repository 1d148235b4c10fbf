"""Every Python and YAML block of the README and the docs runs."""

import re
from pathlib import Path

import keras
import pytest

import keras_taps as kt

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", "docs/index.md", "docs/methods.md", "docs/certification.md"]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """The same code on a few images of the embedded data, for one to three epochs."""
    monkeypatch.chdir(tmp_path)
    small = kt.datasets.load("digits").limited(32)
    monkeypatch.setattr(kt.datasets, "load", lambda name: small)
    names = {"keras": keras, "kt": kt}
    if page == "docs/methods.md":  # it shows fragments
        names["network"] = kt.networks.cnn3((8, 8, 1), 10, width=1)
        names["x_train"], names["y_train"] = small.train
    found = blocks(page, "python")
    assert found
    for block in found:
        block = re.sub(r"epochs=(6|10|70)\b", "epochs=3", block)
        block = re.sub(r"\((8|28), \1, 1\), 10,(?! width)", "(8, 8, 1), 10, width=2,", block)
        exec(compile(block, page, "exec"), names)
    if page == "docs/certification.md":
        assert (tmp_path / "report.jsonl").exists()
    elif page == "docs/methods.md":
        model = names["HardestHalf"](names["network"], eps=0.1, pgd_steps=1)
        model.compile("sgd")
        model.fit(*small.train, verbose=0)
    else:
        assert (tmp_path / "taps.keras").exists()


def test_recipe_in_the_docs(tmp_path):
    (block,) = blocks("docs/methods.md", "yaml")
    (tmp_path / "mine.yaml").write_text(block)
    found = kt.recipes.find_recipe(tmp_path / "mine.yaml")
    assert found.options["tau_ratio"] == 0.2
    assert found.bn_reestimation is True


def test_table_of_methods_is_complete():
    page = (ROOT / "docs" / "methods.md").read_text()
    for name, cls in kt.training.METHODS.items():
        assert f"| `{cls.__name__}` | `{name}` |" in page
