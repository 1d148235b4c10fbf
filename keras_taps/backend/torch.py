"""What PyTorch offers; `keras_taps.backend` says what each function does."""

import torch
from keras import ops

COMPILES = False
REPEATS_BORDERS = True  # in `keras.ops.average_pool`


def input_gradient(function, x):
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        values = function(x)
        if not values.requires_grad:
            return values, torch.zeros_like(x)
        (gradient,) = torch.autograd.grad(values.sum(), x, materialize_grads=True)
    return values.detach(), gradient


def ascend(points, gradient, step, lower, upper):
    # torch.sign is 0 at NaN.
    return torch.clamp(torch.addcmul(points, step, torch.sign(gradient)), lower, upper)


def convolution(x, kernel, strides, padding, data_format, dilation_rate):
    if data_format != "channels_last" or padding != "valid":
        return None
    x = ops.convert_to_tensor(x)
    first = x.permute(0, 3, 1, 2)
    if x.shape[-1] == 1:  # both orders at once, of which PyTorch must not choose
        first = x.reshape(-1, 1, *x.shape[1:3])
    y = torch.nn.functional.conv2d(
        first,
        kernel.permute(3, 2, 0, 1),
        stride=strides,
        dilation=dilation_rate,
        groups=x.shape[-1] // kernel.shape[2],
    )
    return y.permute(0, 2, 3, 1)


def transposed(function, x, rows):
    outer = torch.is_grad_enabled()
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        (result,) = torch.autograd.grad(function(x), x, rows, create_graph=outer)
    return result


def recomputed(function, *tensors):
    return torch.utils.checkpoint.checkpoint(function, *tensors, use_reentrant=False)


def uniform(shape, seed, dtype):
    generator = torch.Generator(device=seed.device)
    generator.manual_seed(int(seed[0]) * 1_000_003 + int(seed[1]))
    return torch.rand(tuple(shape), generator=generator, device=seed.device)


def compiled(function, variables):
    def no_grad(*tensors):
        with torch.no_grad():
            return function(*tensors)

    return no_grad


def replicas():
    return None


def auto_jit_compile():
    return "auto"
