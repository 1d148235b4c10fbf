"""The eager PyTorch step that keras_taps is measured against computes the same thing."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_taps as kt
from keras_taps.attacks.pgd import step_sizes

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import eager_torch  # noqa: E402

pytestmark = pytest.mark.once  # that backends agree is tested elsewhere

EPS = 1e-3  # batch normalisation of tiny batches widens boxes much: this keeps losses small
BATCH, SIDE, WIDTH = 32, 8, 2


@dataclass(frozen=True)
class Case:
    """A small network: how it is built, and the side of the images that enter its Flatten."""

    name: str
    flat_side: int
    channels: int = 1
    classes: int = 10
    options: dict = field(default_factory=dict)

    def __str__(self):
        return f"{self.name}-{self.channels}x{self.classes}"


CNN3 = Case("cnn3", 2)
CNN7 = Case("cnn7", 4)
STRIDED = Case("cnn7", 2, channels=3, options={"last_stride": 2})  # TinyImageNet's
MANY_CLASSES = Case("cnn7", 4, classes=200)


def channels_first(array):
    """Move the channels of images, latent points or kernels from last place to first."""
    return np.moveaxis(array, -1, -3)


def flat_channels_first(array, axis, side):
    """Reorder features that were flattened channels last as PyTorch flattens them."""
    shape = array.shape
    split = array.reshape(*shape[:axis], side, side, -1, *shape[axis + 1 :])
    return np.moveaxis(split, axis + 2, axis).reshape(shape)


def flat_channels_last(array, side):
    """The inverse of `flat_channels_first` along the last axis."""
    split = array.reshape(*array.shape[:-1], -1, side, side)
    return np.moveaxis(split, -3, -1).reshape(array.shape)


def kernels_and_vectors(network, arrays, side):
    """Weights of keras_taps in PyTorch's layout, in the order of `torch_parameters`.

    Args:
        network: Network of keras_taps.
        arrays: `{variable path: array}`, values or gradients.
        side: `flat_side` of its case.
    """
    found, flattened = [], False
    for layer in network.layers:
        for variable in layer.trainable_variables:
            array = arrays[variable.path]
            if array.ndim == 4:
                array = np.transpose(array, (3, 2, 0, 1))
            elif array.ndim == 2:
                array = (array if flattened else flat_channels_first(array, 0, side)).T
                flattened = True
            found.append(array)
    return found


def build_pair(case):
    """Networks of keras_taps and of eager PyTorch with the same random weights."""
    keras.utils.set_random_seed(0)
    shape = (SIDE, SIDE, case.channels)
    build = getattr(kt.networks, case.name)
    network = build(shape, case.classes, width=WIDTH, **case.options)
    random = np.random.default_rng(0)
    for layer in network.layers:
        if hasattr(layer, "gamma"):
            layer.gamma.assign(random.choice([-1, 1], layer.gamma.shape))
            layer.beta.assign(random.uniform(-1, 1, layer.beta.shape))
    # Only the last bias: in front of batch normalisation one costs Keras digits of the variance.
    network.layers[-1].bias.assign(random.uniform(-1, 1, case.classes))
    build = getattr(eager_torch, case.name)
    eager = build(WIDTH, (case.channels, SIDE, SIDE), case.classes, **case.options)
    values = {v.path: ops.convert_to_numpy(v.value) for v in network.trainable_variables}
    arrays = kernels_and_vectors(network, values, case.flat_side)
    with torch.no_grad():
        for parameter, array in zip(eager.parameters(), arrays, strict=True):
            parameter.copy_(torch.tensor(np.array(array)))
    return network, eager


def make_batch(case):
    """Images, mostly black so that Keras' one-pass variance keeps its digits, and labels."""
    random = np.random.default_rng(1)
    images = random.uniform(size=(BATCH, SIDE, SIDE, case.channels))
    images = (images * (random.random(images.shape) < 0.2)).astype("float32")
    return images, random.integers(0, case.classes, BATCH).astype("int32")


def as_torch(x, y):
    """A batch of keras_taps in PyTorch's layout."""
    return torch.tensor(channels_first(x).copy()), torch.tensor(y).long()


