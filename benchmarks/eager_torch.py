"""One training step of IBP, SABR, TAPS and STAPS in plain eager PyTorch, to measure against.

It is written from the paper, but does the work the way the public PyTorch codes do it:

- boxes are a centre and a radius, and go through the network layer by layer, each affine layer
  calling its kernel once for the centre and its absolute value once for the radius;
- a clean pass takes this batch's statistics for batch normalisation, and bounds and latent points
  use them;
- the last layer is merged with a `(batch, K - 1, K)` matrix of logit differences;
- for latent points that matrix is copied for each of a sample's points, and of the
  `(batch, K - 1, K - 1)` margins the diagonal is kept;
- every step of an attack, on images or latent points, runs forward and `backward()`, which
  computes the gradients of the weights along with those of the points and throws them away;
- nothing is compiled.

Images are NCHW. The mathematics (boxes, attacks, connector, weights of the product) is that of
keras_taps, `tau_ratio < 1` makes SABR of IBP and STAPS of TAPS;
tests/benchmarks/test_eager_torch.py compares losses and gradients.
"""

import torch
from torch import nn
from torch.nn import functional as F

_NARROW = 1e-5  # boxes narrower than this have no direction


def cnn3(width=16, input_shape=(1, 28, 28), num_classes=10):
    """CNN3, without batch normalisation; arguments as `cnn7`."""
    plan = ((width, 5, 2, 2), (2 * width, 4, 2, 1))
    layers, features = convolutions(plan, input_shape, batch_norm=False)
    return nn.Sequential(*layers, nn.Linear(features, num_classes))


def cnn7(width=64, input_shape=(1, 28, 28), num_classes=10, last_stride=1):
    """CNN7 with batch normalisation, as a flat `nn.Sequential`.

    Args:
        width: Filters of the first convolution.
        input_shape: `(channels, height, width)`, a square image.
        num_classes: Number of logits.
        last_stride: Stride of the fifth convolution.
    """
    strides = ((1, 1), (1, 1), (2, 2), (2, 1), (2, last_stride))
    plan = [(times * width, 3, stride, 1) for times, stride in strides]
    layers, features = convolutions(plan, input_shape, batch_norm=True)
    layers += [nn.Linear(features, 8 * width), nn.BatchNorm1d(8 * width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(8 * width, num_classes))


def convolutions(plan, input_shape, batch_norm):
    """Layers up to the Flatten, and the number of features after it.

    Args:
        plan: `(filters, kernel, stride, padding)` of each convolution.
        input_shape: `(channels, size, size)`.
        batch_norm: Whether batch normalisation follows each convolution.
    """
    channels, size, _ = input_shape
    layers = []
    for filters, kernel, stride, padding in plan:
        layers.append(nn.Conv2d(channels, filters, kernel, stride, padding))
        layers += [nn.BatchNorm2d(filters)] * batch_norm + [nn.ReLU()]
        channels, size = filters, (size + 2 * padding - kernel) // stride + 1
    return [*layers, nn.Flatten()], channels * size**2


def split(network, classifier_relus):
    """Cut `network` after a ReLU, and a Flatten that follows, into two lists of layers."""
    layers = list(network)
    relus = [i for i, layer in enumerate(layers) if isinstance(layer, nn.ReLU)]
    cut = relus[-1 - classifier_relus] + 1
    cut += isinstance(layers[cut], nn.Flatten)
    return layers[:cut], layers[cut:]


def is_norm(layer):
    """Whether `layer` is batch normalisation."""
    return isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))


def clean_pass(network, x):
    """Run clean images; update the running averages and return `{layer: (mean, variance)}`."""
    statistics = {}
    for layer in network:
        if is_norm(layer):
            axes = [axis for axis in range(x.dim()) if axis != 1]
            statistics[layer] = x.mean(axes), x.var(axes, unbiased=False)
        x = layer(x)
    return statistics


def scale_and_offset(layer, statistics, dimensions):
    """Batch normalisation as `scale * x + offset`, shaped to broadcast along the channels."""
    mean, variance = statistics[layer]
    scale = layer.weight / torch.sqrt(variance + layer.eps)
    shape = (1, -1) + (1,) * (dimensions - 2)
    return scale.view(shape), (layer.bias - mean * scale).view(shape)


def run_points(layers, x, statistics):
    """Run a list of layers on points."""
    for layer in layers:
        if is_norm(layer):
            scale, offset = scale_and_offset(layer, statistics, x.dim())
            x = x * scale + offset
        else:
            x = layer(x)
    return x


