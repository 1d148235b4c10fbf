"""From a recipe to a compiled model and its callbacks."""

import keras

from keras_taps import networks
from keras_taps.callbacks import BatchNormReestimation, EpsAnneal, WeightAveraging
from keras_taps.datasets import Dataset, dataset_info, load
from keras_taps.training import METHODS


def load_data(recipe, data_dir=None, seed=0, limit=None) -> Dataset:
    """The `Dataset` of a recipe, its validation split drawn by the seed, cut to `limit` inputs."""
    data = load(
        recipe.dataset,
        data_dir,
        validation=recipe.validation,
        seed=seed,
        domain=recipe.domain,
    )
    return data.limited(limit)


def build_network(recipe):
    """The untrained network of a recipe, after the normalisation of its data set.

    Raises:
        ValueError: If `network_options` holds what the network does not take.
    """
    info = dataset_info(recipe.dataset)
    make = getattr(networks, recipe.network)
    try:
        return make(
            info.input_shape,
            info.num_classes,
            width=recipe.width,
            mean=list(info.mean),
            std=list(info.std),
            **recipe.network_options,
        )
    except TypeError as error:
        raise ValueError(
            f"`network_options` does not fit {recipe.network}: {error}. "
            f"Received: network_options={recipe.network_options!r}"
        ) from error


def build_model(recipe, steps_per_epoch, seed, network=None):
    """The compiled training model of a recipe.

    Args:
        recipe: `Recipe`.
        steps_per_epoch: Steps an epoch, to place the decays of the learning rate.
        seed: Whole number for the attacks' random starts.
        network: `IntervalSequential` in place of the recipe's own, untrained one.

    Returns:
        `CertifiedModel`; the global Keras seed decides its initial weights.
    """
    network = build_network(recipe) if network is None else network
    model = METHODS[recipe.method](
        network,
        eps=recipe.eps,
        train_eps=recipe.train_eps,
        domain=recipe.domain,
        classifier_relus=recipe.classifier_relus,
        warmup_weight=recipe.warmup_weight,
        l1=recipe.l1 / len(network.affine_layers) if recipe.l1_per_layer else recipe.l1,
        robust_weight=recipe.robust_weight,
        smoothing_std=recipe.smoothing_std,
        smoothing_samples=recipe.smoothing_samples,
        seed=seed,
        **recipe.options,
    )
    model.compile(build_optimizer(recipe, steps_per_epoch))
    return model


def build_optimizer(recipe, steps_per_epoch):
    """The Keras optimizer of a recipe, with its learning rate schedule.

    Raises:
        ValueError: If `optimizer_options` holds what the optimizer does not take.
    """
    make = {
        "adam": keras.optimizers.Adam,
        "sgd": keras.optimizers.SGD,
        "adamw": keras.optimizers.AdamW,
    }[recipe.optimizer]
    options = {} if recipe.optimizer == "sgd" else {"epsilon": 1e-8}
    if recipe.clipnorm is not None:
        options["global_clipnorm"] = recipe.clipnorm
    if recipe.averaged:  # at 1 the average stays as it is: `WeightAveraging` makes it
        options |= {"use_ema": True, "ema_momentum": recipe.ema_momentum or 1.0}
    try:
        return make(_learning_rate(recipe, steps_per_epoch), **options | recipe.optimizer_options)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`optimizer_options` does not fit {recipe.optimizer}: {error}. "
            f"Received: optimizer_options={recipe.optimizer_options!r}"
        ) from error


def _learning_rate(recipe, steps_per_epoch):
    """A number, or the schedule by which it falls."""
    first = recipe.learning_rate
    if recipe.cosine:
        return keras.optimizers.schedules.CosineDecay(first, recipe.epochs * steps_per_epoch)
    if not recipe.decays:
        return first
    boundaries = [round(epoch * steps_per_epoch) for epoch in recipe.decays]
    rates = [first * recipe.decay**i for i in range(len(boundaries) + 1)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)


def training_callbacks(recipe, data, begin=0):
    """What a recipe asks for: annealing, averaged weights, batch statistics, in this order.

    Args:
        recipe: `Recipe`.
        data: `Dataset` on whose training images batch statistics are taken.
        begin: Epochs of the run before this recipe, where it is a stage.
    """
    callbacks = []
    if recipe.anneal_epochs:
        start, shape = begin + recipe.anneal_start_epoch, recipe.anneal_shape
        callbacks.append(EpsAnneal(recipe.anneal_epochs, start, shape=shape))
    if recipe.ema_momentum:
        callbacks.append(keras.callbacks.SwapEMAWeights())
    if recipe.swa_start:
        callbacks.append(WeightAveraging(begin + recipe.swa_start))
    if recipe.bn_reestimation:
        batches = data.train_batches(recipe.batch_size, augment=False)
        callbacks.append(BatchNormReestimation(batches))
    return callbacks