def step_by_sgd(model, x, y, case):
    """Loss and, from one step of plain gradient descent, the gradients in PyTorch's layout."""
    variables = model.network.trainable_variables
    before = {v.path: ops.convert_to_numpy(v.value).copy() for v in variables}
    model.compile(keras.optimizers.SGD(1.0))
    loss = model.train_on_batch(x, y, return_dict=True)["loss"]
    gradients = {v.path: before[v.path] - ops.convert_to_numpy(v.value) for v in variables}
    return float(loss), kernels_and_vectors(model.network, gradients, case.flat_side)


def step_by_torch(loss, eager, x, y, **options):
    """Loss and gradients of the eager step."""
    value = loss(eager, *as_torch(x, y), EPS, **options)
    value.backward()
    return value.item(), [parameter.grad.numpy() for parameter in eager.parameters()]


def assert_same(ours, theirs):
    """Losses agree to 1e-4, gradients to 1e-3 of the norm of the whole gradient.

    Rounding reaches 1e-4 in the gradients of CNN7, more where a unit lies at its kink.
    """
    assert ours[0] == pytest.approx(theirs[0], rel=1e-4)
    norm = np.sqrt(sum(np.sum(array**2) for array in theirs[1]))
    for a, b in zip(ours[1], theirs[1], strict=True):
        assert a.shape == b.shape
        assert np.linalg.norm(a - b) <= 1e-3 * norm


def attacked(model_class, images=None, points=None):
    """`model_class` with given arrays in place of what its attacks find."""

    class Attacked(model_class):
        def adversarial_images(self, *args, **kwargs):
            return ops.convert_to_tensor(images)

        def latent_attack(self, *args, **kwargs):
            return ops.convert_to_tensor(points)

    return Attacked


def images_near(x):
    """Images `(batch, height, width, channels)` in the whole box around `x`."""
    noise = np.random.default_rng(2).uniform(-EPS, EPS, x.shape)
    return np.clip(x + noise, 0, 1).astype("float32")


def latent_points(eager, x, y, classifier_relus, **region):
    """Random points `(batch, K - 1, ...)` in the latent box, in PyTorch's layout."""
    images, labels = as_torch(x, y)
    extractor, _ = eager_torch.split(eager, classifier_relus)
    with torch.no_grad():
        statistics = eager_torch.clean_pass(eager, images)
        box = eager_torch.region(eager, images, labels, EPS, statistics, **region)
        centre, radius = eager_torch.run_box(extractor, box, statistics)
        shape = (BATCH, eager[-1].out_features - 1, *centre.shape[1:])
        place = 2 * torch.rand(shape, generator=torch.Generator().manual_seed(3)) - 1
        return centre[:, None] + place * radius[:, None]


def channels_last(points, case):
    """Latent points in the layout of keras_taps."""
    array = points.numpy()
    return (
        np.moveaxis(array, 2, -1) if array.ndim == 5 else flat_channels_last(array, case.flat_side)
    )


@pytest.mark.parametrize("case", [CNN3, STRIDED], ids=str)
def test_ibp_loss_and_gradients(case):
    network, eager = build_pair(case)
    batch = make_batch(case)
    ours = step_by_sgd(kt.IBPModel(network, eps=EPS), *batch, case)
    assert_same(ours, step_by_torch(eager_torch.ibp_loss, eager, *batch))


def test_sabr_loss_and_gradients_at_given_images():
    case = CNN3
    network, eager = build_pair(case)
    x, y = make_batch(case)
    images = images_near(x)
    model = attacked(kt.SABRModel, images)(network, eps=EPS, tau_ratio=0.4)
    ours = step_by_sgd(model, x, y, case)
    region = {"tau_ratio": 0.4, "images": as_torch(images, y)[0]}
    assert_same(ours, step_by_torch(eager_torch.ibp_loss, eager, x, y, **region))


