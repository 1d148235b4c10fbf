"""alpha-CROWN: gradient descent on the slopes of the lower lines, sound at every step."""

from keras import ops

from keras_taps import backend


def optimise_slopes(bound, start, low, iterations=20, rate=0.1):
    """Minimise upper bounds over slopes by projected Adam, and keep the best of each form.

    Args:
        bound: Maps slopes `(batch, n, neurons)` to upper bounds `(batch, n)`; each bound depends on
            its own slopes alone.
        start: Tensor of slopes to begin with.
        low: Tensor `(neurons,)`, the smallest slope of each neuron; the largest is 1.
        iterations: Steps >= 0.
        rate: Learning rate, which falls to a tenth over the steps.

    Returns:
        `(bounds, slopes)`: the smallest bounds found and the slopes that give them.

    References:
        Xu et al., "Fast and Complete: Enabling Complete Verification with Rapid and Massively
        Parallel Incomplete Verifiers" (alpha-CROWN), 2021.
    """

    def better(best, bounds, slopes):
        smaller = bounds < best[0]
        return ops.where(smaller, bounds, best[0]), ops.where(smaller[..., None], slopes, best[1])

    def step(i, state):
        slopes, mean, square, *best = state
        bounds, gradient = backend.input_gradient(bound, slopes)
        best = better(best, bounds, slopes)
        gradient = ops.where(ops.isfinite(gradient), gradient, 0.0)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        count = ops.cast(i, slopes.dtype) + 1
        unbiased = mean / (1 - 0.9**count)
        scale = ops.sqrt(square / (1 - 0.99**count)) + 1e-12
        size = rate * 0.1 ** (count / max(iterations, 1))
        slopes = ops.minimum(ops.maximum(slopes - size * unbiased / scale, low), 1.0)
        return slopes, mean, square, *best

    nothing = ops.zeros_like(start)
    worst = ops.full(ops.shape(start)[:2], float("inf"), dtype=start.dtype)
    state = (start, nothing, nothing, worst, start)
    slopes, _, _, *best = ops.fori_loop(0, iterations, step, state)
    return better(best, bound(slopes), slopes)
