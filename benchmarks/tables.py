"""Write docs/benchmarks.md, docs/results.md and the table of the README from the results' JSON.

    python benchmarks/tables.py
    python benchmarks/tables.py --check

The same results give the same page; `--check` writes nothing and exits with 1 if it differs. What
is long here is the text of the pages.
"""

import argparse
import sys
from pathlib import Path

import gpu_tables
import results_page
import tuning_tables
from certification_tables import (
    branch_and_bound,
    certification,
    competition,
    then_and_now,
    tried,
)
from convolution_table import convolution, small_convolutions
from hard_set_table import hard_set
from other_systems_table import other_systems
from provenance import DOCS, RESULTS, read_json
from startup_table import startup
from tables_format import (
    BACKENDS,
    NOT_MEASURED,
    machine,
    mean_and_deviation,
    percent,
    ratio,
    table,
)
from training_step_tables import changes, pictures, precision, sections, stale_pictures

PAGE = """\
# Benchmarks

This page is written by `python benchmarks/tables.py` from the files in `benchmarks/results`; do
not edit it. Each file also holds the command, the machine and the versions it was made with.

## One training step

Seconds and peak resident memory of one training step after annealing, on random images, in
keras_taps on its three backends and in eager PyTorch. The eager step is
`benchmarks/eager_torch.py`: same mathematics, the computation arranged as in the public PyTorch
codes, where every step of an attack also computes weight gradients. All take turns within one run.
A ratio below 1 is faster than eager PyTorch.

`cnn7-16-mnist-taps3-s8-b32` is CNN7 of width 16, images of MNIST's shape, TAPS with 3 ReLUs after
the split, 8 steps of the latent attack, a batch of 32 (64 if not said); `c200` stands for 200
classes, and `name=value` for an argument of the training model. The eager step always attacks all
classes, in float32; the products are counted in float32, too.

"products alone" is the machine's ceiling: the convolutions and matrix products of the step by
themselves, shape by shape the fastest of the primitives of PyTorch and TensorFlow, times their
number in the algorithm of keras_taps (input gradients alone in attacks). All else that a step does
comes on top; "Ceiling / median" is the share reached.

{training_step}

Run it with `python benchmarks/training_step.py`; `--group full` measures every configuration.

### What changes won

Each change to the step was timed before and after, on a machine in use if not said; of what did not
pay nothing is left but its row.

{changes}

### Lower precision

An attack needs only the signs of its gradients. Whether searching in lower precision can save time
depends on the machine: seconds of the products alone, the fastest of each library's ways.

{precision}

Run it with `python benchmarks/precision.py`.

### Convolutions on JAX's CPU

Speed in GFLOP/s of the gradients of one convolution, by the derivatives that JAX derives and by
those of `backend.convolution`, at the top level of a program, in a loop as in attacks, and in a
branch as in a training step of two phases.

{convolution}

Run it with `python benchmarks/convolution.py`.

### Small convolutions as matrices

An output and an input gradient at 1000 points, as attacks take them: seconds of the convolution
over seconds of the matrix that does the same, so above 1 the matrix is faster. Attacks take it up
to a number of entries.

{small_convolutions}

Run it with `python benchmarks/small_convolutions.py --backend tensorflow` (or jax, torch).

## On a GPU

The prepared run: `python benchmarks/gpu_files.py build/gpu` collects what a machine with a card
lacks, `python3 benchmarks/gpu.py --files build/gpu --out OUT` runs there for nine minutes.

{gpu}

## Starting

{startup}

## The family with 400 steps

eps 0.1, batch 256, 400 steps of which 100 anneal the radius, last weights, 10 000 test images;
mean and standard deviation over seeds, in percent. "Natural" is accuracy on clean images, "PGD"
under an attack of 40 steps, "IBP" the share certified by interval bounds, "TAPS" the share whose
TAPS estimate is robust, which is not a certificate, "Certified" and "Unknown" what the verifier
proves and leaves open of the first 1000 with 10 s each, or of as many as 10 minutes and the block
of 50 then begun suffice for. Four hundred steps are 1.7 passes over the
training images: the rows compare methods at that budget, not at their best. IBP bounds understate
what a complete verifier proves for methods that do not train on the whole box.

"s an epoch" is the median step after annealing times the 235 steps of an epoch, measured in turn
on one machine; a step with its attack is compared to the plain IBP step in the column "/ IBP".

The authors' code weighs the two gradients of the product `w : 1`, the paper `2a : 2 - 2a`: the
same direction, `(w + 1) / 2 = 3` times shorter. Adam notices in a short budget, because its
second moments still remember the annealing phase. "TAPS" has the authors' length
(`gradient_scale=3`), as the reference.

### MNIST, CNN3 with 16 filters

The reference is one seed of the authors' code; its seconds were taken in another run on such a
machine, so compare them only roughly.

{mnist}

### Fashion-MNIST, CNN5 with 16 filters

{fashion_mnist}

Run them with `python benchmarks/short_training.py --setting mnist --backend tensorflow` (or
`--setting fashion_mnist --methods ibp sabr taps staps mtl-ibp`), then again with `--timing` on a
quiet machine for the seconds.

## MNIST with ten epochs

Ten epochs of which two anneal the radius (SortNet, which needs more, has 24 and 20), the epoch
with the highest TAPS accuracy (or the method's own measure) on a held-out tenth of the training
images, one seed; percent of the 10 000 test images. "Certified" and "Unknown" as above. The last
columns are Table 1 of the paper, of far larger networks that were trained for 70 epochs or more.

{runs}

Every method stays below its figure in the paper, and the order is another: there COLT is last and
TAPS (whose share of all images is further down) first, here COLT is first. Interval bounds
certify few of its images and branch and bound nearly all the rest, which it can do on a network of
24 330 weights. Where the order turns we have not tried.

Run it with `python benchmarks/ten_epochs.py RECIPE ...`; the figures are those of the run's
`metrics.json` and of the verifier. `convex-10` is `mnist-0.1-cnn3-convex` with 10 projections in
place of 50, the teacher of `cc-dist` (CC-IBP) and `ad-cert` (MTL-IBP) the network of the row `pgd`.

## What the other systems cost

One training step after the ramp (`sortnet-64-p`: during it) and one validation of as many images,
on random images of MNIST's shape; the peaks of a process's memory include about half a GiB of
imports. `colt-2-10` is stage 2 of COLT with 10 projections, `convex-50` Wong and Kolter with 50,
whose validation takes exact bounds, a row a neuron, whatever training took.

{other_systems}

Run it with `python benchmarks/other_systems.py`.

## Certification of a whole test set

The MNIST test set through the cascade, each proof confirmed by the float64 checker. Seconds are
wall time without compilation; "ms an input" is the mean over all stages an input went through.

{certification}

Run it with `python benchmarks/certification.py cascade --model runs/ibp/best.keras`, `throughput`,
`exact` and `bounds`; the training settings of each model are in its record.

**Then and now.** The same network certified by an older version and by this one, side by side on a
machine in use, 30 s an image. The verdicts are the same. What costs more is the second claim, about
the float32 network as it runs (in `ibp`), and boxes of inner neurons that are tightened in
`alpha-crown` for inputs that branch and bound would close at once.

{then_and_now}

## Branch and bound

{branch_and_bound}

Run it with `python benchmarks/branch_and_bound.py --model runs/taps/best.keras --count 3000`.

## The hard set

{hard_set}

Run it with `python benchmarks/hard_set.py collect --model benchmarks/models/NAME.keras`, then
`draw`; `export` writes the images as ONNX and VNN-LIB files.

## Tuning

{tuning}

Run it with `python benchmarks/tuning.py all --backend tensorflow`; the same command resumes it.

## Properties of the VNN competition

Networks and properties of 2021 and 2022 on which the competition's tools agree, by
`keras-taps verify`: what its stages are says [Certification](certification.md).

{competition}

Where bounds, attacks and splits in NumPy do not decide, a backend is started, PyTorch if nobody
chose another: it compiles nothing, and took the least CPU of the three on the two rows on which
they were compared, in single runs on a busy machine that were not kept.

Run it with `python benchmarks/competition.py --folder DIR`.

**What was tried on the rows that need splits**: seconds of CPU of the rows that were solved, one
thread and 60 s each, on a machine in use; "open" are those that were not. The options are those of
`keras-taps verify`; `--cuts`, how many multi-neuron constraints an input and class may have, and
`--recompute`, after how many splits the boxes of all neurons are derived again, were among them
until this table was made: neither solves a row more, so both are gone. BaBSR alone, whose choices
kFSB tries beside others, leaves more rows open. The rows that all leave open want better bounds at
the root, not more domains, so cuts found while branching (BICCOS) and clipped domains
(Clip-and-Verify) are not built, but for the splitting of inputs, which clips its boxes.
"Tree without passes" was a prototype outside the package: the boxes of the root fixed, the
objective and all pre-activations as affine rows over the inputs and one symbol for each unstable
ReLU, nodes bounded by weak duality, one product of matrices for many of them. It bounds hundreds to
thousands of domains a second, each more loosely than a few steps with slopes of its own, and closed
none of these rows that branch and bound leaves open, so it is not built. Its seconds are those of
the tree alone, of at most 12.

{tried}
"""
MARKERS = ("<!-- results: written by benchmarks/tables.py -->", "<!-- results end -->")
METHODS = {
    "standard": "Standard",
    "pgd": "PGD",
    "ibp": "IBP",
    "crown-ibp": "CROWN-IBP",
    "sabr": "SABR (0.4)",
    "taps": "TAPS",
    "taps-paper": "TAPS, paper's gradient",
    "taps-single": "TAPS, single estimator",
    "taps-only": "TAPS, without the IBP factor",
    **{f"taps-{k}": f"TAPS, {k} of 9 classes attacked" for k in (1, 2, 3)},
    "staps": "STAPS (0.4)",
    "taps-bfloat16": "TAPS, search in bfloat16",
    "sabr-bfloat16": "SABR (0.4), search in bfloat16",
    "cc-ibp": "CC-IBP",
    "mtl-ibp": "MTL-IBP",
    "exp-ibp": "Exp-IBP",
    "ibp-r": "IBP-R",
    "colt": "COLT, two stages",
    "diffai": "DiffAI, box",
    "convex": "Wong and Kolter, 10 projections",
    "cc-dist": "CC-Dist, PGD as teacher",
    "ad-cert": "AD-CERT, PGD as teacher",
}
STEPS_PER_EPOCH = 235  # 60 000 images in batches of 256
FIGURES = ("natural", "pgd", "ibp", "taps")