@pytest.mark.parametrize(
    ("case", "classifier_relus"),
    [(CNN3, 1), (CNN7, 3), (STRIDED, 1), pytest.param(MANY_CLASSES, 1, marks=pytest.mark.once)],
    ids=str,
)
def test_taps_loss_and_gradients_at_given_points(case, classifier_relus):
    network, eager = build_pair(case)
    x, y = make_batch(case)
    points = latent_points(eager, x, y, classifier_relus, tau_ratio=1, images=None)
    kind = attacked(kt.TAPSModel, points=channels_last(points, case))
    model = kind(network, eps=EPS, classifier_relus=classifier_relus)
    ours = step_by_sgd(model, x, y, case)
    options = {"classifier_relus": classifier_relus, "points": points}
    assert_same(ours, step_by_torch(eager_torch.taps_loss, eager, x, y, **options))


def test_staps_loss_and_gradients_at_given_images_and_points():
    case, classifier_relus = CNN7, 3
    network, eager = build_pair(case)
    x, y = make_batch(case)
    images = images_near(x)
    region = {"tau_ratio": 0.4, "images": as_torch(images, y)[0]}
    points = latent_points(eager, x, y, classifier_relus, **region)
    kind = attacked(kt.STAPSModel, images, channels_last(points, case))
    model = kind(network, eps=EPS, classifier_relus=classifier_relus, tau_ratio=0.4)
    ours = step_by_sgd(model, x, y, case)
    options = {"classifier_relus": classifier_relus, "points": points, **region}
    assert_same(ours, step_by_torch(eager_torch.taps_loss, eager, x, y, **options))


@pytest.mark.parametrize("steps", [0, 1, 8, 19, 20, 50])
def test_step_sizes(steps):
    assert eager_torch.step_sizes(steps) == pytest.approx(step_sizes(steps))


def test_latent_attack_stays_in_the_box_and_does_not_lose_to_its_start():
    _, eager = build_pair(CNN7)
    images, labels = as_torch(*make_batch(CNN7))
    statistics = eager_torch.clean_pass(eager, images)
    differences = eager_torch.difference_matrix(labels, CNN7.classes)
    extractor, classifier = eager_torch.split(eager, 1)
    box = eager_torch.run_box(extractor, eager_torch.input_box(images, EPS), statistics)
    found = []
    for steps in (0, 8):
        torch.manual_seed(0)
        points = eager_torch.latent_attack(classifier, box, statistics, differences, steps)
        centre, radius = (bound[:, None] for bound in box)
        assert ((points - centre).abs() <= radius + 1e-6).all()
        found.append(eager_torch.point_margins(classifier, points, statistics, differences))
    assert (found[1] >= found[0] - 1e-6).all()
    assert (found[1] > found[0]).any()


def test_image_attack_stays_in_the_box_and_does_not_lose_to_its_start():
    _, eager = build_pair(CNN3)
    images, labels = as_torch(*make_batch(CNN3))
    box = eager_torch.input_box(images, 0.1)
    losses = []
    for steps in (0, 10):
        torch.manual_seed(0)
        found = eager_torch.image_attack(eager, box, labels, {}, steps)
        assert ((found - box[0]).abs() <= box[1] + 1e-6).all()
        losses.append(torch.nn.functional.cross_entropy(eager(found), labels, reduction="none"))
    assert (losses[1] >= losses[0] - 1e-6).all()
    assert (losses[1] > losses[0]).any()


def test_attacks_compute_weight_gradients_and_leave_none():
    _, eager = build_pair(CNN3)
    images, labels = as_torch(*make_batch(CNN3))
    eager_torch.image_attack(eager, eager_torch.input_box(images, EPS), labels, {}, 1)
    assert all(parameter.grad is not None for parameter in eager.parameters())
    eager.zero_grad()
    eager_torch.taps_loss(eager, images, labels, EPS, steps=1, tau_ratio=0.4)
    assert all(parameter.grad is None for parameter in eager.parameters())


@pytest.mark.parametrize("tau_ratio", [1.0, 0.4])
def test_training_lowers_the_loss(tau_ratio):
    _, eager = build_pair(CNN7)
    batch = *as_torch(*make_batch(CNN7)), 0.01
    optimizer = eager_torch.adam(eager)
    options = {"steps": 2, "tau_ratio": tau_ratio}
    losses = [
        eager_torch.training_step(eager, optimizer, eager_torch.taps_loss, *batch, **options)
        for _ in range(20)
    ]
    assert losses[-1] < losses[0]
