"""What functions and commands offer alike: names and defaults, known without Keras."""

STAGES = ("ibp", "attack", "crown-ibp", "crown", "alpha-crown", "strong-attack", "bab", "milp")
DEFAULT_STAGES = STAGES[:-1]
PROPERTY_STAGES = (*STAGES[:2], "input-split", *STAGES[2:])  # of one property
BRANCHINGS = ("babsr", "upb", "gap", "kfsb")
MEMORY = 2**31  # bytes for the open domains of branch and bound
TUNERS = ("random", "bayesian", "hyperband", "grid")
# Figures of a trial that a search can maximise, all of validation images.
OBJECTIVES = (
    "val_taps_accuracy",
    "val_natural_accuracy",
    "val_ibp_certified_accuracy",
    "val_certified_accuracy",
    "val_scalarised_accuracy",
)
DIMENSIONS = (
    "classifier_relus",
    "w_taps",
    "c",
    "attack_steps",
    "attack_step_size",
    "tau_ratio",
    "alpha",
    "stability",
    "final_crown_weight",
    "bound_weight",
    "box_share",
    "pgd_steps",
    "pgd_step_size",
    "pgd_radius",
    "train_eps_factor",
    "l1",
    "warmup_weight",
    "robust_weight",
    "smoothing_std",
    "anneal_share",
    "learning_rate",
    "decay",
    "decay_share",
)
