"""Looks for the rows on which an operation is furthest from the truth:

    python tests/worst.py [OPERATION ...] [--dtype f4] [--rows 10000000] [--seed 0] [--write]

New rows of every kind below, and small moves of the worst rows so far, on every instruction set and with the class axis
contiguous and not, are judged in longdouble (wide.py), the worst of them once more by mpmath (oracle.py). Several
budgets in cases.py, which random rows keep, are exceeded by the worst rows: those found so far are in worst.json.
"""

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import cases
import numpy as np
import oracle
import wide
from ml_dtypes import finfo  # of NumPy's own floats too

import xent

KEPT = Path(__file__).with_name("worst.json")
CLASSES = (1, 2, 2, 3, 3, 3, 4, 4, 5, 6, 8, 10, 16, 17, 33, 65, 130, 600)
CONFIRMED = 24  # rows that mpmath judges, for each output
ELITE = 48  # rows that are moved on from, for each output and number of classes
NUMBERS = 12_000  # in a batch
MOST = 4e3  # of a logit


# ---- rows ----------------------------------------------------------------------------------------------------------


def spread_logits(rows, classes, rng):
    """Logits of every size, a kind for each row."""
    shape = (rows, classes)
    x = rng.standard_normal(shape) * 10 ** rng.uniform(-3, 2.3, (rows, 1))
    kind = rng.integers(9, size=rows)
    column = np.arange(classes)
    ties = kind == 1
    x[ties] = np.round(x[ties])
    offset = kind == 2
    x[offset] += 10 ** rng.uniform(0, 5, (offset.sum(), 1)) * rng.choice([-1, 1], (offset.sum(), 1))
    sure = kind == 3  # of one class
    x[sure] = rng.standard_normal((sure.sum(), classes))
    x[sure] += np.where(column == rng.integers(classes, size=(sure.sum(), 1)), rng.uniform(2, 60, (sure.sum(), 1)), 0)
    small = kind == 4  # logsumexp about 0
    x[small] -= np.logaddexp.reduce(x[small], axis=1, keepdims=True)
    edge = kind == 5  # where exp underflows
    x[edge] = -rng.choice([0, 1, 80, 87, 95, 103, 700, 708, 745], (edge.sum(), classes)) + rng.standard_normal(
        (edge.sum(), classes)
    )
    masked = kind == 6
    hidden = (rng.random((masked.sum(), classes)) < 0.4) & (column > 0)
    x[masked] = np.where(hidden, rng.choice([-MOST, -np.inf], (masked.sum(), 1)), x[masked])
    equal = kind == 7
    x[equal] = x[equal][:, :1] + x[equal] * 10 ** rng.uniform(-6, -1, (equal.sum(), 1))
    return x


def second_operand(operands, x, rng):
    rows, classes = x.shape
    if operands in ("", "self"):
        return None
    if operands == "labels":
        best = np.where(rng.random(rows) < 0.5, x.argmax(axis=1), x.argmin(axis=1))
        return np.where(rng.random(rows) < 0.5, best, rng.integers(classes, size=rows))
    y = spread_logits(rows, classes, rng)
    near = rng.random(rows) < 0.5
    distance = 10 ** rng.uniform(-9, 0, (rows, 1))
    with np.errstate(invalid="ignore"):
        y[near] = (x + distance * rng.standard_normal(x.shape) + rng.choice([0, 0, 1, 1000], (rows, 1)))[near]
    if operands == "logits":
        return y
    if operands == "unit":
        return np.clip(rng.uniform(-0.5, 1.5, x.shape), 0, 1)
    p = cases.softmax64(y)
    smoothed = rng.random(rows) < 0.1
    p[smoothed] = 0.9 * (np.arange(classes) == rng.integers(classes, size=(smoothed.sum(), 1))) + 0.1 / classes
    if operands == "log_probs":
        with np.errstate(divide="ignore"):
            return np.log(p)
    p[(rng.random(x.shape) < 0.1) & (rng.random((rows, 1)) < 0.3)] = 0
    return p


