"""What a search changes in the traces of a chain: its slopes, known signs, shifts, multipliers."""

from keras import ops

from keras_taps.bounds.lines import Lagrangian, Lines


def with_slopes(traces, slopes):
    """The traces with other slopes of the lower lines of crossing ReLUs and of lines of curves.

    A form meets one of the two lines of a curve, so one slope serves for both.

    Args:
        traces: Traces of a chain.
        slopes: Iterator over tensors `(batch, n, ...)`, one for each activation: a slope for each
            of the n forms that will be sent back. Any slope between those of the two pieces of a
            ReLU is sound, and any of a curve.
    """

    def change(lines):
        if lines.around is not None:
            slope = next(slopes)
            under, over = lines.around(slope)
            return Lines(slope, over, slope, under)
        slope = ops.where(lines.upper_intercept > 0, next(slopes), lines.lower_slope)
        return lines._replace(lower_slope=slope)

    return _replaced(traces, change)


def with_signs(traces, signs):
    """The traces where the signs of some inputs of ReLUs are known: there both lines are one.

    Args:
        traces: Traces of a chain of ReLUs.
        signs: Iterator over pairs, one for each activation: a tensor `(batch, n, ...)` of 1, -1, or
            0 where nothing is known, and the slope for negative inputs.
    """

    def change(lines):
        sign, kink = next(signs)
        slope = ops.where(sign > 0, 1.0, kink)
        steep, over, below, under = lines[:4]
        return Lines(
            ops.where(sign == 0, steep, slope),
            ops.where(sign == 0, over, 0.0),
            ops.where(sign == 0, below, slope),
            ops.where(sign == 0, under, 0.0),
        )

    return _replaced(traces, change)


def with_shift(traces, shifts):
    """The traces with lines moved upward, one tensor `(batch, n, ...)` for each activation.

    The derivative of a bound by these tensors is how it depends on each activation.
    """

    def change(lines):
        shift = next(shifts)
        over, under = lines.upper_intercept + shift, lines.lower_intercept + shift
        return lines._replace(upper_intercept=over, lower_intercept=under)

    return _replaced(traces, change)


def with_multipliers(traces, outer, inner):
    """The traces with what multipliers of constraints on activations add to the rows.

    Args:
        traces: Traces of a chain.
        outer: Iterator over tensors `(batch, n, ...)`, one for each activation, which are added to
            the rows of its outputs.
        inner: The same for its inputs.
    """
    return _replaced(traces, lambda lines: Lagrangian(lines, next(outer), next(inner)))


def _replaced(traces, change):
    """The traces with `change(lines)` in place of each `Lines`, asked for depth-first."""
    replaced = []
    for trace in traces:
        if isinstance(trace, Lines):
            trace = change(trace)
        elif isinstance(trace, list):
            trace = _replaced(trace, change)
        replaced.append(trace)
    return replaced
