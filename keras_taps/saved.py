"""Keras finds the classes of `.keras` files by name, before their modules are imported.

Keras makes objects of registered classes alone: the module that a file names is imported only if it
is Keras' own. `register_keras_serializable` acts where a class is imported, and importing all of
them with this package would import Keras, which takes seconds, too long for whoever only
rechecks a report. So the names are entered as soon as Keras is imported, and Python tells that
to finders alone. `wrapt.when_imported` has such a finder; but `recheck` needs NumPy and no more.
"""

import sys
from importlib import import_module

CLASSES = {
    "keras_taps.layers": (
        "IntervalActivation",
        "IntervalAdd",
        "IntervalAveragePooling2D",
        "IntervalBatchNormalization",
        "IntervalConv2D",
        "IntervalCropping2D",
        "IntervalDense",
        "IntervalDepthwiseConv2D",
        "IntervalDistance",
        "IntervalDropout",
        "IntervalELU",
        "IntervalEqualizedDense",
        "IntervalFlatten",
        "IntervalGlobalAveragePooling2D",
        "IntervalGlobalMaxPooling2D",
        "IntervalLeakyReLU",
        "IntervalMaxPooling2D",
        "IntervalNormalization",
        "IntervalOwn",
        "IntervalPermute",
        "IntervalReLU",
        "IntervalRepeatVector",
        "IntervalRescaling",
        "IntervalReshape",
        "IntervalResidual",
        "IntervalScale",
        "IntervalTrainingOnly",
        "IntervalUpSampling2D",
        "IntervalZeroPadding2D",
    ),
    "keras_taps.metrics": ("LastValue", "Share"),
    "keras_taps.networks": (
        "FanInUniform",
        "IBPInitializer",
        "IntervalSequential",
        "PassOnInitializer",
    ),
    "keras_taps.training": (
        "AdversarialModel",
        "CCIBPModel",
        "COLTModel",
        "ConvexModel",
        "CrownIBPModel",
        "DistanceNetModel",
        "ExpIBPModel",
        "IBPModel",
        "IBPRModel",
        "MTLIBPModel",
        "SABRModel",
        "STAPSModel",
        "StandardModel",
        "TAPSModel",
    ),
}


class Deferred:
    """Stands for a class in Keras' registry; the class takes this place when it is imported.

    Args:
        module: Name of the module that has the class.
        name: Name of the class.
    """

    def __init__(self, module, name):
        self.module, self.name = module, name

    def from_config(self, *args, **kwargs):
        """All that Keras asks of a registered class: an object of it."""
        return getattr(import_module(self.module), self.name).from_config(*args, **kwargs)


class _AfterKeras:
    """Finder that finds Keras as the others do, registers once it is imported, and goes.

    Nothing of this package is imported then: the import of Keras may have come out of one of its
    own half-imported modules.
    """

    def find_spec(self, name, path=None, target=None):
        if name != "keras":
            return None
        others = [finder.find_spec for finder in sys.meta_path if finder is not self]
        found = (find_spec(name, path, target) for find_spec in others)
        spec = next(filter(None, found), None)
        if spec is not None:
            self._follow(spec.loader)
        return spec

    def _follow(self, loader):
        execute = loader.exec_module

        def exec_module(module):
            del loader.exec_module  # the loader is as it was
            execute(module)
            # A new list: another thread may be walking along the old one.
            sys.meta_path = [finder for finder in sys.meta_path if finder is not self]
            _register()

        loader.exec_module = exec_module


_AFTER_KERAS = _AfterKeras()


def announce():
    """Enter the classes into Keras' registry: now, or else when Keras is imported."""
    if "keras" in sys.modules:
        _register()
    elif _AFTER_KERAS not in sys.meta_path:
        sys.meta_path.insert(0, _AFTER_KERAS)


def _register():
    import keras  # waits for another thread that is importing it

    registry = keras.saving.get_custom_objects()
    for module, names in CLASSES.items():
        for name in names:
            registry.setdefault(f"keras_taps>{name}", Deferred(module, name))
