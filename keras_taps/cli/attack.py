"""`keras-taps attack`: what adversarial examples break on the test images."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import typer

from keras_taps.cli.backend import import_keras, switch_backend
from keras_taps.cli.bar import progress_bar
from keras_taps.cli.output import console, duration, make_folder_of, print_json
from keras_taps.cli.target import DOMAIN, Target, check_limit, parse_one_radius
from keras_taps.domain import plain, radius_text
from keras_taps.files import write_atomically

NAME = "attack"


def run(
    target: Path = typer.Argument(..., help="Run folder, or a .keras file with --dataset."),
    eps: str = typer.Option(
        None,
        "--eps",
        help="Radius: 0.1, 2/255, or an .npy file with one for each image. Default: the model's.",
    ),
    domain: str = DOMAIN,
    dataset: str = typer.Option(
        None, "--dataset", help="Test images of a .keras file: a name, or an .npz with x and y."
    ),
    limit: int = typer.Option(None, "--limit", help="Only this many test images."),
    steps: int = typer.Option(None, "--steps", help="Gradient steps: 200, or 100 of a suite."),
    restarts: int = typer.Option(None, "--restarts", help="Random starts: 5, or 1 of a suite."),
    objective: str = typer.Option(None, "--objective", help="cross-entropy, margin or dlr."),
    targeted: bool = typer.Option(False, "--targeted", help="One attack for each wrong class."),
    suite: bool = typer.Option(False, "--suite", help="PGD and APGD on several objectives."),
    seed: int = typer.Option(0, "--seed", help="Whole number that decides the random starts."),
    batch_size: int = typer.Option(256, "--batch-size", help="Images at a time."),
    out: Path = typer.Option(None, "--out", help="Write the adversarial images to this .npz."),
    backend: str = typer.Option(None, "--backend", help="tensorflow, jax or torch."),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """Attack test images: natural and adversarial accuracy, an upper limit of what is robust.

    Example: `keras-taps attack runs/taps --eps 0.1 --out adversarial.npz`
    """
    radii = parse_one_radius(eps, domain)
    check_limit(limit)
    if suite and (objective is not None or targeted):
        raise ValueError(
            "--suite brings its own objectives. Received: --objective or --targeted beside it"
        )
    if out is not None:
        if out.suffix != ".npz":
            raise ValueError(f"--out must end in .npz. Received: --out {out}")
        make_folder_of(out)
    switch_backend(backend)
    import_keras()
    from keras_taps.attacks.input_space import PAPER_ATTACK, pgd_attack
    from keras_taps.attacks.suite import attack_suite

    subject = Target(target, dataset, domain)
    (radius,) = subject.radii(radii)
    x, y = subject.images(limit, data_dir)
    given = {"steps": steps, "restarts": restarts}
    options = {} if suite else {**PAPER_ATTACK, "objective": objective, "targeted": targeted}
    options |= {name: value for name, value in given.items() if value is not None}
    options |= {"seed": seed, "batch_size": batch_size}
    began = time.perf_counter()
    with progress_bar("attacks", as_json) as bar:
        attack = attack_suite if suite else pgd_attack
        given = {"progress": bar, "domain": subject.domain, **options}
        images, robust, *broken_by = attack(subject.network, x, y, radius, **given)
    natural = subject.network.predict(x, batch_size=batch_size, verbose=0).argmax(-1) == y
    found = {
        "target": str(target),
        "dataset": subject.dataset,
        "eps": plain(radius),
        "domain": subject.domain.to_config(),
        "count": len(x),
        "natural_accuracy": float(np.mean(natural)),
        "adversarial_accuracy": float(np.mean(robust)),
        "attack": {"suite": suite, **options},
        "seconds": time.perf_counter() - began,
    }
    if broken_by:
        found["broken_by"] = dict(Counter(name for name in broken_by[0].tolist() if name))
    if out is not None:
        content = {"adversarial": images, "robust": robust, "labels": y, "eps": radius}
        write_atomically(out, lambda path: np.savez_compressed(path, **content))
    if as_json:
        print_json(found)
        return
    console.print(
        f"{len(x)} test images of {subject.dataset}, eps {radius_text(radius)}: "
        f"natural {found['natural_accuracy']:.2%}, adversarial "
        f"{found['adversarial_accuracy']:.2%} ({duration(found['seconds'])})",
        soft_wrap=True,
    )
    for name, count in found.get("broken_by", {}).items():
        console.print(f"{name:24} {count:6}")
    if out is not None:
        console.print(f"Adversarial images: {out}", soft_wrap=True)
