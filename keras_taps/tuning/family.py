"""One hypermodel for each method; what it searches by default is in `space`."""

from keras_taps.tuning.hypermodel import CertifiedHyperModel


class TAPSHyperModel(CertifiedHyperModel):
    """Searches TAPS: the split and `w_taps`, or what `search` names.

    The arguments are those of `CertifiedHyperModel`, without `methods`; a recipe of another method
    is taken with the settings that both have.

    Example:

    >>> list(TAPSHyperModel(recipe("digits-0.1-taps")).space)
    ['classifier_relus', 'w_taps']
    """

    method = "taps"


class STAPSHyperModel(CertifiedHyperModel):
    """Searches STAPS: the split, `w_taps` and `tau_ratio`, or what `search` names.

    The arguments are those of `CertifiedHyperModel`, without `methods`; a recipe of another method
    is taken with the settings that both have.

    Example:

    >>> list(STAPSHyperModel(recipe("digits-0.1-staps")).space)
    ['classifier_relus', 'w_taps', 'tau_ratio']
    """

    method = "staps"


class SABRHyperModel(CertifiedHyperModel):
    """Searches SABR: `tau_ratio`, or what `search` names.

    The arguments are those of `CertifiedHyperModel`, without `methods`; a recipe of another method
    is taken with the settings that both have.

    Example:

    >>> list(SABRHyperModel(recipe("digits-0.1-sabr")).space)
    ['tau_ratio']
    """

    method = "sabr"


class IBPHyperModel(CertifiedHyperModel):
    """Searches IBP: the training radius and the L1 weight, or what `search` names.

    The arguments are those of `CertifiedHyperModel`, without `methods`; a recipe of another method
    is taken with the settings that both have.

    Example:

    >>> list(IBPHyperModel(recipe("digits-0.1-ibp")).space)
    ['train_eps_factor', 'l1']
    """

    method = "ibp"


class CrownIBPHyperModel(CertifiedHyperModel):
    """Searches CROWN-IBP: the share of CROWN at the final radius, or what `search` names.

    The arguments are those of `CertifiedHyperModel`, without `methods`; a recipe of another method
    is taken with the settings that both have.

    Example:

    >>> list(CrownIBPHyperModel(recipe("digits-0.1-crown-ibp")).space)
    ['final_crown_weight']
    """

    method = "crown-ibp"


class CCIBPHyperModel(CertifiedHyperModel):
    """Searches CC-IBP: `alpha`, or what `search` names.

    The arguments are those of `CertifiedHyperModel`, without `methods`; a recipe of another method
    is taken with the settings that both have.

    Example:

    >>> list(CCIBPHyperModel(recipe("digits-0.1-cc-ibp")).space)
    ['alpha']
    """

    method = "cc-ibp"


class MTLIBPHyperModel(CertifiedHyperModel):
    """Searches MTL-IBP: `alpha`, or what `search` names.

    The arguments are those of `CertifiedHyperModel`, without `methods`; a recipe of another method
    is taken with the settings that both have.

    Example:

    >>> list(MTLIBPHyperModel(recipe("digits-0.1-mtl-ibp")).space)
    ['alpha']
    """

    method = "mtl-ibp"


class ExpIBPHyperModel(CertifiedHyperModel):
    """Searches Exp-IBP: `alpha`, or what `search` names.

    The arguments are those of `CertifiedHyperModel`, without `methods`; a recipe of another method
    is taken with the settings that both have.

    Example:

    >>> list(ExpIBPHyperModel(recipe("digits-0.1-exp-ibp")).space)
    ['alpha']
    """

    method = "exp-ibp"


class AdversarialHyperModel(CertifiedHyperModel):
    """Searches PGD training: the training radius and the L1 weight, or what `search` names.

    The arguments are those of `CertifiedHyperModel`, without `methods`; a recipe of another method
    is taken with the settings that both have.

    Example:

    >>> list(AdversarialHyperModel(recipe("digits-0.1-pgd")).space)
    ['train_eps_factor', 'l1']
    """

    method = "pgd"


class StandardHyperModel(CertifiedHyperModel):
    """Searches plain training: the L1 weight, or what `search` names.

    The arguments are those of `CertifiedHyperModel`, without `methods`; a recipe of another method
    is taken with the settings that both have.

    Example:

    >>> list(StandardHyperModel(recipe("digits-0.1-standard")).space)
    ['l1']
    """

    method = "standard"