def accuracies(content):
    """The rows of MNIST without seconds, for methods that have a reference."""
    rows = []
    for reference in content["reference"]:
        name = METHODS[reference["method"]]
        for backend, title in BACKENDS.items():
            records = chosen(content["records"], backend, reference["method"])
            if records:
                figures = [mean_and_deviation([r[f] for r in records], 1) for f in FIGURES]
                rows.append([name, f"keras_taps, {title}, {seeds(records)}", *figures])
        rows.append([name, "authors' code, 1 seed", *(f"{reference[f]:.1f}" for f in FIGURES)])
    return table(["Method", "Implementation", "Natural", "PGD", "IBP-certified", "TAPS"], rows)


def seeds(records):
    """How many seeds, in words."""
    return f"{len(records)} seed{'s' * (len(records) != 1)}"


def chosen(records, backend, method):
    """Records of one method on one backend."""
    return [r for r in records if (r["backend"], r["method"]) == (backend, method)]


def proved(records):
    """Shares certified and unknown by the verifier, with the images if they are fewer than 1000."""
    if not records:
        return ["-", "-"]
    shares = [mean_and_deviation([r[n] for r in records], 1) for n in ("certified", "unknown")]
    fewest = min(record["images"] for record in records)
    return [shares[0] + f" of {fewest}" * (fewest < 1000), shares[1]]


