"""The folder beside a report: the network, and what shows each verdict."""

import numpy as np

from keras_taps.files import write_atomically
from keras_taps.verification.certificate.claims import TIGHTENED
from keras_taps.verification.certificate.proofs import pack_tightening, pack_trees
from keras_taps.verification.certificate.report import file_of, files_of
from keras_taps.verification.certificate.schema import CERTIFIED, FALSIFIED


class Evidence:
    """The files of a report; see the certificate format.

    Args:
        out: Path of the report.
        graph: `Graph`.
        fresh: Whether what lies there is of a report that is gone.
    """

    def __init__(self, out, graph, fresh):
        self.folder = files_of(out)
        self.folder.mkdir(parents=True, exist_ok=True)
        for kind in ("certificate", "counterexample", "image") if fresh else ():
            for path in self.folder.glob(f"{kind}-*.npz"):
                path.unlink()
        write_atomically(self.folder / "network.npz", graph.save)

    def write(self, task, x, label, eps, certificates):
        """Write what shows the verdict of a task: a point always, the rest if asked for."""
        content = {}
        if task.verdict == FALSIFIED:
            content["point"] = task.point
        elif not certificates:
            return
        elif task.verdict == CERTIFIED:
            content["method"] = np.str_(task.method)
            if task.slopes is not None:
                content["slopes"] = task.slopes.astype("<f4")
            if task.method in TIGHTENED:
                content.update(pack_tightening(task.tightening))
            if task.method == "bab":
                content.update(pack_trees(task.trees or []))
        self._save(task.query.index, task.verdict, x, label, eps, **content)

    def keep_image(self, record, x, eps):
        """Write the image of a record that needs nothing else, if it is not there."""
        needs_more = record["verdict"] in (CERTIFIED, FALSIFIED)
        if not needs_more and not file_of(self.folder, record["index"], record["verdict"]).exists():
            self._save(record["index"], record["verdict"], x, record["label"], eps)

    def _save(self, index, verdict, x, label, eps, **content):
        content |= {"x": x.astype("<f4"), "label": np.int64(label), "eps": np.asarray(eps, "<f8")}
        path = file_of(self.folder, index, verdict)
        write_atomically(path, lambda to: np.savez_compressed(to, **content))

    def without_certificate(self, records):
        """Records whose proof could be kept and is not."""
        return [
            record
            for record in records
            if record["verdict"] == CERTIFIED
            and not file_of(self.folder, record["index"], CERTIFIED).exists()
        ]