def fresh(case, rows, classes, rng):
    """Operands with new rows, as the case's dtype holds them."""
    x = spread_logits(rows, classes, rng)
    if case.operands != "point":
        x = np.where(np.isinf(x), x, np.clip(x, -MOST, MOST))
    x = x.astype(case.type)
    wide_x = x.astype(np.float64)
    if case.operands == "self":
        return (second_operand("probs", wide_x, rng).astype(case.type),)
    if case.name == "rel_entr":
        p = rng.random(x.shape) * 10 ** rng.uniform(-8, 2, x.shape)
        near = p * (1 + rng.standard_normal(x.shape) * 10 ** rng.uniform(-8, 0, x.shape))
        return p.astype(case.type), abs(near).astype(case.type)
    if case.name == "kl_pointwise":
        t = rng.random(x.shape) * 10 ** rng.uniform(-8, 1, x.shape)
        near = np.log(t) * (1 + rng.standard_normal(x.shape) * 10 ** rng.uniform(-8, 0, x.shape))
        return np.where(rng.random(x.shape) < 0.5, near, x).astype(case.type), t.astype(case.type)
    t = second_operand(case.operands, wide_x, rng)
    if t is None:
        return (x,)
    return (x, t) if case.operands == "labels" else (x, _within(case, 1, t).astype(case.type))


def _within(case, place, x):
    return np.where(x == -np.inf, x, np.clip(x, *_range(case, place)))


def _range(case, place):
    """Where logits lie, and logarithms of probabilities. Far beyond, the smallest t, which has no digits, times a
    difference of logits is an ordinary number."""
    return -MOST, 0.0 if case.operands == "log_probs" and place == 1 else MOST


def moved(case, operands, rng):
    """Copies of the rows with a number or two of each changed a little."""
    rows, classes = operands[0].shape
    out = [a.copy() for a in operands]
    every = np.arange(rows)
    for _ in range(2):
        which = rng.integers(len(out), size=rows)
        for place, a in enumerate(out):
            mine = which == place
            if a.dtype.kind == "i":
                a[mine] = rng.integers(classes, size=mine.sum())
                continue
            i, j = rng.integers(classes, size=(2, rows))
            old = a[every, i].astype(np.float64)
            size = 10 ** rng.uniform(-8, 0.3, rows) * rng.standard_normal(rows)
            choices = np.stack(
                [
                    old * (1 + size),
                    old + size,
                    a[every, j] + 0 * size,
                    a[every, j] + size,
                    old + np.spacing(np.abs(a[every, i])).astype(np.float64) * rng.integers(-3, 4, rows),
                ]
            )
            new = choices[rng.integers(len(choices), size=rows), every]
            if case.operands in ("probs", "unit", "self") and (place == 1 or case.operands == "self"):
                new = np.clip(new, 0, 1)
            elif case.name == "rel_entr" or (case.name == "kl_pointwise" and place == 1):
                new = abs(new)
            new = np.where(np.isnan(new), old, _within(case, place, new))
            a[every[mine], i[mine]] = new[mine].astype(a.dtype)
    if case.operands == "probs" and len(out) == 2:
        # What was a distribution stays one, as near as the dtype can.
        total = out[1].astype(np.float64).sum(axis=1, keepdims=True)
        out[1] = np.where(total > 0, out[1] / np.where(total > 0, total, 1), out[1]).astype(case.type)
    return tuple(out)


# ---- what they cost ------------------------------------------------------------------------------------------------


def layouts(arrays):
    yield "C", arrays, {}
    if arrays[0].shape[1] > 1:
        yield "F", tuple(np.asfortranarray(a) for a in arrays), {}


def is_divergence(case):
    return case.name.startswith("kl_div") and not case.name.endswith("_terms")


def doubt(case, operands, ref):
    """How far longdouble's own value of a divergence of near rows may be off: its logarithms are rounded, too."""
    near = [np.where(np.isfinite(a), abs(a), 0).max(axis=1, initial=0) for a in operands]
    a = float(np.finfo(np.longdouble).eps) * (1 + np.maximum(*near).astype(np.float64))
    return 2 * a * np.sqrt(2 * np.maximum(np.nan_to_num(ref.hi, posinf=0), 0)) + a**2


def unit_of(case, output, ref, operands):
    """What counts as one ULP of an output: the README's, more where the two rows of a divergence nearly agree."""
    one = oracle.unit(ref, case.type, cases.subnormal_steps(case.name, case.type))
    allowed = case.budgets[output]
    if case.itemsize == 2:
        return one
    if case.name in ("logsumexp", "log_softmax", "softmax"):
        # An exponential below the normal range has the digits of a subnormal number.
        return np.fmax(one, len(operands[0][0]) * float(finfo(case.type).smallest_subnormal))
    with np.errstate(invalid="ignore"):
        if is_divergence(case) and output == 0:
            near = cases.near_equal_allowance(case.operands, case.type, np.maximum(ref.hi, 0), operands[1])
            return np.fmax(one, near / allowed)
        if case.name == "js_div_terms":
            return np.fmax(one, cases.near_js_terms_allowance(case.type, *operands) / allowed)
    return one


