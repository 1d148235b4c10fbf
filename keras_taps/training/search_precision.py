"""The argument `search_dtype`, which all methods share that attack while they train."""

from typing import Any

from numpy.typing import ArrayLike

from keras_taps.attacks.precision import chosen_dtype
from keras_taps.networks.sequential import IntervalSequential
from keras_taps.training.batch import Batch


class SearchPrecision:
    """Mixin, placed before a `CertifiedModel`: in which precision attacks search while training.

    An attack needs little but signs of gradients, so its products may be coarse. Its points are
    put back into their boxes, and whatever is trained on or measured at them is computed in the
    network's own precision, as every evaluation is.

    Args:
        network: `IntervalSequential`.
        eps: Radius at which the network is evaluated.
        train_eps: Final radius of training.
        search_dtype: 'float32', the network's own precision; 'bfloat16'; or 'auto', which a
            product timed on the device decides when the model is made. What was decided is the
            attribute of that name, and saved.
        **options: As the class after this mixin.
    """

    def __init__(
        self,
        network: IntervalSequential,
        eps: ArrayLike,
        train_eps: ArrayLike | None = None,
        *,
        search_dtype: str = "float32",
        **options: Any,
    ):
        super().__init__(network, eps, train_eps, **options)
        self.search_dtype = chosen_dtype(search_dtype)

    def attack_dtype(self, batch: Batch) -> str | None:
        """Precision of an attack on `batch`, `None` for that of the network."""
        return "bfloat16" if batch.training and self.search_dtype == "bfloat16" else None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "search_dtype": self.search_dtype}
