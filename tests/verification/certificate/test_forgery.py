"""Forgers at work: whatever is done to an honest report, no false claim is ever confirmed.

The receiver has the network, the images and the labels. The truth of each verdict is known, so a
forgery may lead to a refusal, a rejected record, or the truth; never to anything else.
"""

import contextlib
import json
import shutil
import struct
import zipfile

import numpy as np
import pytest

from keras_taps.verification import Graph, certify, read_network, recheck
from keras_taps.verification.certificate.report import Report, file_of, files_of, input_hash
from keras_taps.verification.graph.nodes import Dense
from tests.verification.problems import EPS, tiny

pytestmark = pytest.mark.once


class Case:
    """An honest report on a few images, and the receiver's own network and data."""

    def __init__(self, folder):
        network, x, y = tiny()
        self.graph, self.folder = read_network(network), folder
        chosen = self._varied(network, x, y, folder / "all.jsonl")
        self.x, self.y = x[chosen], y[chosen]
        options = {"stages": self.stages, "certificates": True, "batch_size": 8}
        self.report = certify(network, self.x, self.y, EPS, out=folder / "a" / "r.jsonl", **options)
        self.truth = dict(enumerate(self.report.verdicts.tolist()))

    stages = ("ibp", "attack", "alpha-crown", "bab")

    def _varied(self, network, x, y, path):
        """One image of each stage that decided, so that every kind of file is there."""
        report = certify(network, x, y, EPS, stages=self.stages, batch_size=8)
        by_stage = {}
        for record in sorted(report.records, key=lambda record: record["index"]):
            by_stage.setdefault((record["stage"], record["verdict"]), []).append(record["index"])
        return sorted(index for found in by_stage.values() for index in found[:1])

    def copy(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.report.path.parent, folder)
        return folder / "r.jsonl"

    def file(self, path, index):
        verdict = self.truth[index]
        return file_of(path.with_suffix(".files"), index, verdict)

    def first(self, verdict):
        """The first image with a verdict."""
        return next(index for index, found in self.truth.items() if found == verdict)

    def judge(self, path, must_fail=True, alone=True):
        """Recheck as the receiver; the reasons. Fails if something false was confirmed."""
        with contextlib.suppress(ValueError, FileNotFoundError):
            if alone:  # a receiver without data: nothing but a sentence may come of it
                recheck(path)
        try:
            found = recheck(path, self.graph, self.x, self.y, EPS)
        except (ValueError, FileNotFoundError) as error:
            return [str(error)]
        for index, verdict in found.verdicts.items():
            true = self.truth[index]
            assert verdict == true or (verdict == "unknown" and true != "misclassified")
        deployed = {r["index"] for r in self.report.records if r.get("deployed")}
        assert set(found.deployed) <= deployed
        shares, honest = found.accuracies(), self.report.accuracies()
        assert all(share <= honest[name] for name, share in shares.items())
        assert found.holds == (
            len(found.confirmed) == len(self.x)
            and not (found.rejected or found.without or found.twice or found.missing)
        )
        if must_fail:
            assert not found.holds
        reasons = [f"{index}: {reason}" for index, reason in found.rejected.items()]
        return reasons + [f"{name}: {getattr(found, name)}" for name in ("without", "twice")]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    found = Case(tmp_path_factory.mktemp("forgery"))
    assert set(found.truth.values()) == {"certified", "falsified", "misclassified"}
    methods = {record["stage"] for record in found.report.records}
    assert {"ibp", "alpha-crown", "bab"} <= methods
    files = files_of(found.report.path).glob("certificate-*")
    assert any("box_slopes" in np.load(file) for file in files)
    assert recheck(found.report.path, found.graph, found.x, found.y, EPS).holds
    return found


def arrays_of(file):
    with np.load(file) as content:
        return {name: content[name] for name in content.files}


# Every array of every kind of file

