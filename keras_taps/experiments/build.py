"""From a recipe to a compiled model."""

import keras

from keras_taps import networks, training
from keras_taps.callbacks import EpsAnneal
from keras_taps.datasets import dataset_info


def build_network(recipe):
    """The untrained network of a recipe, behind the normalisation of its data set."""
    info = dataset_info(recipe.dataset)
    make = getattr(networks, recipe.network)
    return make(
        info.input_shape,
        info.num_classes,
        width=recipe.width,
        mean=list(info.mean),
        std=list(info.std),
    )


def build_model(recipe, steps_per_epoch, seed):
    """The compiled training model of a recipe.

    Args:
        recipe: `Recipe`.
        steps_per_epoch: Steps an epoch, to place the decays of the learning rate.
        seed: Whole number for the attacks' random starts.

    Returns:
        `CertifiedModel`; the global Keras seed decides its initial weights.
    """
    network = build_network(recipe)
    options = {
        "eps": recipe.eps,
        "train_eps": recipe.train_eps,
        "classifier_relus": recipe.classifier_relus,
        "warmup_weight": recipe.warmup_weight,
        "l1": recipe.l1 / len(network.affine_layers),
        "seed": seed,
    }
    if recipe.method == "ibp":
        model = training.IBPModel(network, **options)
    else:
        model = training.TAPSModel(
            network,
            w_taps=recipe.w_taps,
            gradient_scale=recipe.gradient_scale,
            c=recipe.c,
            attack_steps=recipe.attack_steps,
            **options,
        )
    rates = [recipe.learning_rate * recipe.decay**i for i in range(len(recipe.decay_epochs) + 1)]
    boundaries = [round(epoch * steps_per_epoch) for epoch in recipe.decay_epochs]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
    model.compile(keras.optimizers.Adam(schedule, epsilon=1e-8, global_clipnorm=recipe.clipnorm))
    return model


def anneal_callbacks(recipe):
    """`[EpsAnneal]` of a recipe, empty if it does not anneal."""
    return [EpsAnneal(epochs=recipe.anneal_epochs)] if recipe.anneal_epochs else []
