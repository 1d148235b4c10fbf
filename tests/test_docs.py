"""Every Python and YAML block of the README and the docs runs."""

import json
import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest
import typer

import keras_taps as kt
from keras_taps.cli.app import app as main_app
from tests.helpers import BACKEND

ROOT = Path(__file__).parent.parent
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
ELSEWHERE = ["docs/tuning.md", "docs/your-data.md"]  # in tests/tuning, and below
SMALLER = [
    (r"EpsAnneal\(epochs=\d+\)", "EpsAnneal(epochs=1)"),
    (r"epochs=(10|15|20|70)\b", "epochs=3"),
    (r"\((8|28), \1, 1\), 10,(?! width)", "(8, 8, 1), 10, width=2,"),
]
WRITTEN = {
    "README.md": "taps.keras",
    "docs/index.md": "taps.keras",
    "docs/certification.md": "report.jsonl",
    "docs/how-to.md": "network.onnx",
}


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def pages():
    """Pages with code; the README's and what makes a method run on every backend."""
    everywhere = ("README.md", "docs/methods.md")
    for page in PAGES:
        if blocks(page, "python") and page not in ELSEWHERE:
            yield pytest.param(page, marks=[] if page in everywhere else pytest.mark.once)


@pytest.mark.parametrize("page", pages())
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """The same code on a few images of the embedded data, for one to three epochs."""
    monkeypatch.chdir(tmp_path)
    small = kt.datasets.load("digits").limited(32)
    monkeypatch.setattr(kt.datasets, "load", lambda name: small)
    names = {"keras": keras, "kt": kt}
    if page == "docs/methods.md":  # it shows fragments
        names["network"] = kt.networks.cnn3((8, 8, 1), 10, width=1)
        names["x_train"], names["y_train"] = small.train
    for block in blocks(page, "python"):
        if page == "docs/methods.md" and BACKEND != "torch" and "HardestHalf" not in block:
            continue  # the family has tests of its own on every backend, a user's method has not
        for long, short in SMALLER:
            block = re.sub(long, short, block)
        exec(compile(block, page, "exec"), names)
    if page == "docs/methods.md":
        model = names["HardestHalf"](names["network"], eps=0.1, pgd_steps=1)
        model.compile("sgd")
        model.fit(*small.train, batch_size=20, verbose=0)  # the last batch is smaller
    elif page in WRITTEN:
        assert (tmp_path / WRITTEN[page]).exists()


@pytest.mark.once
def test_rows_and_signals_are_certified(tmp_path, monkeypatch):
    """The examples as they are: features of their own radii, and signals without bounds."""
    pytest.importorskip("sklearn.datasets")
    monkeypatch.chdir(tmp_path)
    rows, factors, signals, each = blocks("docs/your-data.md", "python")
    names = {}
    exec(rows, names)
    shares = names["report"].accuracies()
    assert shares["certified"] > 0.8
    own = {"x": names["x"][names["test"]], "y": names["y"][names["test"]], "eps": names["eps"]}
    domain = (-names["mean"] / names["std"], None)
    found = kt.verification.recheck("cancer.jsonl", **own, domain=domain)
    assert found.true
    assert found.accuracies()["certified"] == shares["certified"]
    exec(factors, names)
    for factor, index in zip(names["factors"], range(5), strict=True):
        assert factor <= 1 or found.verdicts[index] == "certified"
    exec(signals, names)
    assert names["report"].accuracies()["certified"] > 0.9
    exec(each, names)
    assert names["found"].holds


@pytest.mark.once
def test_recipe_of_rows(tmp_path, monkeypatch):
    (block,) = blocks("docs/your-data.md", "yaml")
    (tmp_path / "rows.yaml").write_text(block)
    rows = {"x_train": np.zeros((4, 3)), "x_test": np.zeros((4, 3))}
    np.savez(tmp_path / "rows.npz", y_train=[0, 1, 0, 1], y_test=[0, 1, 0, 1], **rows)
    monkeypatch.chdir(tmp_path)
    found = kt.recipes.find_recipe("rows.yaml")
    assert found.domain == [[0, 0, None], [1, 5, None]]
    assert found.eps == found.train_eps == [0.15, 0.3, 0.15]


def shell_lines():
    """`(page, line)` of every `keras-taps` command in the shell blocks."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("keras-taps "):
                    yield page, line


@pytest.mark.once
@pytest.mark.parametrize(("page", "line"), shell_lines())
def test_commands_parse(page, line):
    """The command exists and has the options; what it needs on the disk is not there."""
    name, *rest = shlex.split(line, comments=True)[1:]
    app = typer.main.get_command(main_app).commands[name]
    app.make_context(name, rest)


@pytest.mark.once
def test_recipe_in_the_docs(tmp_path):
    found = []
    for block in blocks("docs/methods.md", "yaml"):
        (tmp_path / "mine.yaml").write_text(block)
        found.append(kt.recipes.find_recipe(tmp_path / "mine.yaml"))
    staged, own = found
    assert staged.in_stages()[-1].end == 30
    assert own.options["tau_ratio"] == 0.2
    assert own.bn_reestimation is True


@pytest.mark.once
def test_table_of_methods_is_complete():
    page = (ROOT / "docs" / "methods.md").read_text()
    for name, cls in kt.training.METHODS.items():
        assert f"| `{cls.__name__}` | `{name}` |" in page


@pytest.mark.once
def test_mutants_are_counted_and_survivors_have_a_reason():
    results = json.loads((ROOT / "benchmarks/results/mutants.json").read_text())
    alive = [result for result in results if result["killed_by"] is None]
    assert all(result.get("because") for result in alive)
    text = " ".join((ROOT / "docs/certification.md").read_text().split())
    files = len({result["file"] for result in results})
    assert f"Of {len(results)} changes in {files} files, {len(alive)} survive" in text
