"""Seconds of a convolution or matrix product alone, by the primitives of each library.

Each library gives `{pass: [function, ...]}`, alternatives of which the fastest counts.
"""

import time


def torch_calls(product, dtype="float32"):
    """Functions without arguments, and one that waits until the device is done."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"

    def tensor(*shape):
        return torch.randn(*shape, device=device).to(getattr(torch, dtype))

    x, w = tensor(product.batch, *product.inputs), tensor(*product.weights)
    g = tensor(product.batch, *product.outputs)
    if product.is_convolution:
        calls = {"forward": [], "input": [], "weight": []}
        for form in (torch.contiguous_format, torch.channels_last):
            a, b, c = (t.contiguous(memory_format=form) for t in (x, w, g))
            place = [product.stride] * 2, [product.padding] * 2, [1, 1]

            def gradient(mask, a=a, b=b, c=c, place=place):
                back = torch.ops.aten.convolution_backward
                return back(c, a, b, None, *place, False, [0, 0], 1, mask)

            calls["forward"].append(
                lambda a=a, b=b, place=place: torch.nn.functional.conv2d(a, b, None, *place)
            )
            calls["input"].append(lambda gradient=gradient: gradient([True, False, False]))
            calls["weight"].append(lambda gradient=gradient: gradient([False, True, False]))
    else:
        calls = {
            "forward": [lambda: x @ w.T],
            "input": [lambda: g @ w],
            "weight": [lambda: g.T @ x],
        }
    return calls, (lambda _: torch.cuda.synchronize()) if device == "cuda" else (lambda _: None)


def _channels_last(product):
    """Shapes of inputs, padded beforehand, weights and outputs as TensorFlow and JAX have them."""
    if not product.is_convolution:
        (units, features), batch = product.weights, product.batch
        return (batch, features), (features, units), (batch, units)
    channels, height, width = product.inputs
    more = 2 * product.padding
    filters, _, *kernel = product.weights
    out = (product.batch, *product.outputs[1:], filters)
    return (product.batch, height + more, width + more, channels), (*kernel, channels, filters), out


def tensorflow_calls(product, dtype="float32"):
    """As `torch_calls`."""
    import tensorflow as tf

    shapes = _channels_last(product)
    x, w, g = (tf.cast(tf.random.normal(shape), dtype) for shape in shapes)
    if product.is_convolution:
        place = {"strides": [1, product.stride, product.stride, 1], "padding": "VALID"}
        raw = tf.raw_ops
        calls = {
            "forward": lambda: raw.Conv2D(input=x, filter=w, **place),
            "input": lambda: raw.Conv2DBackpropInput(
                input_sizes=shapes[0], filter=w, out_backprop=g, **place
            ),
            "weight": lambda: raw.Conv2DBackpropFilter(
                input=x, filter_sizes=shapes[1], out_backprop=g, **place
            ),
        }
    else:
        calls = {
            "forward": lambda: tf.matmul(x, w),
            "input": lambda: tf.matmul(g, w, transpose_b=True),
            "weight": lambda: tf.matmul(x, g, transpose_a=True),
        }
    return {name: [call] for name, call in calls.items()}, lambda result: None  # done on return


def jax_calls(product, dtype="float32"):
    """As `torch_calls`."""
    import jax

    key = jax.random.key(0)
    x, w, g = (jax.random.normal(key, shape, dtype) for shape in _channels_last(product))

    def forward(x, w):
        if not product.is_convolution:
            return x @ w
        strides, form = [product.stride] * 2, ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(x, w, strides, "VALID", dimension_numbers=form)

    compiled = {
        "forward": jax.jit(forward),
        "input": jax.jit(lambda w, g: jax.vjp(lambda x: forward(x, w), x)[1](g)),
        "weight": jax.jit(lambda x, g: jax.vjp(lambda w: forward(x, w), w)[1](g)),
    }
    factors = {"forward": (x, w), "input": (w, g), "weight": (x, g)}
    calls = {name: [lambda f=f, n=name: f(*factors[n])] for name, f in compiled.items()}
    return calls, jax.block_until_ready


LIBRARIES = {"torch": torch_calls, "tensorflow": tensorflow_calls, "jax": jax_calls}


def seconds(call, wait, budget=0.05):
    """Seconds of one call, the mean over as many as fit into a budget."""
    wait(call())  # finds caches, thread pools and compilers cold
    start = time.perf_counter()
    wait(call())
    once = time.perf_counter() - start
    count = int(min(200, budget / once))
    if count < 2:
        return once
    start = time.perf_counter()
    for _ in range(count):
        result = call()
    wait(result)  # once: a GPU overlaps the calls, as it does within a step
    return (time.perf_counter() - start) / count


def fastest(library, product, direction, dtype="float32"):
    """Seconds of the fastest way in which a library computes one pass of a product."""
    calls, wait = LIBRARIES[library](product, dtype)
    return min(seconds(call, wait) for call in calls[direction])
