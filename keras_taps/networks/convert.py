"""From a stock Keras model to an interval network with the same weights and outputs."""

import keras

from keras_taps import layers as interval_layers
from keras_taps.layers.activations import activation_name, check_activation
from keras_taps.layers.base import IntervalLayer
from keras_taps.layers.own import rule_of
from keras_taps.layers.shaping import check_interpolation
from keras_taps.networks.agreement import check_expansion, check_padding
from keras_taps.networks.constants import with_constant
from keras_taps.networks.heads import Softmax, is_softmax, refuse_softmax, with_logits
from keras_taps.networks.merge import MERGES, merge_of, merged
from keras_taps.networks.rewrite import REWRITTEN, one_shape, rewritten
from keras_taps.networks.sequential import IntervalSequential

# Functions of keras.ops in a functional model, by the name of their operation.
_OPERATIONS = {"Relu": interval_layers.IntervalReLU}
_HINTS = {
    "LayerNormalization": "It divides by a deviation of its own input: interval bounds on the "
    "quotient hold almost every value that it can take after two or three such layers."
}
_STOCK = {
    getattr(keras.layers, name.removeprefix("Interval")): getattr(interval_layers, name)
    for name in interval_layers.__all__
    if name.startswith("Interval") and hasattr(keras.layers, name.removeprefix("Interval"))
}

