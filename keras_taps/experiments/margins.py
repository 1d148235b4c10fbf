"""Proved and attacked margins of a few images, for a picture."""

import numpy as np
from keras import ops

from keras_taps import backend
from keras_taps.attacks import box_attack, margins_at
from keras_taps.bounds import ibp_margins, margin_rows
from keras_taps.interval import input_box


def margin_report(models, eps, x, y, count=6):
    """IBP bounds and attacked margins of some test images.

    Args:
        models: Dictionary from a name to a `CertifiedModel`.
        eps: Radius.
        x: Array `(n, ...)` of images; `count` are taken, evenly spaced by how safe they are under
            the last model.
        y: Array `(n,)` of labels.
        count: Number of images.

    Returns:
        Dictionary of the arguments of `plots.margin_bounds`.
    """

    def margins(model):
        network, domain = model.network, model.domain
        segment = network.segment

        def both(images, labels):
            box = input_box(images, eps, domain)
            points = box_attack(segment, box, labels, backend.seed_tensor(0))
            rows = margin_rows(segment.last, labels)
            return ibp_margins(network, box, labels), margins_at(segment, points, rows)

        results = backend.compiled(both, segment.variables)(
            ops.convert_to_tensor(x), ops.convert_to_tensor(y)
        )
        return [ops.convert_to_numpy(result) for result in results]

    found = {name: margins(model) for name, model in models.items()}
    worst = found[list(models)[-1]][0].max(axis=1)
    chosen = np.argsort(worst)[np.linspace(0, len(x) - 1, count).round().astype(int)]
    return {
        "images": x[chosen],
        "labels": y[chosen],
        "bounds": {name: bound[chosen] for name, (bound, _) in found.items()},
        "attacked": {name: attacked[chosen] for name, (_, attacked) in found.items()},
        "eps": eps,
    }
