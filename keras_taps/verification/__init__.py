"""Verification: from a trained network to verdicts that can be checked.

Names are imported when they are first asked for, so that the trusted rooms, `graph` and
`certificate`, are loaded with NumPy and the standard library alone.
"""

# ruff: noqa: F401 - type checkers read the imports, `__all__` is made of the table

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers alone
    from keras_taps.choices import DEFAULT_STAGES, STAGES
    from keras_taps.verification.bridges.from_keras import read_network
    from keras_taps.verification.cascade.certify import Certifier, certify
    from keras_taps.verification.cascade.radius import certified_radius
    from keras_taps.verification.cascade.stages import Verifier
    from keras_taps.verification.cascade.task import Query, Task
    from keras_taps.verification.cascade.verify import verify
    from keras_taps.verification.certificate.checker import Checker
    from keras_taps.verification.certificate.recheck import recheck
    from keras_taps.verification.certificate.report import Report, merge_reports
    from keras_taps.verification.certificate.rounding import input_interval
    from keras_taps.verification.exact.milp import (
        exact_bound,
        exact_maximum,
        exact_verdict,
    )
    from keras_taps.verification.formats.onnx_reader import read_onnx
    from keras_taps.verification.formats.onnx_writer import write_onnx
    from keras_taps.verification.formats.vnnlib import read_vnnlib, write_vnnlib
    from keras_taps.verification.graph.foreign import register_function
    from keras_taps.verification.graph.graph import Graph
    from keras_taps.verification.graph.unsafe import Unsafe
    from keras_taps.verification.search.engine import BoundEngine

_NAMES = {
    "keras_taps.choices": ("DEFAULT_STAGES", "STAGES"),
    "keras_taps.verification.bridges.from_keras": ("read_network",),
    "keras_taps.verification.cascade.certify": ("Certifier", "certify"),
    "keras_taps.verification.cascade.radius": ("certified_radius",),
    "keras_taps.verification.cascade.stages": ("Verifier",),
    "keras_taps.verification.cascade.task": ("Query", "Task"),
    "keras_taps.verification.cascade.verify": ("verify",),
    "keras_taps.verification.certificate.checker": ("Checker",),
    "keras_taps.verification.certificate.recheck": ("recheck",),
    "keras_taps.verification.certificate.report": ("Report", "merge_reports"),
    "keras_taps.verification.certificate.rounding": ("input_interval",),
    "keras_taps.verification.exact.milp": (
        "exact_bound",
        "exact_maximum",
        "exact_verdict",
    ),
    "keras_taps.verification.formats.onnx_reader": ("read_onnx",),
    "keras_taps.verification.formats.onnx_writer": ("write_onnx",),
    "keras_taps.verification.formats.vnnlib": ("read_vnnlib", "write_vnnlib"),
    "keras_taps.verification.graph.foreign": ("register_function",),
    "keras_taps.verification.graph.graph": ("Graph",),
    "keras_taps.verification.graph.unsafe": ("Unsafe",),
    "keras_taps.verification.search.engine": ("BoundEngine",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}
__all__ = sorted(_HOMES)

if not TYPE_CHECKING:  # for a type checker this function would mean that every name exists

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value


def __dir__():
    return sorted({*globals(), *__all__})
