"""KerasTuner hypermodels: a recipe with a search space; every trial is a recipe of its own."""

import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_taps.callbacks import BestModel
from keras_taps.checks import check_choice, check_count, check_real, check_seed, check_text
from keras_taps.choices import OBJECTIVES
from keras_taps.datasets import Batches, Dataset
from keras_taps.experiments.build import build_model, build_network, load_data
from keras_taps.experiments.diverged import TrainingDiverged
from keras_taps.experiments.recipe import Recipe
from keras_taps.files import write_atomically
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.training import CertifiedModel
from keras_taps.tuning.front import CERTIFIED, ESTIMATED, NATURAL, scalarise
from keras_taps.tuning.space import TUNED, declare, recipe_changes, search_space
from keras_taps.tuning.training import measure, train
from keras_taps.verification.cascade.certify import certify
from keras_taps.verification.cascade.given import check_stages

SCALARISED = "val_scalarised_accuracy"
ERROR_FILE = "error.txt"


class CertifiedHyperModel(keras_tuner.HyperModel):
    """A search space around a recipe, for any tuner of KerasTuner.

    A trial is the recipe with some values changed, trained as `keras-taps train` would: the radius
    grows, the epoch with the best validation figure at the final radius is kept. Then that epoch
    is measured on the validation images, never on test images. All trials start from the same
    seed, so that they differ by their values alone, and give the same numbers in whatever order
    or process they run.

    TAPS accuracy depends on the split at which it is estimated: the more ReLUs come after it, the
    more optimistic it is. All trials are measured at the same split, `evaluation_relus`, whatever
    split they train with.

    Args:
        recipe: `Recipe`; its epochs are those of a trial (`recipe.scaled(10)`). A tuner that gives
            epochs of its own, as Hyperband does, scales the radius schedule and the decays.
        search: What to search: names, or a dictionary from names to `(low, high)`, a `Range` or a
            list of values; by default what the methods have of their own. Accepted names:
            classifier_relus (by default every legal split of the network), w_taps, c,
            attack_steps, attack_step_size, tau_ratio, alpha, final_crown_weight, bound_weight,
            box_share, pgd_steps, pgd_step_size, pgd_radius, train_eps_factor (of eps), l1,
            warmup_weight, robust_weight, smoothing_std, anneal_share (of the epochs),
            learning_rate, decay, decay_share (of the epochs, the first decay).
        methods: Names of methods; several make the method a choice, and each dimension exists
            only under the methods that take it. By default that of the recipe.
        objective: Quantity to maximise, one of `OBJECTIVES`. By default the certified accuracy if
            there are `stages`, the scalarised one if there is a `weight`, else TAPS accuracy.
        stages: Stages of `certify` that measure `val_certified_accuracy`; none for no
            certification.
        certify_count: Number of validation images to certify, the first ones; `None` for all.
        certify_options: Further arguments of `certify`, such as `timeout` or `batch_size`.
        weight: Weight in [0, 1] of the certified (without `stages`: TAPS) accuracy against the
            natural one in `val_scalarised_accuracy`.
        evaluation_relus: Split at which TAPS accuracy is measured, by default the smallest but 0.
        data: `Dataset` with validation images; by default that of the recipe, drawn by the seed.
        network: Function without arguments that makes a fresh `IntervalSequential`; by default
            the network of the recipe.
        seed: Whole number of all trials.
        callbacks: Keras callbacks of every trial; unlike those given to `search` they are not
            copied.

    Raises:
        ValueError: For a value out of range, a dimension that no method takes, or data without
            validation images.

    Example:

    >>> hypermodel = CertifiedHyperModel(recipe("digits-0.1-taps"), search=["w_taps", "tau_ratio"],
    ...                                  methods=["sabr", "taps"])
    >>> hp = keras_tuner.HyperParameters()
    >>> type(hypermodel.build(hp)).__name__, "tau_ratio" in hp.values, "w_taps" in hp.values
    ('SABRModel', True, False)
    """

    method = None  # of a hypermodel of one method

    def __init__(
        self,
        recipe: Recipe,
        search: Iterable[str] | Mapping[str, Any] | None = None,
        *,
        methods: str | Sequence[str] | None = None,
        objective: str | None = None,
        stages: Sequence[str] = (),
        certify_count: int | None = None,
        certify_options: Mapping[str, Any] | None = None,
        weight: float | None = None,
        evaluation_relus: int | None = None,
        data: Dataset | None = None,
        network: Callable[[], IntervalSequential] | None = None,
        seed: int = 0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ):
        super().__init__()
        if not isinstance(recipe, Recipe) or recipe.stages:
            raise ValueError(
                "`recipe` must be a Recipe without stages, such as kt.recipes.recipe('digits-0.1-"
                f"taps'). Received: {getattr(recipe, 'name', type(recipe).__name__)}"
            )
        if self.method and methods:
            raise ValueError(
                f"{type(self).__name__} searches '{self.method}' alone; CertifiedHyperModel takes "
                f"`methods`. Received: methods={methods!r}"
            )
        methods = methods or self.method or [recipe.method]
        methods = [methods] if isinstance(methods, str) else list(dict.fromkeys(methods))
        self.methods = [check_choice("methods", check_text("methods", m), TUNED) for m in methods]
        self.recipe = recipe
        self.network = network
        self.seed = check_seed(seed)
        self.callbacks = callbacks
        fresh = self._network() if network else build_network(recipe)
        self.space = search_space(search, self.methods, fresh.legal_splits)
        if evaluation_relus is None:
            evaluation_relus = fresh.default_split
        self.evaluation_relus = check_choice(
            "evaluation_relus", evaluation_relus, fresh.legal_splits
        )
        self.stages = check_stages(stages) if len(stages) else ()
        if certify_count is not None:
            check_count("certify_count", certify_count, low=1)
        self.certify_count = certify_count
        self.certify_options = dict(certify_options or {})
        self.weight = None if weight is None else check_real("weight", weight, 0, 1)
        self.objective_name = self._objective(objective)
        self.data = data or load_data(recipe, seed=self.seed)
        if not len(self.data.validation[0]):
            raise ValueError(
                "A search needs validation images, which choose among trials: give the recipe a "
                "`validation` above 0. Received: no validation image"
            )
        self._check_corners(fresh)

    def _network(self):
        return None if self.network is None else self.network()

    def _objective(self, name):
        if name is None:
            if self.weight is not None:
                return SCALARISED
            return CERTIFIED if self.stages else ESTIMATED
        check_choice("objective", name, OBJECTIVES)
        needed = {CERTIFIED: ("stages", self.stages), SCALARISED: ("weight", self.weight)}
        argument, given = needed.get(name, (None, True))
        if given is None or given == ():
            raise ValueError(f"The objective '{name}' needs `{argument}`. Received: none")
        return name

    def _check_corners(self, network):
        """Refuse now what would make trials fail later: the ends of ranges and every value."""
        ends = {n: v if isinstance(v, list) else [v.low, v.high] for n, v in self.space.items()}
        for i in range(max(map(len, ends.values()))):
            values = {name: end[min(i, len(end) - 1)] for name, end in ends.items()}
            for method in self.methods:
                changed = self._changed(self.recipe, {"method": method, **values})
                build_model(changed, 1, self.seed, network=network)
        if self.stages:
            self._certify(network, self.recipe, count=0)

    def _changed(self, recipe, values):
        values = {**recipe_changes(recipe, values)}
        accepted = recipe.changed(method=values["method"]).accepted_names()
        changed = recipe.changed(**{k: v for k, v in values.items() if k in accepted})
        if changed.annealed_epoch > changed.epochs:
            raise ValueError(
                "The radius must be final before the last epoch ends: the epochs before do not "
                f"count. Received: {changed.epochs} epochs, the radius final after "
                f"{changed.annealed_epoch:g}"
            )
        return changed

    @property
    def objective(self) -> keras_tuner.Objective:
        """`keras_tuner.Objective`, to be maximised; KerasTuner cannot tell that from the name."""
        return keras_tuner.Objective(self.objective_name, "max")

    def trial_recipe(self, hp: keras_tuner.HyperParameters) -> Recipe:
        """The `Recipe` of a trial.

        Args:
            hp: `keras_tuner.HyperParameters` with the values of the trial.
        """
        epochs = hp.values.get("tuner/epochs")  # Hyperband's
        recipe = self.recipe if epochs is None else self.recipe.scaled(epochs)
        return self._changed(recipe, declare(hp, self.space, self.methods))

    def build(self, hp: keras_tuner.HyperParameters) -> CertifiedModel:
        """The compiled model of a trial; it starts from the seed of the search.

        Args:
            hp: `keras_tuner.HyperParameters`.
        """
        recipe = self.trial_recipe(hp)
        keras.utils.set_random_seed(self.seed)
        steps = len(Batches(*self.data.train, recipe.batch_size))
        model = build_model(recipe, steps, self.seed, network=self._network())
        model.optimizer.build(model.trainable_variables)  # so that Hyperband's weights bring it
        return model

    def fit(
        self,
        hp: keras_tuner.HyperParameters,
        model: CertifiedModel,
        *args: Any,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        epochs: int | None = None,
        initial_epoch: int = 0,
        **options: Any,
    ) -> dict[str, float]:
        """Train the model of a trial and measure it; KerasTuner calls this.

        Args:
            hp: `keras_tuner.HyperParameters`.
            model: What `build` returned.
            *args: Refused: the data are those of the hypermodel.
            callbacks: Keras callbacks; KerasTuner adds its own.
            epochs: Only from Hyperband.
            initial_epoch: Only from Hyperband.
            **options: `verbose`; others are refused.

        Returns:
            Dictionary of the validation figures of the epoch that was kept, `OBJECTIVES` as far as
            they are measured, with `train_seconds` and `certify_seconds`.

        Raises:
            TrainingDiverged: If the loss is no longer a number.
        """
        unknown = [name for name in options if name != "verbose"]
        if args or unknown or (epochs is not None and "tuner/epochs" not in hp.values):
            # Of this class, KerasTuner raises errors instead of calling the trial failed.
            raise keras_tuner.errors.FatalValueError(
                "`search` takes `callbacks` and `verbose` alone: data belong to the hypermodel "
                "(`data`), epochs to its recipe (`recipe.scaled(10)`). Received: "
                f"{len(args)} arrays, epochs={epochs}, {', '.join(unknown) or 'nothing else'}"
            )
        trial = next((c for c in callbacks if hasattr(c, "tuner") and hasattr(c, "trial")), None)
        folder = trial and Path(trial.tuner.get_trial_dir(trial.trial.trial_id))
        try:
            recipe = self.trial_recipe(hp)
            return self._train_and_measure(recipe, model, folder, callbacks, initial_epoch)
        except Exception as error:
            # KerasTuner continues, but a worker does not tell the chief why its trial failed.
            if folder:
                text = f"{type(error).__name__}: {error}"
                write_atomically(folder / ERROR_FILE, lambda path: path.write_text(text))
                warnings.warn(
                    f"Trial {trial.trial.trial_id} failed and is skipped; the search continues. "
                    f"{text}",
                    RuntimeWarning,
                    stacklevel=2,
                )
            if isinstance(error, TrainingDiverged):  # it would diverge again: no retries
                raise keras_tuner.errors.FailedTrialError(str(error)) from error
            raise

    def _train_and_measure(self, recipe, model, folder, callbacks, initial_epoch):
        with tempfile.TemporaryDirectory() as temporary:
            # KerasTuner's checkpoint of the best epoch would count epochs of smaller radius.
            savers = [c for c in callbacks if type(c).__name__ == "SaveBestEpoch"]
            path = savers[0].filepath if savers else str(Path(temporary) / "best.weights.h5")
            selection = BestModel(path, model.monitor, averaged=recipe.averaged)
            chosen = [selection, *(c for c in callbacks if c not in savers), *self.callbacks]
            train_seconds = train(
                model, recipe, self.data, self.seed, initial_epoch, chosen, folder
            )
            model.load_weights(path)
        figures = measure(model, recipe, self.data, self.evaluation_relus)
        certify_seconds = 0.0
        if self.stages:
            began = time.perf_counter()
            shares = self._certify(model.network, recipe, self.certify_count).accuracies()
            figures |= {CERTIFIED: shares["certified"], "val_unknown": shares["unknown"]}
            certify_seconds = time.perf_counter() - began
        if self.weight is not None:
            robust = figures[CERTIFIED if self.stages else ESTIMATED]
            figures[SCALARISED] = scalarise(figures[NATURAL], robust, self.weight)
        figures |= {"train_seconds": train_seconds, "certify_seconds": certify_seconds}
        # As KerasTuner sends them from worker to chief, so that both ways give the same numbers.
        return {name: float(np.float32(value)) for name, value in figures.items()}

    def _certify(self, network, recipe, count):
        x, y = (part[:count] for part in self.data.validation)
        options = {"seed": self.seed, "domain": recipe.domain, **self.certify_options}
        return certify(network, x, y, recipe.eps, stages=self.stages, **options)
