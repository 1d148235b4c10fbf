"""Descent on slopes of lines and multipliers of constraints, sound at every step."""

from keras import ops

from keras_taps import backend


def optimise(bound, start, low, high=1.0, iterations=20, rate=0.1, enough=None):
    """Minimise upper bounds over their parameters by projected Adam, and keep the best of each.

    Args:
        bound: Maps parameters `(batch, n, count)` to upper bounds `(batch, n)`; each bound depends
            on its own parameters alone.
        start: Tensor of parameters to begin with.
        low: Tensor `(count,)` or number, the smallest value of each parameter.
        high: The largest, likewise.
        iterations: Steps >= 0.
        rate: Learning rate, a number or a tensor that broadcasts with the parameters; it falls to
            a tenth over the steps.
        enough: Number: stop as soon as every bound is below it. By default all steps are taken.

    Returns:
        `(bounds, parameters)`: the smallest bounds found and the parameters that give them.

    References:
        Xu et al., "Fast and Complete: Enabling Complete Verification with Rapid and Massively
        Parallel Incomplete Verifiers" (alpha-CROWN), 2021; Wang et al., "Beta-CROWN", 2021.
    """

    def better(best, bounds, found):
        smaller = bounds < best[1]
        return ops.where(smaller[..., None], found, best[0]), ops.where(smaller, bounds, best[1])

    def step(i, state):
        found, mean, square, *best = state
        bounds, gradient = backend.input_gradient(bound, found)
        best = better(best, bounds, found)
        gradient = ops.where(ops.isfinite(gradient), gradient, 0.0)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.99 * square + 0.01 * gradient**2
        count = ops.cast(i, found.dtype) + 1
        unbiased = mean / (1 - 0.9**count)
        scale = ops.sqrt(square / (1 - 0.99**count)) + 1e-12
        size = rate * 0.1 ** (count / max(iterations, 1))
        found = ops.minimum(ops.maximum(found - size * unbiased / scale, low), high)
        return found, mean, square, *best

    nothing = ops.zeros_like(start)
    worst = ops.full(ops.shape(start)[:2], float("inf"), dtype=start.dtype)
    state = (start, nothing, nothing, start, worst)
    done = None if enough is None else (lambda bounds: ops.all(bounds < enough))
    found, _, _, *best = backend.repeat(step, state, iterations, done)
    parameters, bounds = better(best, bound(found), found)
    return bounds, parameters