def short_training(content):
    """Section of `short_training_*.json`."""
    if not content or not content["records"]:
        return NOT_MEASURED
    rows = []
    references = {reference["method"]: reference for reference in content["reference"]}
    for method in METHODS:
        reference = references.get(method)
        if reference:
            figures = [*(f"{reference[name]:.1f}" for name in FIGURES), "-", "-"]
            seconds = reference["main_step_s"]
            epoch = f"{seconds * STEPS_PER_EPOCH:.0f}"
            relative = ratio(seconds, references["ibp"]["main_step_s"])
            rows.append(
                [METHODS[method], "authors' code", "1", *figures, f"{seconds:.2f}", epoch, relative]
            )
        for backend in BACKENDS:
            records = chosen(content["records"], backend, method)
            if not records:
                continue
            step, plain = (
                next((t["main_step_s"] for t in chosen(content["timings"], backend, name)), None)
                for name in (method, "ibp")
            )
            rows.append(
                [
                    METHODS[method],
                    f"keras_taps, {BACKENDS[backend]}",
                    str(len(records)),
                    *(mean_and_deviation([r[name] for r in records], 1) for name in FIGURES),
                    *proved(chosen(content.get("certified", []), backend, method)),
                    f"{step:.3f}" if step else "-",
                    f"{step * STEPS_PER_EPOCH:.0f}" if step else "-",
                    ratio(step, plain) if step else "-",
                ]
            )
    head = [
        "Method",
        "Implementation",
        "Seeds",
        "Natural",
        "PGD",
        "IBP",
        "TAPS",
        "Certified",
        "Unknown",
        "s a step",
        "s an epoch",
        "/ IBP",
    ]
    provenances = [r["provenance"] for r in content["records"]]
    return "\n\n".join([table(head, rows), machine(provenances)])


