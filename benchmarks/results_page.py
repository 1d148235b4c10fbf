"""The page of the reproduced tables and figures, from `keras-taps reproduce`.

Copy `results.json` of a target to `benchmarks/results/reproduction/SCALE/TARGET.json` and run
tables.py: it writes docs/results.md and draws the figures into docs/images/results.
"""

from collections import Counter
from itertools import compress
from pathlib import Path

from pictures import save_picture, shows
from provenance import read_json
from tables_format import BACKENDS, NOT_MEASURED, table

PAGE = """\
# Results

The tables and figures of the paper (Mao et al. 2023), made again: ours beside the paper's numbers,
in percent where nothing else is said.

{found}

[How they were made](#how-they-were-made) says what can be compared with the paper and what cannot.

{sections}

## How they were made

This page is written by `python benchmarks/tables.py` from the files in
`benchmarks/results/reproduction`, each of which holds every recipe, seed, figure and version; do
not edit it. Each section names the command that made it; `keras-taps reproduce list` lists all
targets, also those that have not been run. What is in the folder of a target is not done again:
`--seeds 1` adds a seed to it, `--images N` certifies more test images. After ± in tables of
measurements stands the deviation between seeds.

A scale other than `full` shrinks networks, epochs and test sets as its section says. Its numbers
are not to be compared with the paper's one by one: what can be compared are the trends, which the
last table of some sections lists. Each is about a difference between two fixed rows that is
positive (or near 0, or large) in the paper, of accuracies in points, beside ours; ± leaves a doubt
of about 5 %, from the spread between seeds and from the number of test images, image by image where
the file holds the verdicts, else as if each network had images of its own. Within it a finding is
"in doubt". With one seed the table says how it is here, not whether other seeds agree:
`mnist-0.3-taps-4b541173-0` in the files of table2 and table11 at `cpu` scale is one recipe with one
seed, trained twice, 4 points of certified accuracy apart: even the rounding of another number of
cores leads a training elsewhere. The epoch is chosen on training images that are held out, a tenth
of them at full scale, where the authors chose on the test images: by TAPS accuracy, in PGD training
by accuracy under attack.
"""

NOTES = {
    ("full", "figure1"): """\
The error is the bound less the exact margin, in units of the logits. Each histogram has a range of
its own; bars hold all images but the outermost two in a thousand. The networks are trained at 0.1,
twice the radius of the test, and all errors of IBP are several times smaller than the authors'. The
paper does not say at which radius its networks were trained; `figure1-at-0.05` suggests that it was
that of the test. With a single filter seeds differ more than methods do: with the third every
network is about ten points of exact robust accuracy below those of the others.""",
    ("full", "figure1-at-0.05"): """\
The same networks trained at the radius of the test: the errors of IBP and TAPS come near the
authors'. Two differences stay. The authors' code ends an attack on an image when its class changes,
so on images that are not robust its margins by PGD, and by SABR whose box lies around such a point,
are not the largest: their deviations are several times ours. And the authors' network trained by
PGD is much less regular than ours. How it was trained the paper does not say; usual initial weights
in place of those of the IBP initialisation, which all networks here have, did not explain it in one
trial.""",
    ("cpu", "table2"): """\
The complete verifier decides nearly every image of networks this small, in hundredths of a second,
whatever the weight. So what costs the authors' networks their certificates at large weights, that
they cannot be verified in time, does not show here.""",
    ("cpu", "table3"): """\
Here the single estimator with one ReLU after the split does not collapse.""",
}


_ENDS = {
    "yes": "confirmed",
    "no": "contradicted",
    "one seed: yes": "confirmed with one seed",
    "one seed: no": "contradicted with one seed",
}


def page(results):
    """The page as text, from a folder of results."""
    contents = _contents(results).values()
    sections = "\n\n".join(map(_section, contents)) or NOT_MEASURED
    return PAGE.format(found=_found(contents), sections=sections)


