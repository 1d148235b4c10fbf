"""The lines of a report as they come from outside: what is none is refused, by its number."""

import json
import math
import re
import sys

from keras_taps.domain import UNIT, Domain, check_radius

FORMAT = "keras_taps certification report 4"
_THIRD = "keras_taps certification report 3"  # proofs.py says what its trees may have
_SECOND = "keras_taps certification report 2"  # like it, about inputs in [0, 1] and one number eps
CERTIFIED, FALSIFIED, UNKNOWN = "certified", "falsified", "unknown"
MISCLASSIFIED = "misclassified"
VERDICTS = (CERTIFIED, FALSIFIED, UNKNOWN, MISCLASSIFIED)
NATURAL = "natural"  # the stage that asks the model itself
MOST = 2**31  # images, classes
_AXES = 8  # of an input

_HASH = re.compile("[0-9a-f]{64}")


def _whole(value):
    return type(value) is int and 0 <= value < MOST


def _number(value):
    most = sys.float_info.max  # a whole number in JSON may be beyond it
    return type(value) in (int, float) and -most <= value <= most


def _seconds(value):
    return _number(value) and value >= 0


def _hash(value):
    return type(value) is str and _HASH.fullmatch(value) is not None


def _text(value):
    return type(value) is str


def _truth(value):
    return type(value) is bool


def _names(value):
    return type(value) is list and all(map(_text, value)) and len(set(value)) == len(value)


def _or_none(check):
    return lambda value: value is None or check(value)


def _accounts(value):
    return type(value) is dict and all(map(_seconds, value.values()))


def _nested(value, check, depth=_AXES):
    """Whether `check` holds of a value, or of each entry of its nested lists."""
    if type(value) is list:
        return depth > 0 and all(_nested(part, check, depth - 1) for part in value)
    return check(value)


def _radius(value):
    if not _nested(value, _number):
        return False
    try:
        check_radius("eps", value, Domain.of(None))
    except ValueError:
        return False
    return True


def _domain(value):
    """Numbers that float32 holds, as `Domain.to_config` writes them."""
    if type(value) is not list or not _nested(value, _or_none(_number), _AXES + 1):
        return False
    try:
        return Domain.of(value).to_config() == value
    except ValueError:
        return False


_HEADER = {
    "format": _text,
    "network": _hash,
    "eps": _or_none(_radius),  # none if each record has its own
    "domain": _domain,
    "count": _whole,
    "stages": _names,
}
_HEADER_ALSO = {
    "data": _hash,
    "shard": _or_none(_text),
    "trusts": _names,
    "check": _truth,
    "timeout": lambda value: value == math.inf or (_number(value) and value > 0),
    "provenance": lambda value: type(value) is dict,
}
_RECORD = {
    "index": _whole,
    "input": _hash,
    "label": _whole,
    "predicted": _whole,
    "verdict": lambda value: _text(value) and value in VERDICTS,
    "stage": _or_none(_text),
    "bound": _or_none(_number),
    "checked": _truth,
    "seconds": _seconds,
    "stage_seconds": _accounts,
}
_RECORD_ALSO = {
    "eps": _radius,
    "deployed": _truth,
    "error": _text,
    "solver": lambda value: value == CERTIFIED,
}


def read_header(line):
    """The header of a report.

    Raises:
        ValueError: If it is none, or that of another format.
    """
    header = _parsed(line)
    found = header.get("format")
    if found == _SECOND:
        _check(header, {"eps": lambda value: _number(value) and 0 <= value <= 1}, {})
        header["domain"] = UNIT.to_config()
    if found in (_SECOND, _THIRD):
        found = header["format"] = FORMAT
    if found != FORMAT and type(found) is str and found.startswith(FORMAT[:-1]):
        raise ValueError(f"it has the format {found!r}; only {FORMAT!r} is read. Certify again")
    _check(header, _HEADER, _HEADER_ALSO)
    if found != FORMAT:
        raise ValueError(f"its format is {found!r}")
    return header


def read_record(line, header):
    """One record of a report with this header.

    Raises:
        ValueError: If it is none.
    """
    record = _parsed(line)
    _check(record, _RECORD, _RECORD_ALSO)
    for name in record:
        if name not in _RECORD and name not in _RECORD_ALSO:
            raise ValueError(f"it has a field {name[:40]!r} that it should not have")
    if ("eps" in record) != (header["eps"] is None):
        raise ValueError("its radius must stand in the header, or else in each record")
    verdict, stage = record["verdict"], record["stage"]
    known = [NATURAL, *header["stages"]]
    decided = {MISCLASSIFIED: [NATURAL], UNKNOWN: [None]}.get(verdict, header["stages"])
    if stage not in decided:
        raise ValueError(f"its stage {stage!r} cannot give the verdict {verdict!r}")
    if verdict == CERTIFIED and header.get("check") and not record["checked"]:
        raise ValueError("it is certified, and the checker has not confirmed it")
    if verdict != CERTIFIED and record.get("deployed"):
        raise ValueError(f"it is {verdict}, and proved of the network as it is deployed")
    if verdict not in (CERTIFIED, FALSIFIED) and record["checked"]:
        raise ValueError(f"it is {verdict}, which no checker confirms")
    if "solver" in record and verdict != UNKNOWN:
        raise ValueError("it has a verdict and the word of a solver")
    if not set(record["stage_seconds"]) <= set(known):
        raise ValueError("its `stage_seconds` name other stages than the header")
    if (verdict == MISCLASSIFIED) == (record["label"] == record["predicted"]):
        raise ValueError(f"its verdict {verdict!r} contradicts its label and predicted class")
    return record


def _check(found, needed, also):
    for name, check in needed.items():
        if name not in found:
            raise ValueError(f"it lacks `{name}`")
        if not check(found[name]):
            raise ValueError(f"its `{name}` is {_brief(found[name])}")
    for name, check in also.items():
        if name in found and not check(found[name]):
            raise ValueError(f"its `{name}` is {_brief(found[name])}")


def _brief(value):
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _parsed(line):
    """A JSON object, each name once."""
    try:
        found = json.loads(line, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if type(found) is not dict:
        raise ValueError("it is not a JSON object")
    return found


def _once(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a field twice")
    return found