OTHER = {"f": "int32", "i": "float64", "u": "float32", "b": "uint8", "U": "float32"}
CHANGES = {
    "gone": lambda a, rng: None,
    "zeros": lambda a, rng: np.zeros_like(a),
    "ones": lambda a, rng: np.ones_like(a),
    "negative": lambda a, rng: -a if a.dtype.kind in "fi" else a[..., ::-1],
    "random": lambda a, rng: rng.random(a.shape).astype(a.dtype),
    "huge": lambda a, rng: (a.astype("float64") * 1e30).astype(a.dtype),
    "nan": lambda a, rng: (a * np.nan).astype(a.dtype),
    "infinite": lambda a, rng: (a * 0.0 + np.inf).astype(a.dtype),
    "swapped bytes": lambda a, rng: a.view(a.dtype.newbyteorder()),
    "big endian": lambda a, rng: a.astype(a.dtype.newbyteorder()),
    "cast": lambda a, rng: np.asarray(a).astype(OTHER[a.dtype.kind]),
    "complex": lambda a, rng: a.astype("complex128"),
    "flat": lambda a, rng: a.reshape(-1),
    "an axis more": lambda a, rng: a[None],
    "truncated": lambda a, rng: a.reshape(-1)[:-1],
    "longer": lambda a, rng: np.concatenate([a.reshape(-1)] * 2),
    "reversed": lambda a, rng: a[::-1],
    "permuted": lambda a, rng: rng.permutation(a.reshape(-1)).reshape(a.shape),
    "empty": lambda a, rng: a.reshape(-1)[:0],
    "text": lambda a, rng: np.str_("ibp"),
    "object": lambda a, rng: np.array([None, "x"], object),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", CHANGES)
def test_every_array(case, tmp_path, kind):
    rng, path, tried = np.random.default_rng(0), case.copy(tmp_path / "a"), 0
    for record in case.report.records:
        file = case.file(path, record["index"])
        honest, arrays = file.read_bytes(), arrays_of(file)
        for name in arrays:
            try:
                changed = CHANGES[kind](arrays[name], rng)
            except (ValueError, TypeError, IndexError):
                continue  # this cannot be done to such an array
            kept = {**arrays, name: changed}
            np.savez(file, **{key: value for key, value in kept.items() if value is not None})
            same = changed is not None and np.array_equal(changed, arrays[name], equal_nan=False)
            about = name in ("x", "label", "eps", "point", "method")
            case.judge(path, must_fail=about and not same and name != "point" and name != "method")
            tried += 1
        file.write_bytes(honest)
    assert tried > 10
    assert recheck(path, case.graph, case.x, case.y).holds


def test_arrays_of_another_image(case, tmp_path):
    """Whole files, and each array alone, of the next image that has one like it."""
    path = case.copy(tmp_path / "a")
    indices = sorted(case.truth)
    for index in indices:
        file = case.file(path, index)
        honest, arrays = file.read_bytes(), arrays_of(file)
        for other in indices:
            if other == index or case.truth[other] != case.truth[index]:
                continue
            theirs = arrays_of(case.file(path, other))
            for name in (*theirs, None):
                taken = theirs if name is None else {**arrays, name: theirs[name]}
                np.savez(file, **taken)
                case.judge(path, must_fail=name in (None, "x"), alone=False)
        file.write_bytes(honest)


# Every field of every record, and of the header


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


VALUES = [None, True, -1, 0, 10**40, 0.5, "certified", [], {}, float("nan"), "0" * 64]


def test_every_field(case, tmp_path):
    path = case.copy(tmp_path / "a")
    honest = lines_of(path)
    free = {"seconds", "stage_seconds", "stage", "bound", "checked", "deployed", "error"}
    free |= {"data", "shard", "check", "timeout", "iterations", "branching", "seed"}
    free |= {"provenance", "stages"}
    some = {case.first(verdict) for verdict in set(case.truth.values())}
    chosen = [n for n, line in enumerate(honest) if line.get("index", min(some)) in some]
    for number, line in ((n, honest[n]) for n in chosen):
        for name in line:
            for value in [*VALUES, *[other.get(name) for other in honest[1:4]], ...]:
                changed = {**line, name: value}
                if value is ...:
                    del changed[name]
                if changed == line:
                    continue
                write(path, [*honest[:number], changed, *honest[number + 1 :]])
                reasons = case.judge(path, must_fail=name not in free, alone=value is None)
                if reasons and "line" in reasons[0] and number:
                    assert f"line {number + 1}:" in reasons[0]
        text = json.dumps(line)
        twice = f'{text[:-1]}, "{next(iter(line))}": {json.dumps(line[next(iter(line))])}}}'
        texts = [json.dumps(each) for each in honest]
        path.write_text("\n".join([*texts[:number], twice, *texts[number + 1 :]]) + "\n")
        assert "twice" in case.judge(path)[0]
        write(path, [*honest[:number], {**line, "surprise": 1}, *honest[number + 1 :]])
        case.judge(path, must_fail=number > 0)


def certified_without(record):
    return {**record, "verdict": "certified", "stage": "ibp", "predicted": record["label"]}


def test_records_that_come_and_go(case, tmp_path):
    path = case.copy(tmp_path / "a")
    header, *records = lines_of(path)
    proved = [r for r in records if r["verdict"] == "certified"]
    forgeries = {
        "a header alone": [header],
        "no header": records,
        "nothing": [],
        "the certified alone": [header, *proved],
        "the last is missing": [header, *records[:-1]],
        "one twice": [header, *records, records[0]],
        "one twice, with another verdict": [header, *records, certified_without(records[0])],
        "all are certified": [header, *map(certified_without, records)],
        "more": [header, *records, {**proved[0], "index": len(records)}],
        "far": [header, *records, {**proved[0], "index": 10**6}],
        "two headers": [header, header, *records],
        "exchanged": [header, *({**r, "index": (r["index"] + 1) % len(records)} for r in records)],
        "unknown instead of misclassified": [
            header,
            *(
                {**r, "verdict": "unknown", "stage": None, "predicted": r["label"]}
                if r["verdict"] == "misclassified"
                else r
                for r in records
            ),
        ],
        "a list": [header, [], *records],
        "the format of another version": [{**header, "format": header["format"][:-1] + "1"}],
    }
    for name, lines in forgeries.items():
        write(path, lines)
        assert case.judge(path), name
    write(path, [header, *records[::-1]])  # in whatever order
    assert recheck(path, case.graph, case.x, case.y).holds
    path.write_bytes(path.read_bytes().replace(b'"index"', b'"ind\xffx"', 1))
    assert "line 2" in case.judge(path)[0]
    write(path, [{**header, "format": header["format"][:-1] + "1"}, *records])
    assert "Certify again" in case.judge(path)[0]


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.001, 2.0, 10.0])
def test_another_radius(case, tmp_path, factor):
    """In the header alone, and in every file as well."""
    path = case.copy(tmp_path / "a")
    header, *records = lines_of(path)
    write(path, [{**header, "eps": EPS * factor}, *records])
    case.judge(path)
    for record in records:
        file = case.file(path, record["index"])
        np.savez(file, **{**arrays_of(file), "eps": np.float64(EPS * factor)})
    case.judge(path)
    found = recheck(path, case.graph, case.x, case.y)  # a receiver who does not say which
    if factor > 1:
        assert found.accuracies()["certified"] <= case.report.accuracies()["certified"]


