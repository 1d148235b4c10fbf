"""The table of activations in the documentation says what the code does.

What stands behind a mark is proved elsewhere, for every row: boxes in `layers/test_activations`,
lines in `bounds/test_lines` and `certificate/test_curves`, verdicts in `cascade/test_activations`,
files in `formats/test_onnx_activations`.
"""

from pathlib import Path

import pytest

import keras_taps
from keras_taps.layers.activations import _KNOWN
from keras_taps.verification.graph.activations import activation
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.traverse import curves

pytestmark = pytest.mark.once

PAGE = Path(keras_taps.__file__).parent.parent / "docs" / "certification.md"
HEAD = "| Activation | convert, train | CROWN to branch and bound, checked | exact solver | ONNX |"


def table():
    """The lines of the table."""
    lines = [HEAD, "| --- | --- | --- | --- | --- |"]
    for name in sorted(_KNOWN):
        splits = not curves(Graph(tuple(activation(name, (1,)))).nodes)
        lines.append(f"| `{name}` | yes | yes | {'yes' if splits else 'left open'} | yes |")
    return "\n".join(lines)


def test_the_page_has_the_table():
    assert table() in PAGE.read_text(), table()
