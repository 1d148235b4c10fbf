"""Verification: from a trained network to verdicts that can be checked."""

from keras_taps.choices import DEFAULT_STAGES, STAGES
from keras_taps.verification.certify import certify
from keras_taps.verification.checker import Checker
from keras_taps.verification.engine import BoundEngine
from keras_taps.verification.from_keras import read_network
from keras_taps.verification.graph import Graph
from keras_taps.verification.milp import (
    exact_bound,
    exact_maximum,
    exact_verdict,
    minimal_distance,
)
from keras_taps.verification.onnx_reader import read_onnx
from keras_taps.verification.onnx_writer import write_onnx
from keras_taps.verification.radius import certified_radius
from keras_taps.verification.recheck import recheck
from keras_taps.verification.report import Report, merge_reports
from keras_taps.verification.rounding import input_interval
from keras_taps.verification.stages import Verifier
from keras_taps.verification.task import Task
from keras_taps.verification.unsafe import Unsafe
from keras_taps.verification.verify import verify
from keras_taps.verification.vnnlib import read_vnnlib, write_vnnlib

__all__ = [
    "DEFAULT_STAGES",
    "STAGES",
    "BoundEngine",
    "Checker",
    "Graph",
    "Report",
    "Task",
    "Unsafe",
    "Verifier",
    "certified_radius",
    "certify",
    "exact_bound",
    "exact_maximum",
    "exact_verdict",
    "input_interval",
    "merge_reports",
    "minimal_distance",
    "read_network",
    "read_onnx",
    "read_vnnlib",
    "recheck",
    "verify",
    "write_onnx",
    "write_vnnlib",
]