def test_verdicts_exchanged_with_their_files(case, tmp_path):
    """Counterexamples become certificates, and a proof is copied to every image."""
    for index, verdict in case.truth.items():
        path = case.copy(tmp_path / "a")
        header, *records = lines_of(path)
        folder = path.with_suffix(".files")
        for other in case.truth:
            if case.truth[other] == "certified" and other != index:
                proof = arrays_of(case.file(path, other))
                mine = {"x": case.x[index], "label": np.int64(case.y[index])}
                np.savez(file_of(folder, index, "certified"), **{**proof, **mine})
                changed = [certified_without(r) if r["index"] == index else r for r in records]
                for r in changed:
                    if r["index"] == index:
                        r["bound"] = None
                        r["checked"] = False
                write(path, [header, *changed])
                case.judge(path, must_fail=verdict != "certified", alone=False)


def test_an_easier_image_with_the_same_bytes(case, tmp_path):
    """What broke the first version: values read in the other byte order, near 0."""
    for index in case.truth:
        path = case.copy(tmp_path / "a")
        header, *records = lines_of(path)
        proof = next(
            arrays_of(case.file(path, i)) for i, v in case.truth.items() if v == "certified"
        )
        swapped = case.x[index].view(">f4")
        proof = {**proof, "x": swapped, "label": np.int64(case.y[index]), "method": np.str_("ibp")}
        np.savez(file_of(path.with_suffix(".files"), index, "certified"), **proof)
        write(
            path, [header, *(certified_without(r) if r["index"] == index else r for r in records)]
        )
        case.judge(path, must_fail=case.truth[index] != "certified")
        assert input_hash(swapped) != input_hash(case.x[index])


# Trees


def test_trees_cut_relabelled_and_grown(case, tmp_path):
    path, tried = case.copy(tmp_path / "a"), 0
    for index, verdict in case.truth.items():
        file = case.file(path, index)
        honest = file.read_bytes()
        proof = arrays_of(file)
        if verdict != "certified" or "tree0_preorder" not in proof:
            continue
        for changed in forged_trees(proof):
            np.savez(file, **{**proof, **changed})
            case.judge(path, must_fail=False)
            tried += 1
        file.write_bytes(honest)
    assert tried > 8


