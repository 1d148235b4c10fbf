"""Which training steps are measured: a configuration is its name, a group a list of names.

    cnn7-16-mnist-taps3-s8
    cnn7-64-tinyimagenet-staps1-s1-b8-estimators=4

Network and width, shape of the images, method with the ReLUs after its split; then, in any order,
`s` and the steps of the latent attack, `b` and the batch size, `c` and the number of classes, and
further arguments of the training model as `name=value`.
"""

import json
from dataclasses import dataclass

SHAPES = {  # (height, width, channels), classes, eps, arguments of CNN7
    "mnist": ((28, 28, 1), 10, 0.1, {}),
    "cifar": ((32, 32, 3), 10, 8 / 255, {}),
    "tinyimagenet": ((56, 56, 3), 200, 1 / 255, {"last_stride": 2}),
}
METHODS = ("ibp", "sabr", "taps", "staps")
TAU_RATIO = 0.4  # of the small box
PGD_STEPS = 10  # of the attack on images that finds it


@dataclass(frozen=True)
class Configuration:
    """One kind of training step; `parse` makes it from its name."""

    name: str
    network: str
    width: int
    shape: str
    method: str
    classifier_relus: int
    attack_steps: int
    batch: int
    classes: int
    options: dict

    @property
    def image_shape(self):
        """`(height, width, channels)`."""
        return SHAPES[self.shape][0]

    @property
    def eps(self):
        """Radius in pixel units."""
        return SHAPES[self.shape][2]

    @property
    def network_options(self):
        """Arguments of the network beside shape, classes and width."""
        return SHAPES[self.shape][3] if self.network == "cnn7" else {}

    @property
    def is_small_box(self):
        """Whether an attack on the images comes first."""
        return self.method in ("sabr", "staps")

    @property
    def points(self):
        """Latent points a sample, as keras_taps attacks them; 0 without a latent attack."""
        if not self.classifier_relus:
            return 0
        chosen = self.options.get("estimators", "all")
        return self.classes - 1 if chosen == "all" else chosen


def parse(name):
    """The `Configuration` of a name.

    Raises:
        ValueError: If it is not made as the text above says.
    """
    network, width, shape, method, *rest = [*name.split("-"), "", "", ""]
    kind = method.rstrip("0123456789")
    relus = int(method[len(kind) :] or 0)
    latent = kind in ("taps", "staps")
    numbers, options = {"s": 0, "b": 64, "c": SHAPES.get(shape, (0, 0))[1]}, {}
    valid = network in ("cnn3", "cnn7") and width.isdigit() and shape in SHAPES
    for part in filter(None, rest):
        key, equals, value = part.partition("=")
        if equals:
            options[key] = json.loads(value) if value[0].isdigit() else value
        elif part[0] in numbers and part[1:].isdigit():
            numbers[part[0]] = int(part[1:])
        else:
            valid = False
    if not valid or kind not in METHODS or latent != bool(relus) or latent != bool(numbers["s"]):
        raise ValueError(f"No configuration has such a name: {name!r}")
    steps, batch, classes = numbers.values()
    return Configuration(
        name, network, int(width), shape, kind, relus, steps, batch, classes, options
    )


def _family(prefix, suffix="", relus=(1, 3, 5), staps=3, steps=(1, 8, 20)):
    """Names of every method on one network and shape."""
    latent = [*(f"taps{r}" for r in relus), f"staps{staps}"]
    methods = ["ibp", "sabr", *(f"{method}-s{s}" for method in latent for s in steps)]
    return [f"{prefix}-{method}{suffix}" for method in methods]


GROUPS = {
    "quick": [
        "cnn3-2-mnist-sabr-b8",
        "cnn7-2-mnist-taps1-s2-b8",
        "cnn7-2-cifar-staps3-s2-b8",
    ],
    "default": [
        *(f"cnn7-16-mnist-{method}" for method in ("ibp", "sabr")),
        *(f"cnn7-16-mnist-{method}-s8" for method in ("taps1", "taps3", "taps5", "staps3")),
        "cnn7-64-mnist-taps3-s8-b32",
        "cnn3-16-mnist-taps1-s8",
    ],
}
GROUPS["full"] = list(
    dict.fromkeys(  # the order, each once
        [
            *GROUPS["default"],
            *_family("cnn7-16-mnist"),
            *_family("cnn7-16-cifar"),
            *_family("cnn7-64-mnist", "-b32"),
            *_family("cnn7-64-cifar", "-b32"),
            *(
                name
                for width in (16, 64)
                for shape in ("mnist", "cifar")
                for name in _family(f"cnn3-{width}-{shape}", relus=(1,), staps=1)
            ),
            # 199 points a sample: batches that a machine without a GPU can hold.
            *_family("cnn7-16-tinyimagenet", "-b8", relus=(1, 3, 5), steps=(1, 8)),
            *_family("cnn7-64-tinyimagenet", "-b4", relus=(1,), staps=1, steps=(1,)),
            *_family("cnn3-16-tinyimagenet", "-b16", relus=(1,), staps=1, steps=(1, 8, 20)),
            "cnn7-16-mnist-taps1-s8-b16-c200",
            # What the public codes lack, beside their step for all classes.
            "cnn7-16-mnist-taps3-s8-estimators=2",
            "cnn3-16-mnist-taps1-s8-estimators=2",
            "cnn7-16-mnist-taps1-s8-b16-c200-estimators=4",
            "cnn7-16-tinyimagenet-taps1-s8-b8-estimators=4",
            "cnn7-16-tinyimagenet-taps3-s8-b8-estimators=4",
            # The memory of an attack of all classes, 20 at a time.
            "cnn7-16-tinyimagenet-taps3-s1-b8-chunk_size=20",
        ]
    )
)