# Noise and augmentation: at inference they are the identity. Older Keras lacks some.
_TRAINING_ONLY = {
    getattr(keras.layers, name, None)
    for name in (
        *("AlphaDropout", "GaussianDropout", "GaussianNoise"),
        *("SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
        *("AugMix", "RandAugment", "RandomBrightness", "RandomColorDegeneration"),
        *("RandomColorJitter", "RandomContrast", "RandomElasticTransform", "RandomErasing"),
        *("RandomFlip", "RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert"),
        *("RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation"),
        *("RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom"),
    )
}


def convert(model: keras.Model) -> IntervalSequential:
    """Turn a built stock Keras classifier into an interval network.

    Args:
        model: Built `keras.Sequential` or functional `keras.Model` with one input and one output,
            whose layers have interval forms; branches may meet again in `Add`, `Subtract`,
            `Average`, `Maximum`, `Minimum` and `Concatenate` layers or by `+` and `-`, and
            constants are added, multiplied and compared with. Models inside the model are unfolded.
            An `IntervalSequential` is copied.

    Returns:
        An `IntervalSequential` with its own copy of the weights and the same outputs, in the form
        of a classifier: a softmax at the end is taken off, with a warning; one output, with or
        without a sigmoid, becomes the two logits 0 and z; after an end that is no Dense layer
        comes one with the identity. A fused activation becomes a layer of its own, so that the
        network can be split after it.

    Raises:
        ValueError: If the model is not built, has several inputs or outputs, or holds a layer
            without an interval form; the message names it.

    Example:

    >>> stock = keras.Sequential([
    ...     keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)])
    >>> network = convert(stock)
    >>> network.relus
    1
    """
    if not isinstance(model, keras.Model):
        raise ValueError(f"`model` must be a Keras model. Received: {type(model).__name__}")
    if not model.built:
        raise ValueError(
            f"Model '{model.name}' is not built. Give it a keras.Input or call it on data first."
        )
    chain = _Converter().model(model)
    if not isinstance(model, IntervalSequential):
        chain = with_logits(chain, model)
    # A Sequential built by a call records the shape of that batch; only the image shape counts.
    return IntervalSequential(chain, input_shape=model.input_shape[1:], name=model.name)


class _Converter:
    """Walks the graph of a model backwards; a layer used twice is converted once."""

    def __init__(self):
        self._converted = {}
        self._passed = {}  # id of a symbolic tensor: the nearest one that every path to it passes

    def model(self, model):
        """Interval layers of a whole model."""
        if isinstance(model, IntervalSequential):
            return [layer for stock in model.layers for layer in self.layer(stock)]
        if isinstance(model, keras.Sequential):
            return [layer for stock in model.layers for layer in self.layer(stock)]
        if not hasattr(model, "inputs") or not hasattr(model, "outputs") or not model.outputs:
            raise ValueError(
                f"Model '{model.name}' is subclassed, so its graph cannot be read. Accepted: "
                "keras.Sequential and functional models."
            )
        if len(model.inputs) != 1 or len(model.outputs) != 1:
            raise ValueError(
                f"Model '{model.name}' must have one input and one output. "
                f"Received: {len(model.inputs)} inputs, {len(model.outputs)} outputs"
            )
        return self.chain(model.outputs[0], model.inputs[0])

    def chain(self, tensor, source):
        """Interval layers that lead from the symbolic tensor `source` to `tensor`."""
        reversed_layers = []
        while tensor is not source:
            layer, node = _producer(tensor)
            inputs = node.input_tensors
            if isinstance(layer, keras.layers.InputLayer):
                raise ValueError(
                    "The branches of the model do not form nested residual blocks, so it is not "
                    "a chain of layers and blocks."
                )
            # The precision is the tensor's: Keras' global policy may be another one by now.
            dtype = tensor.dtype
            if merge_of(layer, inputs) is not None:
                tensor = self.common_source(inputs)
                branches = [self.chain(branch, tensor) for branch in inputs]
                for branch in branches:
                    refuse_softmax(branch)
                reversed_layers.extend(reversed(merged(layer, inputs, branches, dtype)))
            else:
                if len(inputs) != 1:
                    raise ValueError(_unknown(layer))
                found = with_constant(layer, node, dtype) or self.layer(layer, dtype)
                reversed_layers.extend(reversed(found))
                tensor = inputs[0]
        return reversed_layers[::-1]

    def common_source(self, tensors):
        """The symbolic tensor nearest to `tensors` that every path to each of them passes."""
        paths = [self.dominators(tensor) for tensor in tensors]
        others = [{id(tensor) for tensor in path} for path in paths[1:]]
        return next(t for t in paths[0] if all(id(t) in ids for ids in others))

    def dominators(self, tensor):
        """Symbolic tensors that every path from the input to `tensor` passes, nearest first."""
        path = [tensor]
        while path[-1] is not None:
            key = id(path[-1])
            if key not in self._passed:
                inputs = _producer(path[-1])[1].input_tensors
                one = inputs[0] if len(inputs) == 1 else None
                self._passed[key] = self.common_source(inputs) if len(inputs) > 1 else one
            path.append(self._passed[key])
        return path[:-1]

    def layer(self, layer, dtype=None):
        """Interval layers, usually one, that do what a stock layer, or an operation, does."""
        if id(layer) not in self._converted:
            self._converted[id(layer)] = self._convert(layer, dtype)
        return self._converted[id(layer)]

    def own(self, layer, rule):
        """Interval layers of a registered layer of a user's own."""
        if rule.expand is None:
            how = {"name": layer.name, "dtype": layer.dtype_policy}
            return [interval_layers.IntervalOwn(_copied(layer), **how)]
        shape = one_shape(layer)
        parts = rule.expand(layer, shape)
        if not isinstance(parts, keras.Model):
            parts = keras.Sequential([keras.Input(shape), *parts])
        found = self.model(parts)
        refuse_softmax(found)
        check_expansion(layer, found, shape)
        return found

    def _convert(self, layer, dtype):
        if isinstance(layer, keras.layers.InputLayer):
            return []
        if rule_of(layer) is not None:
            return self.own(layer, rule_of(layer))
        if isinstance(layer, keras.Model):
            return self.model(layer)
        if _operation(layer) in _OPERATIONS:
            return [_OPERATIONS[_operation(layer)](name=layer.name, dtype=dtype)]
        if isinstance(layer, keras.layers.Softmax) or _operation(layer) == "Softmax":
            return [Softmax(layer)]
        if isinstance(layer, keras.layers.Activation) and is_softmax(layer.activation):
            return [Softmax(layer)]
        if type(layer) in _TRAINING_ONLY:
            how = {"name": layer.name, "dtype": layer.dtype_policy}
            return [interval_layers.IntervalTrainingOnly(_copied(layer), **how)]
        if getattr(layer, "quantization_mode", None):
            raise ValueError(
                f"Layer '{layer.name}' is quantised ({layer.quantization_mode}), and its "
                "rounding has no interval form. Accepted: the network as it was before `quantize`."
            )
        parts = rewritten(layer)
        if parts is not None:
            found = [new for part in parts for new in self._convert(part, dtype)]
            check_padding(layer, found)
            return found
        cls = type(layer) if isinstance(layer, IntervalLayer) else _STOCK.get(type(layer))
        if cls is None:
            raise ValueError(_unknown(layer))
        check_interpolation(layer)
        config = layer.get_config()
        activation = getattr(layer, "activation", None)
        kernel = hasattr(layer, "kernel_initializer") or hasattr(layer, "depthwise_initializer")
        fused = kernel and activation_name(activation) != "linear"
        # Its regulariser is about what comes after the activation, so the two stay together.
        fused = fused and layer.activity_regularizer is None
        if not (fused and is_softmax(activation)):
            check_activation(activation, layer.name)  # whose configuration has its name alone
        if fused:
            config["activation"] = "linear"
        converted = cls.from_config(config)
        if layer.built:
            converted.build_from_config(layer.get_build_config())
            converted.set_weights(layer.get_weights())
            if isinstance(layer, keras.layers.Normalization):
                converted.finalize_state()
        check_padding(layer, [converted])
        if fused and is_softmax(activation):
            return [converted, Softmax(layer)]
        if fused:
            how = {
                "name": f"{layer.name}_{activation_name(activation)}",
                "dtype": layer.dtype_policy,
            }
            if activation_name(activation) == "relu":
                return [converted, interval_layers.IntervalReLU(**how)]
            return [converted, interval_layers.IntervalActivation(activation, **how)]
        return [converted]


def _copied(layer):
    copy = type(layer).from_config(layer.get_config())
    if layer.built:
        copy.build_from_config(layer.get_build_config())
        copy.set_weights(layer.get_weights())
    return copy


def _producer(tensor):
    """Layer that made a symbolic tensor, and the node of that call."""
    history = tensor._keras_history
    return history.operation, history.operation._inbound_nodes[history.node_index]


def _operation(layer):
    """Name of an operation such as `x + y`, which is `keras.ops.add`; `None` for a layer."""
    return None if isinstance(layer, keras.layers.Layer) else type(layer).__name__


def _unknown(layer):
    known = ", ".join(sorted(stock.__name__ for stock in {*_STOCK, *REWRITTEN, *MERGES}))
    name = type(layer).__name__
    kind = "Operation" if _operation(layer) else "Layer"
    hint = f" {_HINTS[name]}" if name in _HINTS else ""
    return (
        f"{kind} '{layer.name}' of type {name} has no interval form.{hint} Accepted: {known}, "
        "noise and augmentation that act in training alone; of operations `x + y`, `x - y`, "
        "those of a constant (`2 * x`), and of keras.ops `concatenate`, `maximum`, `minimum`, "
        "`relu`. Layers of your own: `keras_taps.register_layer`."
    )
