"""A second opinion on what was read: the reference implementation of ONNX."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_max_pool import MaxPool as ReferenceMaxPool

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.graph.nodes import same_padding

AGREEMENT = 1e-4  # relative error to the reference implementation, which computes in float32


def check_agreement(model, source, shape, network, constants):
    """Raise unless a graph agrees with the reference implementation on random inputs.

    A file in float32 whose outputs drown in rounding is run once more in float64, where the graph
    may differ by what the checker allows for.

    Args:
        model: `ModelProto`.
        source: `ValueInfoProto` of its input.
        shape: Shape of one input in the file, with a batch of 1 if it has one.
        network: `OnnxNetwork`.
        constants: Dictionary from names to the arrays that do not depend on the input.

    Raises:
        ValueError: If they differ, or the reference fails.
    """
    dtype = helper.tensor_dtype_to_np_dtype(source.type.tensor_type.elem_type)
    points = np.random.default_rng(0).uniform(-1, 1, (3, network.places.size)).astype(dtype)
    inputs = network.to_graph(points)
    got = network.graph(inputs)

    def differ(model, points, room):
        wanted = _outputs(model, source.name, points, shape)
        fits = got.shape == wanted.shape
        size = np.max(np.abs(wanted), initial=0.0)
        return not fits or not np.all(np.abs(got - wanted) <= AGREEMENT * size + room)

    if differ(model, points, 0.0):
        checker, eye = Checker(network.graph), np.eye(network.graph.outputs)
        both, nothing = np.concatenate([eye, -eye]), np.zeros(2 * len(eye))
        ends = np.stack([checker.upper_bounds(x, x, both, nothing, "crown-ibp") for x in inputs])
        room = 4 * (ends[:, : len(eye)] + ends[:, len(eye) :])
        if differ(_in_float64(model, constants), points.astype("float64"), room):
            raise ValueError("the graph that was read disagrees with the reference implementation")


def _outputs(model, name, points, shape):
    evaluator = ReferenceEvaluator(model, new_ops=[BatchNormalization, MaxPool])
    try:
        runs = [evaluator.run(None, {name: x.reshape(shape)}) for x in points]
    except Exception as error:  # an operator of the reference, on shapes it does not take
        raise ValueError(f"the reference implementation fails: {error}") from None
    return np.stack([np.ravel(run[0]) for run in runs]).astype("float64")


def _in_float64(model, constants):
    """The model with all its float32 numbers as float64, and its constants as they were read."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    del wide.graph.initializer[:], wide.graph.node[:]
    for name, value in constants.items():
        value = value.astype("float64") if value.dtype.kind in "fO" else value
        wide.graph.initializer.append(numpy_helper.from_array(value, name))
    wide.graph.node.extend(node for node in model.graph.node if node.output[0] not in constants)
    for entry in (*wide.graph.input, *wide.graph.output, *wide.graph.value_info):
        if entry.type.tensor_type.elem_type == TensorProto.FLOAT:
            entry.type.tensor_type.elem_type = TensorProto.DOUBLE
    return wide


class BatchNormalization(OpRun):
    """Inference; for opsets 9 to 13 ONNX's own mixes in the statistics of the batch."""

    def _run(self, x, gamma, beta, mean, variance, epsilon=None, **_):
        shape = (-1,) + (1,) * (x.ndim - 2)
        gamma, beta, mean, variance = (v.reshape(shape) for v in (gamma, beta, mean, variance))
        scale = gamma / np.sqrt(variance + (1e-5 if epsilon is None else epsilon))
        return (((x - mean) * scale + beta).astype(x.dtype),)


class MaxPool(ReferenceMaxPool):
    """With the padding of "SAME_LOWER" spelt out; ONNX's own then has too few windows."""

    op_domain = ""

    def _run(self, x, *, auto_pad=None, kernel_shape=None, strides=None, pads=None, **others):
        if auto_pad == "SAME_LOWER":
            sides = same_padding(x.shape[2:], kernel_shape, strides or [1] * len(kernel_shape))
            pads = [after for _, after in sides] + [before for before, _ in sides]
            auto_pad = "NOTSET"
        options = {"kernel_shape": kernel_shape, "strides": strides, "pads": pads}
        return super()._run(x, auto_pad=auto_pad, **options, **others)
