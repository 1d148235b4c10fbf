"""What PyTorch offers; `keras_taps.backend` says what each function does."""

from types import MethodType

import keras
import torch
from keras import ops
from torch.optim.adam import adam as adam_kernel

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


def convolution(x, kernel, strides, padding, data_format, dilation_rate, bias):
    if data_format != "channels_last" or padding == "same":
        return None
    x = _tensor(x)
    first = x.permute(0, 3, 1, 2)
    if x.shape[-1] == 1:  # both orders at once, of which PyTorch must not choose
        first = x.reshape(-1, 1, *x.shape[1:3])
    pads = (0, 0)
    if padding != "valid":
        (top, bottom), (left, right) = padding
        pads = top, left
        if (top, left) != (bottom, right):
            first, pads = torch.nn.functional.pad(first, (left, right, top, bottom)), (0, 0)
    y = torch.nn.functional.conv2d(
        first,
        kernel.permute(3, 2, 0, 1),
        None if bias is None else _tensor(bias),
        strides,
        pads,
        dilation_rate,
        x.shape[-1] // kernel.shape[2],
    )
    return y.permute(0, 2, 3, 1)


class _Normalization(torch.autograd.Function):
    """PyTorch's batch normalisation, with moments through which gradients flow too."""

    @staticmethod
    def forward(ctx, x, gamma, beta, epsilon):
        """Return the normalised images and their moments."""
        y, mean, scale = torch.native_batch_norm(x, gamma, beta, None, None, True, 0.0, epsilon)
        ctx.save_for_backward(x, gamma, mean, scale)
        ctx.epsilon, ctx.wanted = epsilon, [True, gamma is not None, beta is not None]
        return y, mean, (scale**-2 - epsilon).clamp_(min=0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream, of_mean, of_variance):
        """Add to PyTorch's gradient what comes back through the moments."""
        x, gamma, mean, scale = ctx.saved_tensors
        back = torch.ops.aten.native_batch_norm_backward
        gradients = back(
            *(upstream, x, gamma, None, None, mean, scale, True), ctx.epsilon, ctx.wanted
        )
        shape = (-1, *[1] * (x.dim() - 2))
        slope = of_variance * (2 * x.shape[1] / x.numel())
        constant = of_mean * (x.shape[1] / x.numel()) - slope * mean
        moments = torch.addcmul(constant.view(shape), x, slope.view(shape))
        return gradients[0].add_(moments), *gradients[1:], None


def normalize(x, axis, gamma, beta, epsilon):
    parts = [None if part is None else _tensor(part) for part in (gamma, beta)]
    y, mean, variance = _Normalization.apply(x.movedim(axis, 1), *parts, epsilon)
    return y.movedim(1, axis), mean, variance


def move_average(average, value, momentum):
    average.assign(torch.lerp(average.value, value.detach(), 1.0 - momentum))


def _tensor(x):
    """The tensor of a Keras variable, or `x` itself where it is a tensor that Keras would keep."""
    return x if type(x) is torch.Tensor else ops.convert_to_tensor(x)


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


def on_host():
    return keras.device("cpu")


def hasten(optimizer):
    kind = type(optimizer)
    if kind._clip_gradients is keras.Optimizer._clip_gradients:
        optimizer._clip_gradients = MethodType(_clip_gradients, optimizer)
    adam = keras.optimizers.Adam
    known = type(adam.__new__(adam))._parallel_update_step  # of what Keras makes on PyTorch
    if getattr(kind, "_parallel_update_step", None) is known and not optimizer.amsgrad:
        optimizer._parallel_update_step = MethodType(_adam_step, optimizer)


def _clip_gradients(optimizer, gradients):
    """What Keras does with gradients before an update; NaN and infinite norms make all NaN."""
    limit = optimizer.global_clipnorm
    if optimizer.clipnorm or not limit or any(g is None for g in gradients):
        return type(optimizer)._clip_gradients(optimizer, gradients)
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return torch._foreach_mul(gradients, limit / norm.clamp(min=limit) + (norm - norm))


def _adam_step(optimizer, gradients, variables, learning_rate):
    """Keras' step of Adam by PyTorch's kernel, which reads and writes each weight once.

    Keras adds epsilon before, PyTorch after the correction of the second moment. On an accelerator
    the number of the step would have to be waited for.
    """
    values = [variable.value for variable in variables]
    if any(v.device.type != "cpu" or not v.is_contiguous() for v in values):
        kind = type(optimizer)
        kind._parallel_update_step(optimizer, gradients, variables, learning_rate)
        return
    done = int(optimizer.iterations)
    places = [optimizer._get_variable_index(variable) for variable in variables]
    adam_kernel(
        values,
        [gradient.contiguous() for gradient in gradients],
        [optimizer._momentums[place].value for place in places],
        [optimizer._velocities[place].value for place in places],
        [],
        [torch.tensor(float(done)) for _ in values],
        fused=True,
        amsgrad=False,
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        lr=float(learning_rate),
        weight_decay=0.0,
        eps=optimizer.epsilon / (1.0 - optimizer.beta_2 ** (done + 1)) ** 0.5,
        maximize=False,
    )


def auto_jit_compile():
    return "auto"
