"""Methods and settings of `short_training.py`, and given figures to compare with."""

# Model and what it takes beside the common settings. "taps" and its kin have the gradient of the
# authors' code, `w : 1`, as the reference figures have; "taps-paper" that of the paper's formula,
# which is (w + 1) / 2 = 3 times shorter.
LATENT = {"w_taps": 5.0, "c": 0.5, "attack_steps": 8, "gradient_scale": 3.0}
LINEAR = {"anneal_shape": "linear", "warmup_weight": 0.0}
METHODS = {
    "standard": ("standard", {}),
    "pgd": ("pgd", {}),
    "ibp": ("ibp", {}),
    "crown-ibp": ("crown-ibp", {}),
    "sabr": ("sabr", {"tau_ratio": 0.4}),
    "taps": ("taps", LATENT),
    "taps-paper": ("taps", {**LATENT, "gradient_scale": 1.0}),
    "taps-single": ("taps", {**LATENT, "estimator": "single"}),
    "taps-only": ("taps", {**LATENT, "objective": "taps"}),
    **{f"taps-{k}": ("taps", {**LATENT, "estimators": k}) for k in (1, 2, 3)},
    "staps": ("staps", {**LATENT, "tau_ratio": 0.4}),
    **{
        f"{name}-bfloat16": (name, {**options, "search_dtype": "bfloat16"})
        for name, options in (("taps", LATENT), ("sabr", {"tau_ratio": 0.4}))
    },
    "cc-ibp": ("cc-ibp", {"alpha": 0.1}),
    "mtl-ibp": ("mtl-ibp", {"alpha": 0.01}),
    "exp-ibp": ("exp-ibp", {"alpha": 0.1}),
    "ibp-r": ("ibp-r", {**LINEAR, "stability": 1e-3, "train_eps": 0.15}),
    # The stages of a recipe, and its optimizer and radii, share the steps.
    "colt": ("colt", {"warmup_weight": 0.0, "stages": "mnist-0.1-cnn3-colt"}),
    "diffai": ("diffai", LINEAR),
    # Fifty projections, as the recipe has, would take five times as long.
    "convex": ("convex", {**LINEAR, "projections": 10}),
    "cc-dist": ("cc-ibp", {"alpha": 0.1, "teacher": "pgd"}),
    "ad-cert": ("mtl-ibp", {"alpha": 0.01, "teacher": "pgd"}),
}
SETTINGS = {
    "dataset": "mnist",
    "network": "cnn3",
    "width": 16,
    "eps": 0.1,
    "batch_size": 256,
    "steps": 400,
    "annealing_steps": 100,
    "learning_rates": [5e-4, 1e-4, 2e-5],  # x 0.2
    "decay_steps": [280, 340],
    "global_clipnorm": 10.0,
    "l1": 1e-6,  # over the number of affine layers
    "warmup_weight": 0.5,
    "classifier_relus": 1,
    "pgd_steps": 40,
    "timing_steps": 30,
    "certified_images": 1000,
    "certify_timeout": 10,
    "certify_limit": 600,
}
SETTING = {"mnist": {}, "fashion_mnist": {"dataset": "fashion_mnist", "network": "cnn5"}}
QUICK = {
    "dataset": "digits",
    "network": "cnn3",
    "width": 1,
    "batch_size": 32,
    "steps": 4,
    "annealing_steps": 2,
    "pgd_steps": 2,
    "certified_images": 20,
    "certify_timeout": 1,
}
# The authors' public PyTorch code (github.com/eth-sri/taps) at this budget: given figures, with
# seconds a step after annealing on the machine where they were taken. They are not run here.
REFERENCE = [
    {
        "method": "ibp",
        "natural": 89.1,
        "pgd": 76.1,
        "ibp": 72.9,
        "taps": 74.0,
        "main_step_s": 0.13,
    },
    {
        "method": "sabr",
        "natural": 92.9,
        "pgd": 80.9,
        "ibp": 66.9,
        "taps": 76.0,
        "main_step_s": 0.47,
    },
    {
        "method": "staps",
        "natural": 96.0,
        "pgd": 88.3,
        "ibp": 37.4,
        "taps": 84.2,
        "main_step_s": 2.1,
    },
    {
        "method": "taps",
        "natural": 94.7,
        "pgd": 86.0,
        "ibp": 65.6,
        "taps": 83.9,
        "main_step_s": 1.74,
    },
]
