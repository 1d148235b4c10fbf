"""The eager PyTorch step that keras_taps is measured against computes the same thing."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_taps as kt

torch = pytest.importorskip("torch")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import eager_torch  # noqa: E402

EPS = 1e-3  # batch normalisation of tiny batches widens boxes much: this keeps losses small
BATCH, SIDE, CLASSES, WIDTH = 32, 8, 10, 2


def channels_first(array):
    """Move the channels of images, latent points or kernels from last place to first."""
    return np.moveaxis(array, -1, -3)


def flat_channels_first(array, axis):
    """Reorder features that were flattened channels last as PyTorch flattens them."""
    height = SIDE // 2
    shape = array.shape
    split = array.reshape(*shape[:axis], height, height, -1, *shape[axis + 1 :])
    return np.moveaxis(split, axis + 2, axis).reshape(shape)


def kernels_and_vectors(network, arrays):
    """Weights of keras_taps in PyTorch's layout, in the order of `torch_parameters`.

    Args:
        network: CNN7 of keras_taps.
        arrays: `{variable path: array}`, values or gradients.
    """
    found = []
    for layer in network.layers:
        for variable in layer.trainable_variables:
            array = arrays[variable.path]
            if array.ndim == 4:
                array = np.transpose(array, (3, 2, 0, 1))
            elif array.ndim == 2:
                wide = array.shape[0] == (SIDE // 2) ** 2 * 2 * WIDTH
                array = (flat_channels_first(array, 0) if wide else array).T
            found.append(array)
    return found


@pytest.fixture
def pair():
    """CNN7 of keras_taps and of eager PyTorch with the same random weights."""
    keras.utils.set_random_seed(0)
    network = kt.networks.cnn7((SIDE, SIDE, 1), CLASSES, width=WIDTH)
    random = np.random.default_rng(0)
    for layer in network.layers:
        if hasattr(layer, "gamma"):
            layer.gamma.assign(random.choice([-1, 1], layer.gamma.shape))
            layer.beta.assign(random.uniform(-1, 1, layer.beta.shape))
    # Only the last bias: in front of batch normalisation one costs Keras digits of the variance.
    network.layers[-1].bias.assign(random.uniform(-1, 1, CLASSES))
    eager = eager_torch.cnn7(WIDTH, (1, SIDE, SIDE), CLASSES)
    values = {v.path: ops.convert_to_numpy(v.value) for v in network.trainable_variables}
    arrays = kernels_and_vectors(network, values)
    with torch.no_grad():
        for parameter, array in zip(eager.parameters(), arrays, strict=True):
            parameter.copy_(torch.tensor(np.array(array)))
    return network, eager


@pytest.fixture
def batch():
    """Images, mostly black so that Keras' one-pass variance keeps its digits, and labels."""
    random = np.random.default_rng(1)
    images = random.uniform(size=(BATCH, SIDE, SIDE, 1))
    images = (images * (random.random(images.shape) < 0.2)).astype("float32")
    return images, random.integers(0, CLASSES, BATCH).astype("int32")


def step_by_sgd(model, x, y):
    """Loss and, from one step of plain gradient descent, the gradients in PyTorch's layout."""
    variables = model.network.trainable_variables
    before = {v.path: ops.convert_to_numpy(v.value).copy() for v in variables}
    model.compile(keras.optimizers.SGD(1.0))
    loss = model.train_on_batch(x, y, return_dict=True)["loss"]
    gradients = {v.path: before[v.path] - ops.convert_to_numpy(v.value) for v in variables}
    return float(loss), kernels_and_vectors(model.network, gradients)


def step_by_torch(loss, eager, x, y, **options):
    """Loss and gradients of the eager step."""
    images = torch.tensor(channels_first(x).copy())
    value = loss(eager, images, torch.tensor(y).long(), EPS, **options)
    value.backward()
    return value.item(), [parameter.grad.numpy() for parameter in eager.parameters()]


def assert_same(ours, theirs):
    """Losses agree to 1e-4, and so do gradients, relative to the norm of the whole gradient."""
    assert ours[0] == pytest.approx(theirs[0], rel=1e-4)
    norm = np.sqrt(sum(np.sum(array**2) for array in theirs[1]))
    for a, b in zip(ours[1], theirs[1], strict=True):
        assert a.shape == b.shape
        assert np.linalg.norm(a - b) <= 1e-4 * norm


def test_ibp_loss_and_gradients(pair, batch):
    network, eager = pair
    ours = step_by_sgd(kt.IBPModel(network, eps=EPS), *batch)
    assert_same(ours, step_by_torch(eager_torch.ibp_loss, eager, *batch))


@pytest.mark.parametrize("classifier_relus", [1, 3])
def test_taps_loss_and_gradients_at_given_points(pair, batch, classifier_relus):
    network, eager = pair
    x, y = batch
    images = torch.tensor(channels_first(x).copy())
    extractor, _ = eager_torch.split(eager, classifier_relus)
    with torch.no_grad():
        statistics = eager_torch.clean_pass(eager, images)
        box = eager_torch.input_box(images, EPS)
        centre, radius = eager_torch.run_box(extractor, box, statistics)
        place = 2 * torch.rand(BATCH, CLASSES - 1, *centre.shape[1:]) - 1
        points = centre[:, None] + place * radius[:, None]

    class GivenPoints(kt.TAPSModel):
        def latent_attack(self, *args, **kwargs):
            return ops.convert_to_tensor(last)

    last = points.numpy()
    if last.ndim == 5:
        last = np.moveaxis(last, 2, -1)
    else:  # the inverse of `flat_channels_first`
        side = SIDE // 2
        last = np.moveaxis(last.reshape(BATCH, CLASSES - 1, -1, side, side), 2, -1)
        last = last.reshape(BATCH, CLASSES - 1, -1)
    model = GivenPoints(network, eps=EPS, classifier_relus=classifier_relus)
    ours = step_by_sgd(model, x, y)
    options = {"classifier_relus": classifier_relus, "points": points}
    assert_same(ours, step_by_torch(eager_torch.taps_loss, eager, x, y, **options))


def test_attack_stays_in_the_box_and_does_not_lose_to_its_start(pair, batch):
    _, eager = pair
    x, y = batch
    images, labels = torch.tensor(channels_first(x).copy()), torch.tensor(y).long()
    statistics = eager_torch.clean_pass(eager, images)
    differences = eager_torch.difference_matrix(labels, CLASSES)
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


def test_training_lowers_the_loss(pair, batch):
    _, eager = pair
    x, y = batch
    images, labels = torch.tensor(channels_first(x).copy()), torch.tensor(y).long()
    optimizer = eager_torch.adam(eager)
    losses = [
        eager_torch.training_step(
            eager, optimizer, eager_torch.taps_loss, images, labels, 0.01, steps=2
        )
        for _ in range(20)
    ]
    assert losses[-1] < losses[0]