def undecided(case, operands):
    """Rows of a target whose sum is as far from 1 as may still mean 1, where a rounding decides which of two values is
    meant."""
    if case.operands not in ("probs", "log_probs") or not is_divergence(case):
        return np.zeros(len(operands[0]), bool)
    t = wide.wrap(operands[1])
    total = (np.exp(t) if case.operands == "log_probs" else t).sum(axis=1)
    edge = wide.tau(case.type, t.shape[1])
    return abs(abs(total - 1) - edge) < edge / 4


def distance(got, ref):
    """Absolute errors; infinite where one is NaN or infinite, in got's dtype, and the other is not the same."""
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        truth = ref.hi.astype(got.dtype)
        apart = np.abs((got.astype(np.float64) - ref.hi) - ref.lo)
        same = (got == truth) | (np.isnan(got) & np.isnan(truth))
        return np.where(np.isfinite(truth) & np.isfinite(got), apart, np.where(same, 0.0, np.inf))


def shares(case, operands, refs, isas, searching=False):
    """For each output the ULPs of each row at its worst place, with the instruction set and layout of it."""
    found = []
    neither = undecided(case, operands)
    for output, ref in enumerate(refs):
        unit = unit_of(case, output, ref, operands)
        unit[neither] = np.inf
        if searching and output == 0 and ref.hi.ndim == 1 and (is_divergence(case) or case.name.startswith("js_div")):
            unit = unit + 8 * doubt(case, operands, ref)
        if searching and output == 1 and case.name.endswith("_target_grad"):  # longdouble's differences of logarithms
            unit = unit + 8 * (doubt(case, operands, oracle.Ref(*[np.zeros(len(neither))] * 3)) ** 0.5)[:, None]
        found.append((unit, np.zeros(len(operands[0])), np.zeros(len(operands[0]), int)))
    ways = []
    with np.errstate(invalid="ignore"):
        return _shares(case, operands, refs, isas, found, ways)


def _shares(case, operands, refs, isas, found, ways):
    for isa in isas:
        xent.set_isa(isa)
        for layout, views, options in layouts(operands):
            ways.append(f"{isa} {layout}")
            results = cases.as_tuple(getattr(xent, case.name)(*views, **options))
            for got, ref, (unit, worst, way) in zip(results, refs, found, strict=True):
                each = np.nan_to_num(distance(got, ref) / unit, nan=0.0, posinf=np.inf)
                if each.ndim > 1:
                    each = each.max(axis=1, initial=0)
                better = each > worst
                worst[better], way[better] = each[better], len(ways) - 1
    return [(worst, [ways[i] for i in way]) for _, worst, way in found]


@dataclass
class Found:
    """The worst row of one output so far."""

    ulps: float = 0.0
    way: str = ""
    row: tuple = ()

    def as_json(self):
        return {"ulps": round(self.ulps, 4), "where": self.way, "row": [_listed(a) for a in self.row]}


def _listed(a):
    a = np.asarray(a)
    return a.astype(float).tolist() if a.dtype.kind != "i" else a.tolist()


@dataclass
class Pool:
    """The worst rows so far of one output and number of classes."""

    ulps: np.ndarray = field(default_factory=lambda: np.zeros(0))
    rows: tuple = ()

    def take(self, ulps, rows):
        ulps = np.concatenate([self.ulps, ulps])
        rows = tuple(np.concatenate(pair) for pair in zip(self.rows, rows, strict=True)) if self.rows else rows
        order = np.argsort(-ulps, kind="stable")
        _, first = np.unique(ulps[order], return_index=True)  # a row and its permutations count once
        order = order[np.sort(first)][:ELITE]
        self.ulps, self.rows = ulps[order], tuple(a[order] for a in rows)


