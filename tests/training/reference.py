"""TAPS on a Dense network with batch normalisation, in NumPy float64, without this package.

Gradients are central differences of the loss that the gradient connector and the product
objective define: the latent points move with their box by the connector's weights, and each loss
is weighted by the value of the other.
"""

import numpy as np

BN_EPSILON = 1e-5


def cross_entropy(margins):
    return np.mean(np.log1p(np.exp(margins).sum(-1)))


def layers_of(weights):
    """[(kernel, bias, gamma, beta), ...] and the last (kernel, bias)."""
    hidden = [weights[i : i + 4] for i in range(0, len(weights) - 2, 4)]
    return hidden, weights[-2:]


def batch_moments(weights, x):
    """Biased clean moments before each ReLU."""
    moments = []
    for kernel, bias, gamma, beta in layers_of(weights)[0]:
        y = x @ kernel + bias
        moments.append((y.mean(0), y.var(0)))
        x = np.maximum(
            (y - moments[-1][0]) / np.sqrt(moments[-1][1] + BN_EPSILON) * gamma + beta, 0
        )
    return moments


def point_layer(layer, moments, z):
    kernel, bias, gamma, beta = layer
    y = z @ kernel + bias
    return np.maximum((y - moments[0]) / np.sqrt(moments[1] + BN_EPSILON) * gamma + beta, 0)


def box_layer(layer, moments, lower, upper):
    """Affine layer and normalisation as one: per output the best vertex."""
    kernel, bias, gamma, beta = layer
    scale = gamma / np.sqrt(moments[1] + BN_EPSILON)
    kernel, bias = kernel * scale, (bias - moments[0]) * scale + beta
    up, down = np.maximum(kernel, 0), np.minimum(kernel, 0)
    lower, upper = lower @ up + upper @ down + bias, upper @ up + lower @ down + bias
    return np.maximum(lower, 0), np.maximum(upper, 0)


def rows(last, labels):
    """Kernel (batch, wrong classes, features) and bias of the margins."""
    kernel, bias = last
    wrong = [np.delete(np.arange(kernel.shape[1]), y) for y in labels]
    w = np.stack([(kernel[:, c] - kernel[:, [y]]).T for c, y in zip(wrong, labels, strict=True)])
    b = np.stack([bias[c] - bias[y] for c, y in zip(wrong, labels, strict=True)])
    return w, b


def losses(weights, x, y, eps, shares, relus, c, anchor=None):
    """(TAPS loss, IBP loss, TAPS margins, IBP margins, anchor).

    The anchor holds points, connector weights and latent box at the weights of the step; with it
    the points move as the connector says.
    """
    hidden, last = layers_of(weights)
    moments = batch_moments(weights, x)
    cut = len(hidden) - relus
    lower, upper = np.maximum(x - eps, 0), np.minimum(x + eps, 1)
    for layer, moment in zip(hidden[:cut], moments[:cut], strict=True):
        lower, upper = box_layer(layer, moment, lower, upper)
    if anchor is None:
        lo, hi = lower[:, None], upper[:, None]
        width = hi - lo
        points = lo + shares * width
        reach = np.where(width > 0, c * width, 1.0)
        to_lower = np.where(width > 1e-5, np.maximum(0, 1 - (points - lo) / reach), 0.5)
        to_upper = np.where(width > 1e-5, np.maximum(0, 1 - (hi - points) / reach), 0.5)
        anchor = points, to_lower, to_upper, lower, upper
    points, to_lower, to_upper, lower_0, upper_0 = anchor
    z = points + to_lower * (lower - lower_0)[:, None] + to_upper * (upper - upper_0)[:, None]
    for layer, moment in zip(hidden[cut:], moments[cut:], strict=True):
        z = point_layer(layer, moment, z)
        lower, upper = box_layer(layer, moment, lower, upper)
    kernel, bias = rows(last, y)
    taps = (kernel * z).sum(-1) + bias
    best = np.where(kernel > 0, upper[:, None], lower[:, None])
    ibp = (kernel * best).sum(-1) + bias
    return cross_entropy(taps), cross_entropy(ibp), taps, ibp, anchor


def taps_step(weights, x, y, eps, shares, relus, c, w_taps, h=1e-6):
    """Loss, gradients, TAPS margins and IBP margins of one step."""
    weights = [np.asarray(w, "float64") for w in weights]
    x, shares = np.asarray(x, "float64"), np.asarray(shares, "float64")
    taps_0, ibp_0, taps_margins, ibp_margins, anchor = losses(weights, x, y, eps, shares, relus, c)
    alpha = 1.0 if np.isinf(w_taps) else w_taps / (1 + w_taps)
    gradients = [np.zeros_like(w) for w in weights]
    for weight, gradient in zip(weights, gradients, strict=True):
        for index in np.ndindex(weight.shape):
            kept, sides = weight[index], []
            for side in (h, -h):
                weight[index] = kept + side
                taps, ibp, *_ = losses(weights, x, y, eps, shares, relus, c, anchor)
                sides.append(2 * alpha * ibp_0 * taps + (2 - 2 * alpha) * taps_0 * ibp)
            weight[index] = kept
            gradient[index] = (sides[0] - sides[1]) / (2 * h)
    return taps_0 * ibp_0, gradients, taps_margins, ibp_margins
