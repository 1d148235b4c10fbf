"""What certificates say of slopes, splits and multipliers."""

import math
from fractions import Fraction
from functools import partial

from tests.verification.second_checker.bounds import EVERYTHING, INFINITE


def tree_bounds(walk, form_of, arrays, forms):
    """Bounds of the forms that have trees."""
    found, number = {}, 0
    while f"tree{number}_preorder" in arrays:
        own = {
            n.removeprefix(f"tree{number}_"): a
            for n, a in arrays.items()
            if n.startswith(f"tree{number}_")
        }
        group = own["group"][2][0]
        bound = max(leaf_bound(walk, form_of(group), leaf) for leaf in leaves(own, walk))
        found[group] = min(found.get(group, INFINITE), bound)
        number += 1
    assert all(0 <= group < forms for group in found)
    return found


def leaves(own, walk):
    """What is known in each leaf, and its mix."""
    neurons, preorder = (own[name][2] for name in ("neurons", "preorder"))
    ranges = [slopes_between(*walk.neurons[n]) for n in neurons]
    points = iter(own["points"][2] if "points" in own else [0.0] * len(preorder))
    assert len(set(neurons)) == len(neurons)
    waiting, count, betas = [()], 0, iter(own["betas"][2])
    for neuron in preorder:
        path = waiting.pop()
        if neuron != -1:
            assert neuron in neurons
            point, (low, high) = Fraction(next(points)), limits_of(path).get(neuron, EVERYTHING)
            assert low < point < high
            assert walk.neurons[neuron][0][0] == "curve" or (
                point == 0 and (low, high) == EVERYTHING
            )
            waiting += [(*path, (neuron, 1, point)), (*path, (neuron, -1, point))]
            continue
        levels = own["slopes"][2][count * len(neurons) : (count + 1) * len(neurons)]
        triples = zip(neurons, ranges, levels, strict=True)
        leaf = {"slopes": {n: a + (b - a) * Fraction(q, 255) for n, (a, b), q in triples}}
        leaf |= {"limits": limits_of(path), "betas": {}}
        for n, sign, _ in path:
            leaf["betas"][n] = leaf["betas"].get(n, 0) + sign * multiplier(next(betas))
        yield leaf | {"mix": max(Fraction(own["mix"][2][count]), Fraction(0))}
        count += 1
    assert not waiting
    assert "points" not in own or next(points, None) is None
    assert next(betas, None) is None
    assert count == own["slopes"][1][0] == own["mix"][1][0]
    assert own["mix"][1][1] == 1


def limits_of(path):
    found = {}
    for neuron, sign, point in path:
        low, high = found.get(neuron, EVERYTHING)
        found[neuron] = (max(low, point), high) if sign > 0 else (low, min(high, point))
    return found


def multiplier(value):
    return Fraction(value) if math.isfinite(value) and value > 0 else Fraction(0)


def slopes_between(node, box):
    return (node[1], Fraction(1)) if node[0] == "relu" else node[1].range(*box)


def leaf_bound(walk, form, leaf):
    for neuron, (low, high) in leaf["limits"].items():
        if low > walk.neurons[neuron][1][1] or high < walk.neurons[neuron][1][0]:
            return -INFINITE
    rows, constant = form
    mixed = {i: r * leaf["mix"] for i, r in rows.items()}, constant * leaf["mix"]
    bound = walk.bound(mixed, leaf)
    return bound / max(leaf["mix"], 1) if bound < 0 else bound


# Boxes with slopes and by cases


def tightening(arrays, neurons):
    """For each neuron that is asked again what is known of those before, for both bounds."""
    relus, levels = relus_of(neurons), arrays["box_slopes"]
    asked, columns = (arrays[f"box_{name}"][2] for name in ("asked", "columns"))
    for numbers in (asked, columns):
        assert list(numbers) == sorted(set(numbers))
        assert all(0 <= number < len(relus) for number in numbers)
    assert tuple(levels[1]) == (len(asked), 2, len(columns))
    values, columns = iter(levels[2]), [relus[c] for c in columns]
    row = partial(slopes_of_row, neurons, columns, values)
    return {relus[neuron]: ({"slopes": row()}, {"slopes": row()}) for neuron in asked}


def relus_of(neurons):
    """Where the ReLUs are among the neurons."""
    return [place for place, (node, _) in enumerate(neurons) if node[0] == "relu"]


def slopes_of_row(neurons, columns, values):
    kinks = {c: neurons[c][0][1] for c in columns}
    return {c: a + (1 - a) * Fraction(next(values), 255) for c, a in kinks.items()}


def by_cases(arrays, neurons):
    """For each neuron its bounds by cases: the side, and what is known in every case."""
    relus, columns = relus_of(neurons), arrays["box_columns"][2]
    asked, sides = (arrays[name][2] for name in ("case_asked", "case_sides"))
    _, (rows, most), splits = arrays["case_splits"]
    assert rows == len(asked) == len(sides)
    assert list(asked) == sorted(asked)
    assert most <= 12
    levels, betas, found, count = iter(arrays["case_slopes"][2]), arrays["case_betas"][2], {}, 0
    row_of = partial(slopes_of_row, neurons, [relus[c] for c in columns], levels)
    for row, (neuron, side) in enumerate(zip(asked, sides, strict=True)):
        known = [n for n in splits[row * most : (row + 1) * most] if n >= 0]
        assert list(splits[row * most : row * most + len(known)]) == known
        cases = []
        for case in range(2 ** len(known)):
            leaf = {"slopes": row_of(), "limits": {}, "betas": {}}
            for i, split in enumerate(known):
                above = case >> i & 1
                leaf["limits"][relus[split]] = (0, INFINITE) if above else (-INFINITE, 0)
                value = multiplier(betas[count * most + i])
                leaf["betas"][relus[split]] = value if above else -value
            cases.append(leaf)
            count += 1
        found.setdefault(relus[neuron], []).append((side, cases))
    assert arrays["case_slopes"][1] == (count, len(columns))
    assert arrays["case_betas"][1] == (count, most)
    return found
