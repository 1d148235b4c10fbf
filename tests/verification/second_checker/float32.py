"""What float32 may add to the values of a network."""

from fractions import Fraction

from tests.verification.second_checker.bounds import INFINITE, ZERO

U, TINY, LARGEST = Fraction(1, 2**24), Fraction(1, 2**126), Fraction(2) ** 127


def g(k):
    return k * U / (1 - k * U)


def errors(network, box, boxes, forms):
    """What float32 may add to each form of the outputs."""
    boxes = iter(boxes)
    m = [max(abs(low), abs(high)) for low, high in box]
    before, last = network.nodes[:-1], network.nodes[-1]
    m, e = through(before, m, [Fraction(0)] * len(m), boxes)
    found = []
    if last[0] == "affine" and "terms" in last[3]:
        own = own_error(last, m, e)
        for rows, _ in forms:
            passed = {}
            for j, r in rows.items():
                for i, weight in last[1][j]:
                    passed[i] = passed.get(i, 0) + r * weight
            found.append(
                sum(abs(w) * e[i] for i, w in passed.items())
                + sum(abs(r) * own[j] for j, r in rows.items())
            )
        return found
    m, e = through([last], m, e, boxes)
    return [sum(abs(r) * e[j] for j, r in rows.items()) for rows, _ in forms]


def through(nodes, m, e, boxes):
    for node in nodes:
        if node[0] == "affine":
            if not node[3].get("pads"):
                own = own_error(node, m, e)
                passed = [sum(abs(w) * e[i] for i, w in row) for row in node[1]]
                e_new = [p + o for p, o in zip(passed, own, strict=True)]
                m = [
                    sum(abs(w) * m[i] for i, w in row) + abs(b)
                    for row, b in zip(node[1], node[2], strict=True)
                ]
                e = e_new
            else:
                m, e = ([sum(w * v[i] for i, w in row) for row in node[1]] for v in (m, e))
        elif node[0] == "relu":
            a, box = node[1], next(boxes)
            high = [min(v, max(u, 0)) for v, (_, u) in zip(m, box, strict=True)]
            low = [min(v, max(-b, 0)) for v, (b, _) in zip(m, box, strict=True)]
            if not a:
                e = [min(v, max(u + v, 0)) for v, (_, u) in zip(e, box, strict=True)]
            else:
                e = [
                    v + a * g(3) * (w + v) + TINY * (1 + s)
                    for v, w, s in zip(e, low, m, strict=True)
                ]
            m = [max(h, a * w) for h, w in zip(high, low, strict=True)]
        elif node[0] == "curve":
            m, e = through_curve(node[1], e, next(boxes))
        elif node[0] == "distance":
            share, k = sum(node[3]), len(node[3]) + 16
            moved = [a + b for a, b in zip(m, e, strict=True)]
            reach = [max(abs(w) + s for w, s in zip(c, moved, strict=True)) for c in node[1]]
            fits = max(share, *reach) < LARGEST
            reach = [share * r + abs(b) for r, b in zip(reach, node[2], strict=True)]
            largest = share * max(e) if fits else INFINITE
            m, e = reach, [largest + g(k) * r + TINY * k * (2 + share) for r in reach]
        elif node[0] == "max":
            next(boxes)
            m, e = ([max(v[i] for i in window) for window in node[1]] for v in (m, e))
        elif node[0] == "sum":
            pairs = [through(branch, m, e, boxes) for branch in node[1]]
            m, e = ([sum(v) for v in zip(*side, strict=True)] for side in zip(*pairs, strict=True))
            e = [v + g(len(pairs)) * (s + v) + len(pairs) * TINY for s, v in zip(m, e, strict=True)]
        if any(a + b >= LARGEST for a, b in zip(m, e, strict=True)):
            e = [INFINITE] * len(e)
    return m, e


def through_curve(curve, e, box):
    values, found = [], []
    for b, (low, high) in zip(e, box, strict=True):
        n = max(curve.largest(side, ZERO, low, high) for side in (1, -1))
        values.append(n)
        if max(abs(low), abs(high)) + b >= LARGEST:
            found.append(INFINITE)
            continue
        passed = curve.steepest(high + b) * b
        total = 1 + max(abs(low), abs(high)) + b + n + passed
        found.append(passed + g(64) * total + TINY if total < LARGEST else INFINITE)
    return values, found


def own_error(node, m, e):
    about = node[3]
    reach = [a + b for a, b in zip(m, e, strict=True)]
    widest = max([Fraction(1), *reach]) + about.get("extra", 0)
    factor = max(abs(w) for row in node[1] for _, w in row)
    found = []
    for place, (row, magnitude) in enumerate(zip(node[1], about["magnitude"], strict=True)):
        total = sum(abs(w) * reach[i] for i, w in row) + magnitude
        count = sum(1 for i, w in row if w and reach[i]) if "terms" in about else 16
        relative = g(count + 2) if "terms" in about else g(16)
        under = TINY * (2 * (count + 1) * (1 + widest) + sum(abs(w) for _, w in row))
        inverse, mean = about["lift"][place] if "lift" in about else (0, 0)
        lifted = inverse * (reach[place] + mean) if inverse else 0
        under += TINY * lifted
        fits = max(total, widest, lifted, factor) < LARGEST and about.get("sure", True)
        found.append(relative * total + under if fits else INFINITE)
    return found
