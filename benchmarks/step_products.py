"""The convolutions and matrix products of one training step, counted from its algorithm."""

from collections import Counter
from dataclasses import dataclass, replace

from step_configurations import PGD_STEPS

PASSES = ("forward", "input", "weight")  # the product itself, and the gradients of its factors


@dataclass(frozen=True)
class Product:
    """A convolution, or a matrix product, of a batch.

    Args:
        batch: Images or points.
        inputs: `(channels, height, width)` or `(features,)` of one.
        weights: `(filters, channels, height, width)` or `(units, features)`.
        outputs: Shape of the result for one.
        stride: Of a convolution.
        padding: Of a convolution, on every side.
    """

    batch: int
    inputs: tuple
    weights: tuple
    outputs: tuple
    stride: int = 1
    padding: int = 0

    @property
    def is_convolution(self):
        """Whether this is a convolution."""
        return len(self.weights) == 4

    @property
    def flop(self):
        """Floating point operations of one pass, a multiplication and an addition counted as 2."""
        total = 2 * self.batch
        for size in (*self.outputs, *self.weights[1:]):
            total *= size
        return total


def hidden_products(configuration):
    """Products of the hidden layers for one image, in order, and whether they are normalised."""
    import eager_torch
    import torch

    height, columns, channels = configuration.image_shape
    build = getattr(eager_torch, configuration.network)
    shape = (channels, height, columns)
    found, normalised = [], False
    with torch.device("meta"):  # shapes alone, nothing is computed
        network = build(
            configuration.width, shape, configuration.classes, **configuration.network_options
        ).eval()
        x = torch.zeros(1, *shape)
        for layer in network:
            inputs, x = tuple(x.shape[1:]), layer(x)
            outputs = tuple(x.shape[1:])
            if isinstance(layer, torch.nn.Conv2d):
                place = layer.stride[0], layer.padding[0]
                found.append(Product(1, inputs, tuple(layer.weight.shape), outputs, *place))
            elif isinstance(layer, torch.nn.Linear):
                found.append(Product(1, inputs, tuple(layer.weight.shape), outputs))
            normalised = normalised or eager_torch.is_norm(layer)
    return found[:-1], normalised


def count_calls(configuration):
    """How often each product of a step of keras_taps is called: `{(Product, pass): calls}`.

    Attacks take input gradients only. The last layer is left out: its rows for the wrong classes
    are gathered for each sample, which is not a matrix product.
    """
    layers, normalised = hidden_products(configuration)
    calls = Counter()

    def add(layers, batch, **times):
        for layer in layers:
            for direction, number in times.items():
                if number:
                    calls[replace(layer, batch=batch), direction] += number

    batch, steps = configuration.batch, configuration.attack_steps
    # Clean images: gradients flow through the statistics that bounds are normalised with.
    add(layers, batch, forward=1, weight=int(normalised))
    add(layers[1:], batch, input=int(normalised))
    # Centre and radius of the box; the images themselves need no gradient.
    add(layers, batch, forward=2, weight=2)
    add(layers[1:], batch, input=2)
    if configuration.is_small_box:
        attack = configuration.options.get("pgd_steps", PGD_STEPS)
        add(layers, batch, forward=attack + 1, input=attack)
    if configuration.points:
        classifier = layers[-configuration.classifier_relus :]
        points = batch * configuration.points
        restarts = configuration.options.get("attack_restarts", 1)
        add(classifier, points, forward=restarts * (steps + 1), input=restarts * steps)
        add(classifier, points, forward=1, input=1, weight=1)  # the estimate that is trained
    return calls
