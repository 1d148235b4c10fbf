"""One hypermodel for each method; what it searches by default is in `space`."""

from keras_taps.training import METHODS
from keras_taps.tuning.hypermodel import CertifiedHyperModel


def hypermodel_of(method: str) -> type[CertifiedHyperModel]:
    """The class of `CertifiedHyperModel` that searches one method.

    Args:
        method: A name of `keras_taps.tuning.space.TUNED`.

    Example:

    >>> list(hypermodel_of("staps")(recipe("digits-0.1-taps")).space)
    ['classifier_relus', 'w_taps', 'tau_ratio']
    """
    model = METHODS[method].__name__
    doc = f"""Searches `{model}`: the method's own settings, or what `search` names.

    The arguments are those of `CertifiedHyperModel`, without `methods`; a recipe of another method
    is taken with the settings that both have.
    """
    name = model.removesuffix("Model") + "HyperModel"
    content = {"method": method, "__doc__": doc, "__module__": __name__}
    return type(name, (CertifiedHyperModel,), content)


AdversarialHyperModel = hypermodel_of("pgd")
CCIBPHyperModel = hypermodel_of("cc-ibp")
ConvexHyperModel = hypermodel_of("convex")
CrownIBPHyperModel = hypermodel_of("crown-ibp")
DiffAIHyperModel = hypermodel_of("diffai")
ExpIBPHyperModel = hypermodel_of("exp-ibp")
IBPHyperModel = hypermodel_of("ibp")
IBPRHyperModel = hypermodel_of("ibp-r")
MTLIBPHyperModel = hypermodel_of("mtl-ibp")
SABRHyperModel = hypermodel_of("sabr")
STAPSHyperModel = hypermodel_of("staps")
StandardHyperModel = hypermodel_of("standard")
TAPSHyperModel = hypermodel_of("taps")