def forged_trees(proof):
    """Changes of the first tree that are trees again, and some that are none."""
    pre = {name.removeprefix("tree0_"): a for name, a in proof.items() if name.startswith("tree0_")}
    leaf = {
        "preorder": np.array([-1], "int32"),
        "slopes": pre["slopes"][:1],
        "betas": np.zeros(0, "float32"),
        "mix": pre["mix"][:1],
    }
    found = [leaf, {"rebased": pre["preorder"] >= 0}, {"mix": pre["mix"] * np.float32(-1)}]
    found += [{"slopes": 255 - pre["slopes"]}, {"slopes": pre["slopes"][::-1]}]
    found += [{"neurons": pre["neurons"][::-1]}, {"preorder": pre["preorder"][::-1]}]
    found += [{"betas": pre["betas"] * np.float32(1e6)}, {"betas": -pre["betas"]}]
    found += [{"group": np.int64(n)} for n in (-1, 0, 1, 2, 99)]
    found += [{"neurons": np.zeros_like(pre["neurons"])}]
    grown = np.concatenate([pre["preorder"][:1], pre["preorder"]])
    found += [{"preorder": grown}, {"preorder": np.full(10**5, pre["neurons"][0], "int32")}]
    for change in found:
        yield {f"tree0_{name}": np.ascontiguousarray(array) for name, array in change.items()}


# Networks


def test_other_networks(case, tmp_path):
    """The receiver's is another; and files that are no network are refused by everybody."""
    path = case.copy(tmp_path / "a")
    stored = path.with_suffix(".files") / "network.npz"
    header, *records = lines_of(path)
    zero = Graph((Dense(np.zeros((3, 3)), np.eye(3)[int(case.y[0])]),))
    zero.save(stored)
    write(path, [{**header, "network": zero.hash}, *records])
    assert "network" in case.judge(path)[0]
    case.graph.save(stored)
    write(path, [header, *records])
    arrays = arrays_of(stored)
    text = str(arrays["structure"])
    forged = [
        text.replace('"kind": "Dense"', '"kind": "Dense", "magnitude": {"array": 0}', 1),
        text.replace("network 2", "network 1"),
        text.replace('"array": 1', '"array": 0'),
        text.replace('"array": 1', '"array": 1000000000000'),
        text.replace('"array": 1', '"array": -1'),
        text.replace("Relu", "Exec"),
        text.replace("[4]", "[4000000000]"),
        text.replace("[4]", "[[4]]"),
        text.replace('"slope": 0.0', '"slope": NaN'),
        text.replace('"slope": 0.0', '"slope": -5.0'),
        text[:-1],
        "[" * 5000,
        "{}",
        "1",
        "",
    ]
    for changed in forged:
        assert changed != text
        np.savez(stored, **{**arrays, "structure": np.str_(changed)})
        with pytest.raises(ValueError, match=r"damaged|about network"):
            recheck(path)
    for name, array in arrays.items():
        if name != "structure":
            for other in (array[..., :-1], array + np.inf, array.astype("float32"), array.T[None]):
                np.savez(stored, **{**arrays, name: other})
                with pytest.raises(ValueError, match=r"damaged|about network"):
                    recheck(path)


# Bytes


def test_files_that_ask_for_memory(case, tmp_path):
    """A header may say anything; 12 GiB are not allocated to find out."""
    path = case.copy(tmp_path / "a")
    index = case.first("certified")
    file = case.file(path, index)
    arrays = arrays_of(file)
    for name, kind in (("slopes", "<f4"), ("tree0_preorder", "<i4"), ("x", "<f4"), ("q", "<f4")):
        shape = (2**17, 2**15) if kind == "<f4" else (2**32,)
        header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
        header = header.ljust(118) + "\n"
        np.savez(file, **{key: a for key, a in arrays.items() if key != name})
        with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
            head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
            archive.writestr(f"{name}.npy", head + bytes(2**20))
        assert any(f"{index}: " in reason for reason in case.judge(path))


@pytest.mark.parametrize("name", ["report", "network", "certified", "falsified", "misclassified"])
def test_any_byte(case, tmp_path, name):
    path = case.copy(tmp_path / "a")
    index = next((i for i, v in case.truth.items() if v == name), None)
    network = path.with_suffix(".files") / "network.npz"
    file = {"report": path, "network": network}.get(name) or case.file(path, index)
    honest, rng = file.read_bytes(), np.random.default_rng(1)
    for at in rng.integers(0, len(honest), 25).tolist():
        changed = bytearray(honest)
        changed[at] ^= int(rng.integers(1, 256))
        file.write_bytes(bytes(changed))
        case.judge(path, must_fail=False)
        file.write_bytes(honest[:at])
        case.judge(path, must_fail=name != "network")


def test_the_honest_report_holds_as_it_was_written(case):
    assert Report.load(case.report.path).accuracies() == case.report.accuracies()
    assert recheck(case.report.path, case.graph, case.x, case.y, EPS).holds