def search(case, rows, seed=0, isas=None):
    """The worst row of each output that a search of so many rows comes to."""
    isas = isas or xent.info()["isas"]
    rng = np.random.default_rng([seed, *case.id.encode()])
    best = [[] for _ in case.budgets]
    pools = {}
    done = step = 0
    while done < rows:
        classes = int(rng.choice(CLASSES))
        count = max(8, NUMBERS // classes)
        elite = [pools[key] for key in pools if key[1] == classes and len(pools[key].ulps)]
        if elite and step % 3:
            pool = elite[rng.integers(len(elite))]
            pick = rng.integers(len(pool.ulps), size=count) if step % 2 else np.arange(count) % min(4, len(pool.ulps))
            operands = moved(case, tuple(a[pick] for a in pool.rows), rng)
        else:
            operands = fresh(case, count, classes, rng)
        step += 1
        done += count
        refs = wide.evaluate(case.name, *operands)
        for output, (ulps, way) in enumerate(shares(case, operands, refs, isas, searching=True)):
            keep = np.argsort(-ulps)[:ELITE]
            best[output] += [Found(float(ulps[i]), way[i], tuple(a[i] for a in operands)) for i in keep[:2]]
            best[output] = sorted(best[output], key=lambda found: -found.ulps)[:CONFIRMED]
            pools.setdefault((output, classes), Pool()).take(ulps[keep], tuple(a[keep] for a in operands))
    return [confirmed(case, output, candidates) for output, candidates in enumerate(best)]


def measure(case, row, isas=None):
    """The ULPs of each output of a single row, by mpmath, with where. The row is many, or its two layouts were one."""
    operands = tuple(np.asarray(a)[None] for a in row)
    if case.operands == "point":
        refs = (getattr(oracle, case.name)(*operands),)
    else:
        refs = oracle.evaluate(case.name, *operands)
    many = tuple(np.repeat(a, 17, axis=0) for a in operands)
    refs = tuple(oracle.Ref(*(np.repeat(part, 17, axis=0) for part in (r.hi, r.lo, r.scale))) for r in refs)
    found = shares(case, many, refs, isas or xent.info()["isas"])
    return [(float(ulps.max()), way[int(ulps.argmax())]) for ulps, way in found]


def confirmed(case, output, candidates):
    """The worst by mpmath: longdouble has too few digits for some of the rows."""
    found = [Found(*measure(case, c.row)[output], c.row) for c in candidates]
    return max(found, key=lambda f: f.ulps, default=Found())


def row_of(case, listed):
    """A row of worst.json as arrays."""
    kinds = [case.type] + [np.dtype(np.int64) if case.operands == "labels" else case.type] * (len(listed) - 1)
    return tuple(np.array(a, dtype=kind) for a, kind in zip(listed, kinds, strict=True))


def read_kept():
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}


def remeasure(kept):
    """What the kernels of today make of the rows; as found where this machine lacks the instruction set."""
    for key, found in kept.items():
        case_id, output = key.split()
        case = next(c for c in cases.CASES if c.id == case_id)
        if found["where"].split()[0] in xent.info()["isas"]:
            ulps, where = measure(case, row_of(case, found["row"]))[int(output)]
            found.update(ulps=round(ulps, 4), where=where)


def _work(case, rows, seed, isas):
    xent.set_num_threads(1)
    return case.id, search(case, rows, seed, isas)


def main():
    parser = argparse.ArgumentParser(description="Look for the rows on which an operation is furthest from the truth.")
    parser.add_argument("operations", nargs="*", metavar="OPERATION", help=f"one of {', '.join(cases.NAMES)}")
    parser.add_argument("--dtype", action="append", choices=sorted(cases.DTYPES), help="f8 and f4 unless said")
    parser.add_argument("--rows", type=int, default=10_000_000, help="how many rows each (10,000,000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--isa", action="append", help="an instruction set; all of the machine's unless said")
    parser.add_argument("--write", action="store_true", help=f"keep what is worse than the rows in {KEPT.name}")
    options = parser.parse_args()
    unknown = set(options.operations) - set(cases.NAMES)
    if unknown:
        parser.error(f"no such operation: {', '.join(sorted(unknown))}")
    wanted = [
        case
        for case in cases.CASES
        if case.name in (options.operations or cases.NAMES) and case.dtype in (options.dtype or ("f8", "f4"))
    ]
    if not wide.IS_WIDE:
        parser.error(wide.TOO_NARROW)
    kept = read_kept()
    if options.write:
        remeasure(kept)
    exceeded = False
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        jobs = {pool.submit(_work, case, options.rows, options.seed, options.isa): case for case in wanted}
        for job in as_completed(jobs):
            case = jobs[job]
            _, found = job.result()
            for output, (f, allowed) in enumerate(zip(found, case.budgets, strict=True)):
                over = f.ulps > allowed
                exceeded |= over
                print(f"{case.id:46} output {output}  {f.ulps:8.3f} of {allowed:g}  {f.way:10} {f.as_json()['row']}")
                sys.stdout.flush()
                key = f"{case.id} {output}"
                if f.row and (key not in kept or kept[key]["ulps"] < f.as_json()["ulps"]):
                    kept[key] = f.as_json()
            if options.write:
                lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(kept[key])}" for key in sorted(kept))
                KEPT.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
    sys.exit("beyond the budget" if exceeded else 0)


if __name__ == "__main__":
    main()