RUN_FIGURES = ("natural", "pgd", "ibp_certified", "taps")
# What the paper calls the methods at the end of a run's name.
PUBLISHED = {name.lower(): name for name in ("COLT", "IBP", "SABR", "TAPS", "STAPS", "SortNet")}


def runs(folder):
    """Section of the `metrics.json` of runs, kept as `runs/RECIPE.json`; header and rows too."""
    from keras_taps.reproduction.published import published

    found = {path.stem: read_json(path) for path in sorted(Path(folder).glob("*.json"))}
    if not found:
        return NOT_MEASURED
    paper = published("1")

    def printed(name):
        figures = paper.get(("mnist", "0.1", PUBLISHED.get(name.split("-", 3)[-1]), ""), {})
        return [f"{figures[n]:.1f}" if n in figures else "-" for n in ("natural", "certified")]

    rows = [
        [
            *(name, m["backend"]),
            *(percent(m.get(f"{figure}_accuracy")) for figure in RUN_FIGURES),
            *proved([m["certified"]] if "certified" in m else []),
            *printed(name),
        ]
        for name, m in found.items()
    ]
    notes = {
        f"{m['count']} images, eps {m['eps']:g}, seed {m['seed']}, {m['selection']}; "
        + ", ".join(f"{package} {v}" for package, v in m["versions"].items())
        for m in found.values()
    }
    head = ["Recipe", "Backend", "Natural", "PGD", "IBP-certified", "TAPS", "Certified", "Unknown"]
    head += ["Paper: natural", "certified"]
    return "\n\n".join([table(head, rows), "\n".join(f"- {note}." for note in sorted(notes))])


def page(results=RESULTS):
    """The page as text, from a folder of results."""
    results = Path(results)
    return PAGE.format(
        training_step=sections(results),
        convolution=convolution(read_json(results / "convolution.json")),
        small_convolutions=small_convolutions(read_json(results / "small_convolutions.json")),
        gpu=gpu_tables.section(results / "gpu"),
        startup=startup(read_json(results / "startup.json")),
        changes=changes(read_json(results / "training_changes.json")),
        precision=precision(read_json(results / "precision.json")),
        mnist=short_training(read_json(results / "short_training_mnist.json")),
        fashion_mnist=short_training(read_json(results / "short_training_fashion_mnist.json")),
        runs=runs(results / "runs"),
        other_systems=other_systems(read_json(results / "other_systems.json")),
        certification=certification(read_json(results / "certification.json")),
        then_and_now=then_and_now(read_json(results / "certification_then.json")),
        branch_and_bound=branch_and_bound(read_json(results / "branch_and_bound.json")),
        hard_set=hard_set(read_json(results / "hard_set.json")),
        tuning=tuning_tables.section(results),
        competition=competition(read_json(results / "competition.json")),
        tried=tried(
            read_json(results / "competition_tried.json"), read_json(results / "competition.json")
        ),
    )


def with_results(text, results=RESULTS):
    """A text, the README, with the accuracies of the 400 steps between its two markers."""
    before, rest = text.split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    content = read_json(Path(results) / "short_training_mnist.json")
    section = accuracies(content) if content else NOT_MEASURED
    return f"{before}{MARKERS[0]}\n\n{section}\n\n{MARKERS[1]}{after}"


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 if the page is stale")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of JSON files")
    parser.add_argument("--output", type=Path, default=DOCS / "benchmarks.md")
    parser.add_argument("--readme", type=Path, default=DOCS.parent / "README.md")
    options = parser.parse_args(arguments)
    readme = options.readme.read_text(encoding="utf-8")
    pages = {
        options.output: page(options.results),
        options.output.parent / "results.md": results_page.page(options.results),
        options.readme: with_results(readme, options.results),
    }
    images = options.output.parent / "images"
    if options.check:
        stale = [p for p, text in pages.items() if not p.exists() or p.read_text("utf-8") != text]
        stale += stale_pictures(options.results, images)
        stale += tuning_tables.stale_pictures(options.results, images)
        stale += results_page.stale_pictures(options.results, images)
        for path in stale:
            print(f"{path} is stale: run python benchmarks/tables.py", file=sys.stderr)
        if stale:
            sys.exit(1)
        return
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    pictures(options.results, images)
    tuning_tables.pictures(options.results, images)
    results_page.pictures(options.results, images)


if __name__ == "__main__":
    main()
