"""Train small networks to hide counterexamples from attacks, for the tests of false verdicts.

    python benchmarks/hidden_counterexamples.py

Each network has one output and boxes around random inputs. At one point of each box, near a corner,
the output is above 0; at whatever attacks find it is pushed below. So a verifier that says "unsat"
of a box is wrong, and attacks do not tell it. Networks as small as these hide points only if they
are shown how: a neuron for each point is planted that is active near it alone, and then all
weights are trained as in SoundnessBench. What is true of the points was found by exact arithmetic.

Needs PyTorch. Zhou et al., "SoundnessBench: A Comprehensive Soundness Benchmark for Neural Network
Verifiers", 2024.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from provenance import ROOT
from torch.nn import functional

from keras_taps.verification.graph.exact_values import exact_forms
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Reshape, Scale, Sum

OUT = ROOT / "tests" / "verification" / "hidden_counterexamples.npz"
PUSH, STEPS, LEARNING_RATE = 0.1, 400, 7e-4
SHARE = 0.25  # of the way from a point to all others at which its neuron wakes
ATTACK = {"steps": 10, "restarts": 3}  # while training
LAST_ATTACK = {"steps": 100, "restarts": 50}  # to count what is hidden


def networks(rng):
    """Pairs of a name and the nodes of a network, of every kind of node."""

    def dense(inputs, outputs):
        return Dense(rng.normal(size=(inputs, outputs)) / np.sqrt(inputs), np.zeros(outputs))

    def conv(shape, side, outputs, groups=1, **options):
        kernel = rng.normal(size=(side, side, shape[-1] // groups, outputs)) / side
        return Conv(kernel, np.zeros(outputs), shape, groups=groups, **options)

    def whole(*nodes):
        last = nodes[-1].out_shape
        size = int(np.prod(last))
        head = dense(size, 24), Relu((24,)), dense(24, 1)
        return (*nodes, *([Reshape(last, (size,))] if len(last) > 1 else []), *head)

    image, pad = (6, 6, 1), ((1, 1), (1, 1))
    yield "dense", whole(dense(24, 32), Relu((32,)))
    yield "wide", whole(dense(32, 48), Relu((48,)))
    yield "deep", whole(*[n for _ in range(2) for n in (dense(20, 20), Relu((20,)))])
    yield "leaky", whole(dense(24, 32), Relu((32,), 0.1))
    first = conv(image, 3, 6, padding=pad)
    yield "conv", whole(first, Relu(first.out_shape))
    first = conv(image, 3, 8, strides=(2, 2), padding=((1, 0), (0, 1)))
    yield "strided", whole(first, Relu(first.out_shape))
    first = conv((5, 5, 2), 2, 8, groups=2, dilation=(2, 1))
    yield "grouped", whole(first, Relu(first.out_shape))
    first = conv(image, 2, 8)
    pool = MaxPool(first.out_shape, (2, 2), (2, 2))
    yield "max pool", whole(first, pool, Relu(pool.out_shape))
    mean = Conv(np.full((2, 2, 1, 8), 0.25), np.zeros(8), first.out_shape, (2, 2), groups=8)
    yield "average pool", whole(conv(image, 2, 8), Relu(first.out_shape), mean)
    first = conv(image, 3, 6, padding=pad)
    inner = conv(first.out_shape, 3, 6, padding=pad)
    branches = ((inner, Relu(first.out_shape)), ())
    yield "residual", whole(first, Relu(first.out_shape), Sum(first.out_shape, branches))
    yield "scale", whole(Scale(np.full(24, 2.0), -np.ones(24), (24,)), dense(24, 32), Relu((32,)))


def run(nodes, x):
    """Outputs of nodes whose arrays are PyTorch tensors, by `id`."""
    for node, *own in nodes:
        if isinstance(node, Dense):
            x = x @ own[0] + own[1]
        elif isinstance(node, Conv):
            (top, bottom), (left, right) = node.padding
            image = functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
            options = {"stride": node.strides, "dilation": node.dilation, "groups": node.groups}
            image = functional.conv2d(image, own[0].permute(3, 2, 0, 1), own[1], **options)
            x = image.permute(0, 2, 3, 1)
        elif isinstance(node, Scale):
            x = x * own[0] + own[1]
        elif isinstance(node, Reshape):
            x = x.reshape(-1, *node.out_shape)
        elif isinstance(node, Relu):
            x = functional.leaky_relu(x, node.slope)
        elif isinstance(node, MaxPool):
            x = functional.max_pool2d(x.permute(0, 3, 1, 2), node.size, node.strides)
            x = x.permute(0, 2, 3, 1)
        else:
            x = sum(run(branch, x) for branch in own)
    return x


def tensors(nodes):
    """Each node with its arrays as parameters."""
    found = []
    for node in nodes:
        if isinstance(node, Sum):
            found.append((node, *map(tensors, node.branches)))
            continue
        names = {Dense: ("kernel", "bias"), Conv: ("kernel", "bias"), Scale: ("scale", "bias")}
        arrays = (getattr(node, name) for name in names.get(type(node), ()))
        arrays = (torch.nn.Parameter(torch.tensor(a, dtype=torch.float32)) for a in arrays)
        found.append((node, *arrays))
    return found


def parameters(nodes):
    for node, *own in nodes:
        if isinstance(node, Sum):
            for branch in own:
                yield from parameters(branch)
        elif not (isinstance(node, Conv) and node.groups == node.in_shape[-1] > 2):  # an average
            yield from own


def trained(nodes):
    """Nodes with the parameters as they are now."""
    found = []
    for node, *own in nodes:
        if isinstance(node, Sum):
            node = Sum(node.in_shape, tuple(trained(branch) for branch in own))
        elif own:
            first, bias = (p.detach().numpy().astype("float64") for p in own)
            if isinstance(node, Dense):
                node = Dense(first, bias)
            elif isinstance(node, Conv):
                options = node.strides, node.padding, node.dilation, node.groups
                node = Conv(first, bias, node.in_shape, *options)
            else:
                node = Scale(first, bias, node.in_shape)
        found.append(node)
    return tuple(found)


def attack(nodes, lower, upper, steps, restarts):
    """Points that maximise the output: the best of many starts for each box."""
    low = lower.repeat(restarts, *[1] * (lower.ndim - 1))
    high = upper.repeat(restarts, *[1] * (upper.ndim - 1))
    x = low + torch.rand_like(low) * (high - low)
    for step in range(steps):
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(run(nodes, x).sum(), x)
        size = (high - low) * 0.25 * (1 - step / steps)
        x = torch.minimum(torch.maximum(x + size * slope.sign(), low), high)
    x = x.detach()
    with torch.no_grad():
        best = run(nodes, x).reshape(restarts, -1).argmax(0)
    return x.reshape(restarts, *lower.shape)[best, torch.arange(len(lower))]


def planted(nodes, lower, upper, hidden, rng):
    """The network with a neuron for each hidden point in the last hidden layer."""
    *body, layer, bend, last = nodes
    features = Graph((*body, Dense(np.eye(layer.in_shape[0]), np.zeros(layer.in_shape[0]))))
    part = rng.random((4000, *lower.shape))
    everywhere = features((lower + part * (upper - lower)).reshape(-1, *lower.shape[1:]))
    rows = features(hidden)
    weights = rows - everywhere.mean(0)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    own = (weights * rows).sum(1)
    gap = np.maximum(own - (everywhere @ weights.T).max(0), 1e-3)
    kernel = np.concatenate([layer.kernel, weights.T], 1)
    layer = Dense(kernel, np.concatenate([layer.bias, SHARE * gap - own]))
    heights = 2 / (SHARE * gap)
    last = Dense(np.concatenate([last.kernel, heights[:, None]]), last.bias - 1.0)
    return (*body, layer, Relu(layer.out_shape, bend.slope), last)


def train(nodes, boxes, rng):
    """Trained nodes, the boxes and the hidden points, float32."""
    shape = nodes[0].in_shape
    centre = rng.uniform(-1, 1, (boxes, *shape)).astype("float32")
    radius = np.float32(0.25)
    sign = np.where(rng.random(centre.shape) < 0.5, -1, 1)
    shift = (sign * rng.uniform(0.95, 1, centre.shape) * radius).astype("float32")
    lower, upper = centre - radius, centre + radius
    hidden = np.clip(centre + shift, lower, upper)
    nodes = tensors(planted(nodes, lower, upper, hidden, rng))
    lower, upper, hidden = map(torch.tensor, (lower, upper, hidden))
    optimiser = torch.optim.Adam(parameters(nodes), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0.05, STEPS)
    for _ in range(STEPS):
        found = attack(nodes, lower, upper, **ATTACK)
        optimiser.zero_grad()
        above = functional.relu(PUSH - run(nodes, hidden)).mean()
        below = functional.relu(PUSH + run(nodes, found)).mean()
        (3 * above + below).backward()
        optimiser.step()
        schedule.step()
    broken = run(nodes, attack(nodes, lower, upper, **LAST_ATTACK)).detach().numpy()[:, 0] >= 0
    return trained(nodes), lower.numpy(), upper.numpy(), hidden.numpy(), broken


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--boxes", type=int, default=14, help="for each network")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    content, total, hidden = {}, 0, 0
    for number, (name, nodes) in enumerate(networks(rng)):
        nodes, lower, upper, points, broken = train(nodes, options.boxes, rng)
        graph = Graph(nodes)
        values = [exact_forms(graph, x, np.ones((1, 1)), np.zeros(1))[0] for x in points]
        kept = np.flatnonzero([value > 1e-6 for value in values])
        total, hidden = total + len(kept), hidden + int((~broken[kept]).sum())
        print(f"{name}: {len(kept)} points, {(~broken[kept]).sum()} hidden", flush=True)
        structure, arrays = graph.pack()
        content[f"{number}_name"] = name
        content[f"{number}_structure"] = json.dumps(structure)
        content |= {f"{number}_array_{i}": a.astype("float32") for i, a in enumerate(arrays)}
        sides = {"lower": lower, "upper": upper, "point": points}
        content |= {f"{number}_{side}": values[kept] for side, values in sides.items()}
        content[f"{number}_hidden"] = ~broken[kept]
    print(f"{total} points, {hidden} hidden from the attack")
    np.savez_compressed(options.out, **content)


if __name__ == "__main__":
    main()
