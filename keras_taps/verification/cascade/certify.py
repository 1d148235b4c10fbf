"""From a model and a test set to a report: the cascade over every input.

It is long because it says what every argument means, for a function and for a class.
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_taps.checks import check_real
from keras_taps.choices import DEFAULT_STAGES
from keras_taps.domain import plain
from keras_taps.networks.load import ModelLike
from keras_taps.processes import one_writer
from keras_taps.provenance import provenance
from keras_taps.radii import Radii
from keras_taps.typing import StrPath
from keras_taps.verification.cascade.evidence import Evidence
from keras_taps.verification.cascade.given import (
    check_stages,
    checked_data,
    load_network,
    own_outputs,
    parse_shard,
)
from keras_taps.verification.cascade.options import Options
from keras_taps.verification.cascade.stages import Verifier
from keras_taps.verification.cascade.task import Task
from keras_taps.verification.cascade.tightener import EACH
from keras_taps.verification.cascade.writer import ReportWriter
from keras_taps.verification.certificate.report import Report, array_hash, files_of, input_hash
from keras_taps.verification.certificate.schema import (
    CERTIFIED,
    FORMAT,
    MISCLASSIFIED,
    NATURAL,
    UNKNOWN,
)
from keras_taps.verification.graph.traverse import foreign

BLOCK = 1024  # inputs that go through the cascade together, so that the last open ones fill batches


def certify(
    model: ModelLike,
    x: ArrayLike,
    y: ArrayLike,
    eps: ArrayLike,
    *,
    domain: Any = "model",
    stages: str | Sequence[str] = DEFAULT_STAGES,
    timeout: float = 60,
    out: StrPath | None = None,
    shard: str | None = None,
    certificates: bool = False,
    progress: Callable[[Report, int], object] | None = None,
    **options: Any,
) -> Report:
    """Prove or refute the robustness of a model on every input of a test set.

    Each input goes through the stages, cheapest first, until one decides: interval arithmetic,
    attacks, CROWN-IBP, CROWN with bounds on every unstable neuron, alpha-CROWN with
    tighter boxes of inner neurons, branch and bound, and, if asked for, exact mixed integer
    programming. Branch and bound comes last and deepens: all inputs get a second, then those left
    ten, and so on, so that most verdicts are in early. Ties count as not robust.

    A float64 checker derives every bound again with its rounding errors, and proves two things:
    'certified' is about the network in real arithmetic, with the parameters of the model;
    `certified_as_deployed` about the float32 network that runs, whatever the order of its sums.

    Args:
        model: `IntervalSequential`, a model of certified training, a Keras model that `convert`
            takes, or the path of a `.keras` file or a run folder with one of them.
        x: Array `(count, ...)` of inputs in the domain; boxes are about their float32 values.
        y: Integer array `(count,)` of labels.
        eps: Radius in units of the inputs: a number, text such as "2/255", an array that
            broadcasts to one input, such as one radius a channel or a feature, or one radius for
            each input: an array `(count,)`, or one with an axis more than an input and `count`
            along its first. `count` numbers that would fit as many features are refused:
            `eps[:, None]` is one for each row, `eps[None]` one for each feature.
        domain: What values inputs may take: `(low, high)`, numbers or arrays that broadcast to one
            input; `None` for no bounds; or 'model', those of a trained model, [0, 1] for others.
        stages: Names out of `STAGES`, in order: a list, or text with commas.
        timeout: Seconds an input; whoever has used them up enters no further stage.
        out: Path of the report. Records are appended as they come; the same call again goes on
            where it stopped, and one with more images or a longer timeout adds to it.
            Counterexamples and certificates lie in a folder beside it.
        shard: Text "i/n": only every n-th input, from the i-th; `merge_reports` joins the reports.
        certificates: Whether to keep for each certified input what `recheck` needs to repeat the
            proof; inputs that an earlier run certified without it are proved again.
        progress: Called as `progress(report, total)` with what the report held before, and again
            when verdicts have come in.
        **options: Fields of `Options`: `check`, `batch_size`, `iterations`, `branching`, `memory`,
            `seed`.

    Returns:
        `Report`.

    Raises:
        FileNotFoundError: If `model` is a path without a file.
        ValueError: If an argument is out of range, a layer cannot be verified, or `out` holds a
            report about something else.

    Example:

    >>> network = cnn3((8, 8, 1), 10, width=1)
    >>> report = certify(network, np.zeros((2, 8, 8, 1)), np.zeros(2, int), eps=0.1, stages=["ibp"])
    >>> report.accuracies()["count"]
    2

    References:
        Mao et al. 2023, section 4 and appendix C; the works named at each stage.
    """
    certifier = Certifier(model, domain=domain, stages=stages, **options)
    return certifier.certify(
        x,
        y,
        eps,
        timeout=timeout,
        out=out,
        shard=shard,
        certificates=certificates,
        progress=progress,
    )


class Certifier:
    """A network ready to be certified: what is read and compiled once serves every call.

    It is about the weights that the network has now.

    Args:
        model: As for `certify`, like the rest.
        domain: What values inputs may take.
        stages: Names out of `STAGES`, in order.
        **options: Fields of `Options`.

    Raises:
        FileNotFoundError: If `model` is a path without a file.
        ValueError: If an argument is out of range, or a layer cannot be verified.

    Example:

    >>> certifier = Certifier(cnn3((8, 8, 1), 10, width=1), stages=["ibp"])
    >>> x, y = np.zeros((2, 8, 8, 1)), np.zeros(2, int)
    >>> [certifier.certify(x, y, eps=eps).accuracies()["count"] for eps in (0.1, 0.2)]
    [2, 2]
    """

    def __init__(
        self,
        model: ModelLike,
        *,
        domain: Any = "model",
        stages: str | Sequence[str] = DEFAULT_STAGES,
        **options: Any,
    ):
        self.options = Options.of(options)
        self.network, self.graph, self.domain = load_network(model, domain)
        self._weights = [np.array(value) for value in self.network.get_weights()]
        layers = self.network._flatten_layers()
        self._float32 = all(layer.compute_dtype == "float32" for layer in layers)
        self.stages = check_stages(stages)
        self._own = own_outputs(self.network, self.options.batch_size)
        deployed = self._float32 and not {"bab", "milp"}.isdisjoint(self.stages)
        self._verifier = Verifier(self.graph, self._own, deployed=deployed, **options)

    def certify(
        self,
        x: ArrayLike,
        y: ArrayLike,
        eps: ArrayLike,
        *,
        timeout: float = 60,
        out: StrPath | None = None,
        shard: str | None = None,
        certificates: bool = False,
        progress: Callable[[Report, int], object] | None = None,
    ) -> Report:
        """Prove or refute the robustness of the network on every input; as `certify`.

        Args:
            x: Array `(count, ...)` of inputs in the domain.
            y: Integer array `(count,)` of labels.
            eps: Radius, or one for each input.
            timeout: Seconds an input.
            out: Path of the report, or `None`.
            shard: Text "i/n", or `None`.
            certificates: Whether to keep what `recheck` needs to repeat each proof.
            progress: Called as `progress(report, total)`.

        Returns:
            `Report`.

        Raises:
            FolderInUse: If another process writes to `out`.
            ValueError: If an argument is out of range, `out` holds a report about something else,
                or the weights of the network have changed.
        """
        x, y = checked_data(x, y, self.network, self.domain)
        radii = Radii.of(eps, self.graph.in_shape, len(x), self.domain)
        check_real("timeout", timeout, 0, math.inf, low_open=True)
        first, step = parse_shard(shard)
        now = self.network.get_weights()
        if not all(np.array_equal(*pair) for pair in zip(now, self._weights, strict=True)):
            raise ValueError(
                "The weights of the network have changed since this `Certifier` was made. Make "
                "another one."
            )
        header = {
            "format": FORMAT,
            "network": self.graph.hash,
            "eps": None if radii.differ else plain(radii.shared),
            "domain": self.domain.to_config(),
            "data": array_hash(x.astype("<f4"), y.astype("<i8")),
            "count": len(range(first, len(x), step)),
            "shard": shard,
            "timeout": timeout,
            "stages": list(self.stages),
            **({"trusts": trusts} if (trusts := foreign(self.graph.nodes)) else {}),
            **self.options.about,
            "provenance": provenance(),
        }

        indices = range(first, len(x), step)

        def knows(record):
            i = record["index"]
            return (
                i in indices
                and record["input"] == input_hash(x[i])
                and record["label"] == int(y[i])
                and record.get("eps") == _own(radii, i).get("eps")
            )

        with one_writer(None if out is None else files_of(out), f"Report '{out}'"):
            writer = ReportWriter(out, header, knows)
            return self._decide(writer, x, y, radii, indices, certificates, progress)

    def _decide(self, writer, x, y, radii, indices, certificates, progress):
        """Send the inputs that a report has no records of through the cascade."""
        out, header = writer.path, writer.report.header
        timeout = header["timeout"]
        files = None if out is None else Evidence(out, self.graph, fresh=not writer.report.records)
        if files and certificates:
            writer.forget(files.without_certificate(writer.report.records))
            for record in writer.report.records:
                files.keep_image(record, x[record["index"]], radii[record["index"]])
        done = {record["index"] for record in writer.report.records}
        waiting = [index for index in indices if index not in done]
        stages, verifier = self.stages, self._verifier
        if progress and done:
            progress(writer.report, header["count"])
        deep = stages.index("bab") if "bab" in stages else len(stages)

        def write(batch):
            """Write what is decided at once: a kill loses one batch of one stage."""
            ended = [task for task in batch if task.verdict is not None]
            if files is not None:
                for task in ended:
                    i = task.query.index
                    files.write(task, x[i], int(y[i]), radii[i], certificates)
            for task in ended:  # the claim is about float32
                task.deployed = task.deployed and self._float32
            mine = [task.query.index for task in ended]
            writer.add(
                [
                    _record(task, x[i], int(y[i])) | _own(radii, i)
                    for task, i in zip(ended, mine, strict=True)
                ]
            )
            if progress and ended:
                progress(writer.report, header["count"])
            for task in ended:  # which stay in lists until the last of thousands is decided
                task.release()

        left = []
        for start in range(0, len(waiting), BLOCK):
            chosen = waiting[start : start + BLOCK]
            began = time.perf_counter()
            predicted = self._own(x[chosen]).argmax(-1)
            natural = (time.perf_counter() - began) / len(chosen)
            tasks = []
            for index, guess in zip(chosen, predicted, strict=True):
                task = Task.around(
                    x[index], int(y[index]), radii[index], self.graph.outputs, index, self.domain
                )
                task.predicted = int(guess)
                task.spend(NATURAL, natural)
                if guess != y[index]:
                    task.decide(MISCLASSIFIED, NATURAL)
                tasks.append(task)
            write(tasks)
            for stage in stages[:deep]:
                tasks = [task for task in tasks if task.verdict is None]
                verifier.run(stage, tasks, timeout, write, EACH)
            left += [task for task in tasks if task.verdict is None]
            if sum(task.bytes for task in left) > self.options.memory:
                for task in left:
                    task.forget_boxes()
        for budget in _budgets(timeout) if deep < len(stages) else ():
            left = [task for task in left if task.verdict is None]
            verifier.run("bab", left, timeout, write, budget)
        for stage in stages[deep + 1 :]:
            left = [task for task in left if task.verdict is None]
            verifier.run(stage, left, timeout, write)
        left = [task for task in left if task.verdict is None]
        for task in left:
            task.error = task.error or _why(task, stages, timeout)
            task.decide(UNKNOWN, None)
        write(left)
        return writer.report


def _budgets(timeout):
    """Seconds of branch and bound in each round: 1, 10, 100, ... and at last the timeout."""
    return [*(10.0**n for n in range(5) if 10.0**n < timeout), timeout]


def _why(task, stages, timeout):
    """Which stage was the last at an input that none decided, and why it ended."""
    last = [stage for stage in (NATURAL, *stages) if stage in task.seconds][-1]
    why = f"{len(task.open_forms)} classes open, bound {task.bound:.3g}"
    if task.total_seconds >= timeout:
        why = f"the time was over, {why}"
    return f"{last}: {why}"


def _own(radii, index):
    """What a record says of its radius: nothing if the header does."""
    return {"eps": plain(radii[index])} if radii.differ else {}


def _record(task, x, label):
    bound = float(task.bound)
    record = {
        "index": int(task.query.index),
        "input": input_hash(x),
        "label": label,
        "predicted": task.predicted,
        "verdict": task.verdict,
        "stage": task.stage,
        "bound": bound if task.verdict == CERTIFIED and math.isfinite(bound) else None,
        "checked": task.checked,
        "deployed": task.deployed,
        "seconds": task.total_seconds,
        "stage_seconds": task.seconds,
    }
    notes = {"error": task.error, "solver": task.solver if task.verdict == UNKNOWN else None}
    return record | {name: note for name, note in notes.items() if note is not None}