def run_box(layers, box, statistics):
    """Run a list of layers on a box `(centre, radius)`."""
    centre, radius = box
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            place = {"stride": layer.stride, "padding": layer.padding}
            centre = F.conv2d(centre, layer.weight, layer.bias, **place)
            radius = F.conv2d(radius, layer.weight.abs(), **place)
        elif isinstance(layer, nn.Linear):
            centre = F.linear(centre, layer.weight, layer.bias)
            radius = F.linear(radius, layer.weight.abs())
        elif is_norm(layer):
            scale, offset = scale_and_offset(layer, statistics, centre.dim())
            centre, radius = centre * scale + offset, radius * scale.abs()
        elif isinstance(layer, nn.ReLU):
            lower, upper = F.relu(centre - radius), F.relu(centre + radius)
            centre, radius = (upper + lower) / 2, (upper - lower) / 2
        else:
            centre, radius = layer(centre), layer(radius)
    return centre, radius


def difference_matrix(labels, num_classes):
    """Tensor `(batch, K - 1, K)` that turns logits into the margins of the wrong classes."""
    eye = torch.eye(num_classes, device=labels.device)
    pairs = eye[None] - eye[labels][:, None]
    wrong = torch.arange(num_classes, device=labels.device)[None] != labels[:, None]
    return pairs[wrong].view(len(labels), num_classes - 1, num_classes)


def box_margins(layers, box, statistics, differences):
    """Upper bounds `(batch, K - 1)` of the margins, the last layer merged with `differences`."""
    *body, last = layers
    centre, radius = run_box(body, box, statistics)
    rows = torch.matmul(differences, last.weight)
    bias = torch.matmul(differences, last.bias)
    upper = torch.bmm(rows, centre[..., None]) + torch.bmm(rows.abs(), radius[..., None])
    return upper[..., 0] + bias


def point_margins(layers, points, statistics, differences):
    """Margins `(batch, K - 1)`: that of the i-th wrong class at the i-th point of the sample."""
    logits = run_points(layers, points.flatten(0, 1), statistics)
    count = points.shape[1]
    # As the public codes have it: a copy of the matrix for each point, most products unused.
    matrices = differences[:, None].expand(-1, count, -1, -1).flatten(0, 1)
    margins = torch.bmm(matrices, logits[..., None]).view(-1, count, differences.shape[1])
    return margins.diagonal(dim1=1, dim2=2)


def cross_entropy(margins):
    """Mean over the batch of `ln(1 + sum_i exp(margin_i))`."""
    return torch.logsumexp(F.pad(margins, (1, 0)), dim=-1).mean()


def step_sizes(steps):
    """Sizes of the latent attack's steps, relative to the width of the box; `steps` <= 50."""
    size = min(1.0, max(0.2, 2 / max(1, steps)))
    decay = round(0.7 * steps) if steps >= 20 else steps
    return [size * (0.1 if step >= decay else 1.0) for step in range(steps)]


def ascend(objective, points, lower, width, sizes):
    """PGD that keeps the best of all points evaluated.

    `backward()` leaves gradients in the weights too; the caller clears them.

    Args:
        objective: Maps points `(batch, n, ...)` to values `(batch, n)`.
        points: The starts.
        lower: Lower bounds `(batch, 1, ...)`.
        width: Widths of the same shape.
        sizes: Step sizes relative to the width.
    """
    best, best_values = points, torch.full(points.shape[:2], -torch.inf, device=points.device)
    for size in [*sizes, None]:
        points = points.detach().requires_grad_(True)
        values = objective(points)
        better = (values > best_values).view(*values.shape, *[1] * (points.dim() - 2))
        best = torch.where(better, points.detach(), best)
        best_values = torch.maximum(values.detach(), best_values)
        if size is not None:
            values.sum().backward()
            points = points.detach() + size * width * points.grad.sign()
            points = torch.minimum(torch.maximum(points, lower), lower + width)
    return best


def frozen(statistics):
    """Statistics without gradient, for attacks."""
    return {layer: (mean.detach(), var.detach()) for layer, (mean, var) in statistics.items()}


def latent_attack(layers, box, statistics, differences, steps):
    """One point for each wrong class, `(batch, K - 1, ...)`, which maximises its margin."""
    centre, radius = (bound.detach()[:, None] for bound in box)
    lower, width = centre - radius, 2 * radius
    statistics = frozen(statistics)
    count = differences.shape[1]
    noise = torch.rand(len(lower), count, *lower.shape[2:], device=lower.device)

    def objective(points):
        return point_margins(layers, points, statistics, differences)

    return ascend(objective, lower + noise * width, lower, width, step_sizes(steps))


def image_attack(network, box, labels, statistics, steps=10):
    """Images `(batch, ...)` that maximise the cross-entropy, by steps of 0.2 radii."""
    centre, radius = (bound[:, None] for bound in box)
    lower, width = centre - radius, 2 * radius
    statistics = frozen(statistics)
    start = lower + (0.25 + 0.5 * torch.rand_like(lower)) * width

    def objective(points):
        logits = run_points(network, points[:, 0], statistics)
        return F.cross_entropy(logits, labels, reduction="none")[:, None]

    return ascend(objective, start, lower, width, [0.1] * steps)[:, 0]