def _found(contents):
    """A picture, and what became of the paper's findings in each section."""
    from keras_taps.reproduction.trends import trends

    drawn = [content for content in contents if _figure(content)]
    shown = [content for content in drawn if content["scale"] == "full"] or drawn
    lines = []
    for content in contents:
        holds = Counter(_ENDS.get(each["holds"], each["holds"]) for each in trends(content))
        named = ", ".join(f"{count} {end}" for end, count in holds.most_common())
        findings = f". Findings of the paper: {named}" if named else ""
        lines.append(
            f"- **{content['target']}** ({content['scale']} scale): {content['title']}{findings}."
        )
    return "\n\n".join([*map(_image, shown[:1]), "\n".join(lines)])


def pictures(results, folder):
    """Draw the figures of all results."""
    from keras_taps.reproduction import figures

    for path, content in _drawn(results, folder).items():
        save_picture(getattr(figures, _figure(content))(content), path, content["records"])


def stale_pictures(results, folder):
    """Paths of the pictures that do not show the results."""
    found = _drawn(results, folder)
    return [path for path, content in found.items() if not shows(path, content["records"])]


def _drawn(results, folder):
    """Dictionary from the paths of pictures to what they show."""
    contents = filter(_figure, _contents(results).values())
    return {Path(folder) / "results" / _picture(content): content for content in contents}


def _contents(results):
    """Dictionary from paths to results, in the order of the targets."""
    from keras_taps.reproduction import TARGETS

    folder = Path(results) / "reproduction"
    found = [path for name in TARGETS for path in sorted(folder.glob(f"*/{name}.json"))]
    return {path: read_json(path) for path in found}


def _section(content):
    from keras_taps.reproduction import TARGETS
    from keras_taps.reproduction.tables import images_text, remarks, training_seconds

    name, scale = content["target"], content["scale"]
    target = TARGETS[name]
    seeds = ", ".join(map(str, content["seeds"]))
    seconds = training_seconds(content)
    versions = [record["provenance"]["versions"] for record in content["records"]]
    packages = dict.fromkeys(f"{name} {v}" for each in versions for name, v in each.items() if v)
    broken = [f"{r['method']} {r['setting']}" for r in content["records"] if "diverged" in r]
    parts = [
        f"## {name}: {content['title']}",
        f"Scale `{scale}`: {content['scale_text']}",
        _image(content) if _figure(content) else "",
        NOTES.get((scale, name), ""),
        *_tables(target, content),
        remarks(content).replace("*", "\\*", 1),
        _trends(content),
        f"Not at this scale: {'; '.join(content['left_out'])}." if content["left_out"] else "",
        "; ".join(f"{name}: {text}" for name, text in content["failed"].items()),
        f"Training diverged, the epochs before are shown: {'; '.join(broken)}." if broken else "",
        f"- Seeds {seeds}; {images_text(content)}; "
        f"{BACKENDS[content['backend']]}; {seconds / 60:.0f} minutes of training; "
        + ", ".join(packages)
        + f".\n- `{_command(content)}`"
        + ("" if _complete(content) else "\n- Not complete: the same command resumes it."),
    ]
    return "\n\n".join(filter(None, parts))


def _tables(target, content):
    from keras_taps.reproduction.tables import tables_of

    for caption, (head, rows) in tables_of(target, content).items():
        if caption:
            yield f"**{caption.capitalize()}**"
        filled = [any(cells) for cells in zip(*rows, strict=True)]  # not without a setting
        head, *rows = ([*compress(row, filled)] for row in [head, *rows])
        yield table([name.replace("_", " ") for name in head], rows)


def _trends(content):
    from keras_taps.reproduction.trends import trend_table

    head, rows = trend_table(content)
    return table(head, rows) if rows else ""


def _command(content):
    seeds = ",".join(map(str, content["seeds"]))
    return f"{content['command']} --seeds {seeds} --backend {content['backend']}"


def _complete(content):
    return content["done"] == content["rows"]


def _figure(content):
    from keras_taps.reproduction import TARGETS

    return TARGETS[content["target"]].figure


def _image(content):
    return f"![{content['title']}](images/results/{_picture(content)})"


def _picture(content):
    return f"{content['scale']}-{content['target']}.png"