def small_box(box, images, tau_ratio):
    """Centre and radius of the box of `tau_ratio` times the width nearest to `images`."""
    centre, radius = box
    slack = (1 - tau_ratio) * radius
    return torch.minimum(torch.maximum(images, centre - slack), centre + slack), tau_ratio * radius


class Connector(torch.autograd.Function):
    """The rectified linear gradient connector: points forward, their gradient to the bounds."""

    @staticmethod
    def forward(ctx, points, lower, upper, c):
        """Return the points and remember where in their boxes they lie."""
        ctx.save_for_backward(points, lower, upper)
        ctx.c = c
        return points.clone()

    @staticmethod
    def backward(ctx, upstream):
        """Split the gradient of each point between lower and upper bound; sum over points."""
        points, lower, upper = ctx.saved_tensors
        lower, upper = lower[:, None], upper[:, None]
        width = upper - lower
        reach = (ctx.c * width).clamp(min=1e-30)
        down = []
        for gap in (points - lower, upper - points):
            weight = torch.where(width <= _NARROW, 0.5, (1 - gap / reach).clamp(min=0))
            down.append((upstream * weight).sum(1))
        return None, *down, None


def input_box(x, eps):
    """Centre and radius of the box of images within `eps` of `x` and within [0, 1]."""
    lower, upper = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    return (upper + lower) / 2, (upper - lower) / 2


def region(network, x, labels, eps, statistics, tau_ratio, images):
    """The box that is propagated: the whole one, or a small one around attacked images.

    Args:
        network: From `cnn3` or `cnn7`.
        x: Tensor `(batch, channels, height, width)` in [0, 1].
        labels: Integer tensor `(batch,)`.
        eps: Radius in pixel units.
        statistics: From `clean_pass`.
        tau_ratio: Width of the box relative to the whole, 1 for the whole.
        images: Images to use in place of an attack.
    """
    box = input_box(x, eps)
    if tau_ratio == 1:
        return box
    if images is None:
        images = image_attack(network, box, labels, statistics)
        network.zero_grad()
    return small_box(box, images, tau_ratio)


def ibp_loss(network, x, labels, eps, tau_ratio=1.0, images=None):
    """IBP loss, with `tau_ratio < 1` SABR loss, of a batch after annealing; see `region`."""
    statistics = clean_pass(network, x)
    differences = difference_matrix(labels, network[-1].out_features)
    box = region(network, x, labels, eps, statistics, tau_ratio, images)
    return cross_entropy(box_margins(list(network), box, statistics, differences))


def taps_loss(
    network,
    x,
    labels,
    eps,
    classifier_relus=1,
    steps=8,
    w_taps=5.0,
    c=0.5,
    points=None,
    tau_ratio=1.0,
    images=None,
):
    """TAPS or STAPS loss of a batch after annealing, with the gradient of the weighted product.

    Arguments not listed are as in `region`; `tau_ratio` below 1 makes it STAPS.

    Args:
        classifier_relus: ReLUs after the split.
        steps: Steps of the latent attack.
        w_taps: Weight of the TAPS gradient against the IBP gradient.
        c: Connector parameter in (0, 1].
        points: Latent points to use in place of an attack.
    """
    statistics = clean_pass(network, x)
    differences = difference_matrix(labels, network[-1].out_features)
    extractor, classifier = split(network, classifier_relus)
    box = region(network, x, labels, eps, statistics, tau_ratio, images)
    centre, radius = run_box(extractor, box, statistics)
    ibp = cross_entropy(box_margins(classifier, (centre, radius), statistics, differences))
    if points is None:
        points = latent_attack(classifier, (centre, radius), statistics, differences, steps)
        network.zero_grad()
    points = Connector.apply(points, centre - radius, centre + radius, c)
    taps = cross_entropy(point_margins(classifier, points, statistics, differences))
    share = w_taps / (1 + w_taps)
    weighted = 2 * share * ibp.detach() * taps + (2 - 2 * share) * taps.detach() * ibp
    return weighted + (taps * ibp - weighted).detach()  # value of the product


def adam(network):
    """The optimiser of the field's recipes."""
    return torch.optim.Adam(network.parameters(), lr=5e-4, eps=1e-8)


def training_step(network, optimizer, loss, *batch, **options):
    """One step: `loss(network, *batch, **options)`, gradient, clipping, update; returns a float."""
    optimizer.zero_grad()
    value = loss(network, *batch, **options)
    value.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimizer.step()
    return value.item()
