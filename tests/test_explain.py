"""xent.explain: the four stories of the field, what arrays look like, and that no relation is claimed but holds.

The values are held against formulas written here in NumPy, not against the doors that explain calls.
"""

import html
import io
import json
import re
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest

import xent
from xent import _explain, cli, losses
from xent._explain import explain

LOGITS = np.array([[2.0, 1.0, -1.0], [0.5, 2.5, 0.0]])
PREDICTION = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
TARGET = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
KL = float(np.sum(TARGET * np.log(TARGET / PREDICTION)) / 2)
REVERSE = float(np.sum(PREDICTION * np.log(PREDICTION / TARGET)) / 2)
H = float(-np.sum(TARGET * np.log(TARGET)) / 2)
LABELS = np.array([0, 1])
P = np.array([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]])
T = np.array([[0.705, 0.195, 0.1], [0.105, 0.795, 0.1]])
BF16 = ml_dtypes.bfloat16
NAMES = [row.call for row in _explain.rows_of_table()]


def near(value):
    return pytest.approx(value, rel=1e-12, abs=1e-15)


def by_name(found):
    return {call.call: call for call in found.calls}


def written(expression, input, target):
    return eval(expression, {"np": np, "xent": xent, "input": input, "target": target})


# ---------------------------------------------------------------------------------------------------------------------
# The four stories


def test_mean_is_a_factor_of_classes_too_small():
    found = explain(np.log(PREDICTION), TARGET)
    calls = by_name(found)
    assert found.kl == near(KL)
    assert calls["torch kl_div mean"].value == near(KL / 3)
    assert calls["torch kl_div mean"].relation == "= KL / C, divided by the number of classes"
    assert not calls["torch kl_div mean"].is_kl
    assert calls["torch kl_div batchmean"].value == near(KL)
    assert calls["torch kl_div batchmean"].is_kl
    assert calls["Gluon KLDivLoss"].value == pytest.approx(KL / 3, abs=2e-12)
    assert "KL / C" in calls["Gluon KLDivLoss"].relation
    assert "divides by the C = 3 classes" in found.pitfalls[0]
    assert found.use == "xent.losses.kl_div(input, target)"


def test_probabilities_where_log_probabilities_belong_give_a_negative_value():
    found = explain(PREDICTION, TARGET)
    call = by_name(found)["torch kl_div batchmean"]
    assert call.value == near(-H - np.sum(TARGET * PREDICTION) / 2)
    assert call.value < 0
    assert call.relation == "input is not in log space: with np.log(input) = KL"
    assert "not in log space" in found.pitfalls[0]
    assert "never negative" in found.pitfalls[0]
    assert found.use == "xent.losses.kl_div(np.log(input), target)"
    assert found.kl == near(KL)


@pytest.mark.parametrize("prediction", [np.log(PREDICTION), LOGITS], ids=["log_probs", "logits"])
def test_swapped_arguments_are_read_the_right_way_round(prediction):
    found = explain(TARGET, prediction)
    assert found.swapped
    assert "look swapped" in found.pitfalls[0]
    assert found.kl == near(KL)
    assert found.use == "xent.losses.kl_div(target, input)"
    assert by_name(found)["torch kl_div batchmean"].relation.startswith("arguments swapped: with (")
    assert "the other way round, KL(prediction, input)" in found.summary


def test_the_order_of_two_probability_arrays_is_named():
    """Nothing in the arrays says which is which, so both orders are there."""
    calls = by_name(explain(PREDICTION, TARGET))
    assert calls["SciPy entropy(target, input)"].value == near(KL)
    assert calls["SciPy entropy(target, input)"].is_kl
    assert calls["SciPy entropy(input, target)"].value == near(REVERSE)
    assert calls["SciPy entropy(input, target)"].relation == "arguments swapped: KL(prediction, target)"
    assert calls["SciPy rel_entr(input, target).sum()"].relation == "arguments swapped: N KL(prediction, target)"


@pytest.mark.parametrize("target", [np.eye(3)[LABELS], np.eye(3, dtype=np.int64)[LABELS], LABELS], ids=str)
def test_one_hot_targets_have_no_entropy_so_cross_entropy_and_kl_agree(target):
    found = explain(LOGITS, target)
    calls = by_name(found)
    nll = -np.log(PREDICTION[[0, 1], LABELS]).mean()
    assert found.kl == near(nll)
    assert found.cross_entropy == near(nll)
    assert found.entropy == 0
    assert calls["xent cross_entropy"].is_kl
    assert calls["Gluon SoftmaxCELoss"].is_kl
    assert "cross-entropy and KL agree" in found.pitfalls[-1]


# ---------------------------------------------------------------------------------------------------------------------
# Every value, by its formula


def terms(t, log_p):
    return np.where(t > 0, t * (np.log(np.where(t > 0, t, 1)) - log_p), 0.0)


def clipped(a):
    return np.clip(a, 1e-7, 1)


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def unit(a):
    return a / a.sum(-1, keepdims=True)


FORMULAS = {
    "torch kl_div mean": lambda x, t: terms(t, x).mean(),
    "torch kl_div batchmean": lambda x, t: terms(t, x).sum() / len(x),
    "torch kl_div sum": lambda x, t: terms(t, x).sum(),
    "torch kl_div none": lambda x, t: terms(t, x),
    "torch kl_div mean, log_target": lambda x, t: (np.exp(t) * (t - x)).mean(),
    "torch kl_div batchmean, log_target": lambda x, t: (np.exp(t) * (t - x)).sum() / len(x),
    "torch kl_div sum, log_target": lambda x, t: (np.exp(t) * (t - x)).sum(),
    "torch kl_div none, log_target": lambda x, t: np.exp(t) * (t - x),
    "torch cross_entropy": lambda x, t: -(t * log_softmax(x)).sum(-1).mean(),
    "Gluon SoftmaxCELoss": lambda x, t: -(t * log_softmax(x)).sum(-1).mean(),
    "Gluon KLDivLoss": lambda x, t: (t * (np.log(t + 1e-12) - x)).mean(),
    "optax kl_divergence": lambda x, t: terms(t, x).sum(-1).mean(),
    "SciPy rel_entr(target, input).sum()": lambda x, t: terms(t, np.log(x)).sum(),
    "SciPy rel_entr(input, target).sum()": lambda x, t: terms(x, np.log(t)).sum(),
    "SciPy entropy(target, input)": lambda x, t: terms(unit(t), np.log(unit(x))).sum(-1).mean(),
    "SciPy entropy(input, target)": lambda x, t: terms(unit(x), np.log(unit(t))).sum(-1).mean(),
    "Keras KLDivergence(target, input)": lambda x, t: (clipped(t) * np.log(clipped(t) / clipped(x))).sum(-1).mean(),
}


def test_every_row_has_its_formula():
    assert list(FORMULAS) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["probs", "log_probs", "logits"])
def test_values_are_those_of_the_arrays_as_they_are(name, form):
    """Probabilities as target throughout, which nothing but log_target refuses or finds odd."""
    x = {"probs": PREDICTION, "log_probs": np.log(PREDICTION), "logits": LOGITS}[form]
    call = by_name(explain(x, TARGET))[name]
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = FORMULAS[name](x, TARGET)
    if "rel_entr" in name and form != "probs":
        assert call.value == np.inf  # SciPy's value where an argument is negative
    elif "SciPy entropy" in name and form == "logits":
        assert call.value is not None
        assert not call.is_kl
    elif np.ndim(expected):
        assert (call.value, call.shape) == (None, expected.shape)
    else:
        assert call.value == pytest.approx(expected, rel=1e-12)


def test_keras_is_the_documented_example():
    """The numbers of the example in TensorFlow 2.1's documentation of KLDivergence."""
    assert _explain.keras_kl(np.array([[0.4, 0.9, 0.2]]), np.array([[0.5, 0.8, 0.12]]), -1) == pytest.approx(0.11891246)


def test_keras_clips_what_is_infinite():
    x, t = np.array([[0.5, 0.0, 0.5]]), np.array([[0.5, 0.5, 0.0]])
    found = explain(x, t)
    call = by_name(found)["Keras KLDivergence(target, input)"]
    assert found.kl == np.inf
    assert "infinite" in " ".join(found.pitfalls)
    assert "(0, 1)" in " ".join(found.pitfalls)
    assert call.value == pytest.approx(0.5 * np.log(0.5e7) + 1e-7 * np.log(2e-7), rel=1e-12)
    assert call.relation == "clipped at 1e-7 (2 of 6 elements), else KL"


def test_where_it_is_infinite_for_a_target_that_is_too_small_for_a_float():
    found = explain(np.array([[0.0, -np.inf], [0.3, 1.0]]), np.array([[3000.0, 0.0], [0.2, 1.0]]))
    assert found.kl == np.inf
    assert "1 of 4 elements, the first at (0, 1)" in " ".join(found.pitfalls)


# ---------------------------------------------------------------------------------------------------------------------
# Relations


def forms_of(prediction, target, labels):
    return {
        "input": {"logits": prediction + 1.5, "log_probs": prediction, "probs": np.exp(prediction)},
        "target": {
            "probs": target,
            "log_probs": np.log(target),
            "logits": np.log(target) + 0.5,
            "labels": labels,
            "one_hot": np.eye(target.shape[-1])[labels],
        },
    }


# Probabilities before logarithms or logits read as swapped, which has its own tests.
FORMS = [
    (input_form, target_form)
    for input_form in ("logits", "log_probs", "probs")
    for target_form in ("probs", "log_probs", "logits", "labels", "one_hot")
    if not (input_form == "probs" and target_form in ("log_probs", "logits"))
]


def expected_value(text, found):
    """The number that a relation's formula stands for; None where it is no formula."""
    match = re.fullmatch(r"(?:the terms of )?(N )?KL(\(prediction, target\))?(?: / (\w+))?( \+ H\(target\))?", text)
    if match is None:
        return None
    many, other, divisor, plus = match.groups()
    value = (found.reverse if other else found.kl) * (found.rows if many else 1)
    if divisor is not None:
        value /= found.classes if divisor == "C" else int(divisor)
    return value + (found.entropy if plus else 0.0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5)])
@pytest.mark.parametrize(("input_form", "target_form"), FORMS)
def test_every_relation_holds(rng, input_form, target_form, shape, dtype):
    labels = rng.integers(0, 5, shape[:-1])
    forms = forms_of(log_softmax(rng.normal(size=shape)), unit(rng.random(shape) + 0.1), labels)
    x = forms["input"][input_form].astype(dtype)
    t = forms["target"][target_form]
    t = t if target_form == "labels" else t.astype(dtype)
    found = explain(x, t)
    assert (found.input.kind, found.target.kind) == (input_form, target_form)
    tolerance = 60 * float(np.finfo(dtype).eps)
    stated = 0
    for call in found.calls:
        formula = re.sub(r"^= |^arguments swapped: |, .*$", "", call.relation)
        value = None if ": with " in call.relation else expected_value(formula, found)
        if value is not None and call.value is not None and np.isfinite(value):
            slack = 1e-12 if "adds 1e-12" in call.relation else 0.0
            assert call.value == pytest.approx(value, rel=tolerance, abs=tolerance + slack), call
            stated += 1
        assert call.is_kl <= (call.value == pytest.approx(found.kl, rel=tolerance, abs=tolerance)), call
        assert "no simple relation" not in call.relation, call
    assert stated >= 2  # xent's own at least
    assert float(written(found.use, x, t)) == pytest.approx(found.kl)


@pytest.mark.parametrize(("input_form", "target_form"), FORMS)
def test_what_a_relation_tells_to_pass_gives_what_it_says(input_form, target_form):
    forms = forms_of(np.log(PREDICTION), TARGET, LABELS)
    x, t = forms["input"][input_form], forms["target"][target_form]
    found = explain(x, t)
    tried = 0
    for call in found.calls:
        _, _, remedy = call.relation.partition(": with ")
        match = re.fullmatch(r"(.+?) (?:= |the terms of )(.+)", remedy)
        if match is None or call.call.startswith("xent"):
            continue
        arguments = written(match[1], x, t)
        if not isinstance(arguments, tuple):
            prediction_changed = "input" in match[1]
            arguments = (arguments, t) if prediction_changed else (x, arguments)
            prediction, target = arguments
        else:
            target_first = call.call.startswith(("SciPy", "Keras"))
            prediction, target = reversed(arguments) if target_first else arguments
        name = call.call.replace("(input, target)", "(target, input)")  # the remedy puts the order right as well
        if np.ndim(target) < np.ndim(prediction):
            target = np.eye(3)[target]
        got = np.sum(FORMULAS[name](prediction, target))
        assert got == pytest.approx(expected_value(match[2], found), rel=1e-9, abs=1e-11), call
        tried += 1
    assert tried >= 4


@pytest.mark.parametrize("name", ["kl_div", "cross_entropy"])
def test_a_relation_that_does_not_hold_is_not_stated(monkeypatch, name):
    """A door that were wrong by a hundredth would not be said to give KL."""
    genuine = getattr(_explain.torch, name)
    monkeypatch.setattr(_explain.torch, name, lambda *args, **options: genuine(*args, **options) * 1.01)
    found = explain(np.log(PREDICTION), TARGET)
    relations = [call.relation for call in found.calls if call.call.startswith(f"torch {name}")]
    assert not any("KL" in relation.replace("to KL here", "") for relation in relations), relations
    assert not any(call.is_kl for call in found.calls if call.call.startswith(f"torch {name}"))


def test_wrong_own_numbers_are_not_stated_either(monkeypatch):
    genuine = losses.cross_entropy
    monkeypatch.setattr(losses, "cross_entropy", lambda *args, **options: genuine(*args, **options) + 1e-3)
    calls = by_name(explain(LOGITS, TARGET))
    assert calls["xent cross_entropy"].relation == "no simple relation to KL here"


def test_16_bits_are_read_with_their_own_rounding():
    found = explain(np.float16(np.log(PREDICTION)), np.float16(TARGET))
    calls = by_name(found)
    assert found.input.normalised
    assert found.target.normalised
    assert found.kl == pytest.approx(KL, rel=5e-3)
    assert calls["torch kl_div mean"].relation.startswith("= KL / C")
    assert [name for name, call in calls.items() if call.is_kl] == [
        "xent kl_div",
        "torch kl_div batchmean",
        "optax kl_divergence",
    ]


def test_torch_and_gluon_give_nan_where_zero_meets_infinity():
    x, t = np.log([[0.5, 0.5, 1.0]]) - [[0, 0, np.inf]], np.array([[0.25, 0.75, 0.0]])
    found = explain(x, t)
    calls = by_name(found)
    assert found.kl == near(0.25 * np.log(0.5) + 0.75 * np.log(1.5))
    assert np.isnan(calls["torch kl_div batchmean"].value)
    assert calls["torch kl_div batchmean"].relation == "NaN where 0 meets infinity, else KL"
    assert "NaN" in " ".join(found.pitfalls)


def test_scipy_normalises_silently():
    t = TARGET * [[0.9], [1.02]]
    found = explain(PREDICTION, t)
    calls = by_name(found)
    assert found.target.normalised is False
    assert found.kl == near(np.sum(t * np.log(t / PREDICTION)) / 2)
    assert calls["SciPy entropy(target, input)"].value == near(KL)
    assert calls["SciPy entropy(target, input)"].relation.startswith("normalises silently")
    assert calls["xent cross_entropy"].relation.startswith("= KL + H(target)")
    assert any("T log T" in pitfall for pitfall in found.pitfalls)


def test_batchmean_divides_by_the_first_axis_alone():
    one = by_name(explain(np.log(PREDICTION[0]), TARGET[0]))["torch kl_div batchmean"]
    assert one.relation == "= KL / 3, divided by the only axis, the classes"
    assert not one.is_kl
    x, t = (np.broadcast_to(a, (4, 2, 3)) for a in (np.log(PREDICTION), TARGET))
    found = explain(x, t)
    many = by_name(found)["torch kl_div batchmean"]
    assert many.value == near(2 * KL)
    assert many.relation == "= N KL / 4, divided by the first axis of length 4"
    assert any("batchmean divides by the first axis" in pitfall for pitfall in found.pitfalls)


@pytest.mark.parametrize("axis", [0, 1, -2])
@pytest.mark.parametrize("target_form", ["probs", "labels", "logits"])
def test_axis(rng, axis, target_form):
    last = log_softmax(rng.normal(size=(4, 2, 3)))
    t = forms_of(last, unit(rng.random((4, 2, 3))), rng.integers(0, 3, (4, 2)))["target"][target_form]
    moved = t if target_form == "labels" else np.moveaxis(t, -1, axis)
    x = np.moveaxis(last, -1, axis)
    found, plain = explain(x, moved, axis=axis), explain(last, t)
    assert (found.rows, found.classes, found.axis) == (8, 3, axis % 3)
    assert found.kl == near(plain.kl)
    assert found.cross_entropy == near(plain.cross_entropy)
    np.testing.assert_allclose(found.per_class, plain.per_class, rtol=1e-12)
    for call, other in zip(found.calls, plain.calls, strict=True):
        # Labels broadcast with what they do not belong to, or do not, as the shapes happen to be.
        by_chance = target_form == "labels" and call.call.startswith(("SciPy", "Keras"))
        if "batchmean" not in call.call and not by_chance:
            assert (call.shown, call.is_kl) == (other.shown.replace("4x2x3", "x".join(map(str, x.shape))), other.is_kl)
    assert float(written(found.use, x, moved)) == near(found.kl)


@pytest.mark.parametrize("shape", [(4, 3), (2, 4, 3), (3, 3, 3)])
@pytest.mark.parametrize("skip", [-100, -1])
def test_labels_of_no_class_along_any_axis(rng, shape, skip):
    """The calls are made of the array with those rows in it, along the axis that it came with."""
    last, labels = rng.normal(size=shape), rng.integers(0, 3, shape[:-1])
    labels[0], labels.flat[-1] = 1, skip
    plain = by_name(explain(last, labels, axis=len(shape) - 1))
    assert plain["torch cross_entropy"].is_kl == (skip == -100)
    for axis in range(len(shape) - 1):
        x = np.moveaxis(last, -1, axis)
        calls = by_name(explain(x, labels, axis=axis))
        for name in ("torch cross_entropy", "Gluon SoftmaxCELoss"):
            assert (calls[name].shown, calls[name].is_kl) == (plain[name].shown, plain[name].is_kl), (name, axis)
            assert calls[name].relation == plain[name].relation
        swapped = by_name(explain(labels, x, axis=axis))
        assert swapped["Gluon SoftmaxCELoss"].relation.startswith("arguments swapped")


def test_batchmean_of_labels_of_no_class_divides_by_the_rows_that_are_left():
    found = explain(np.repeat(LOGITS, 2, 0), [0, -1, 2, 1])
    remedy = "(xent.log_softmax(input), np.eye(3)[target]), the rows of -1 left out, = KL"
    assert by_name(found)["torch kl_div batchmean"].relation.endswith(f": with {remedy}")
    left = log_softmax(LOGITS[[0, 1, 1]]), np.eye(3)[[0, 2, 1]]
    assert FORMULAS["torch kl_div batchmean"](*left) == near(found.kl)


# ---------------------------------------------------------------------------------------------------------------------
# What an array looks like


@pytest.mark.parametrize(
    ("array", "kind", "normalised"),
    [
        (LOGITS, "logits", None),
        (-np.abs(LOGITS) - 1, "logits", None),
        (LOGITS + 10, "logits", None),
        (np.log(PREDICTION), "log_probs", True),
        (np.log(PREDICTION) + 1e-3, "log_probs", False),
        (PREDICTION, "probs", True),
        (np.float16(PREDICTION), "probs", True),
        (np.round(PREDICTION, 3) + 1e-3, "probs", False),
        (np.eye(3)[LABELS], "one_hot", True),
        (np.array([[-np.inf, 0.0, -np.inf], [0.0, -np.inf, -np.inf]]), "log_probs", True),
    ],
)
def test_kinds_of_input(array, kind, normalised):
    reading = _explain.kinds_of(_explain.look_at(array, -1), is_target=False)[0]
    assert (reading.kind, reading.normalised) == (kind, normalised)


def test_the_place_decides_where_values_alone_do_not():
    """From 0 to 1 with any sums: as a target probabilities that someone forgot to normalise, as a prediction logits."""
    array = np.array([[0.9, 0.8, 0.1], [0.2, 0.1, 0.1]])
    assert explain(array, TARGET).input.kind == "logits"
    reading = explain(LOGITS, array).target
    assert (reading.kind, reading.normalised) == ("probs", False)
    assert explain(LOGITS, np.array([[3.0, 1.0, 0.0], [0.0, 7.0, 2.0]])).target.kind == "weights"  # counts


def test_the_evidence_is_named():
    found = explain(LOGITS, TARGET)
    assert str(found.input) == "logits: from -1 to 2.5, of both signs"
    assert str(found.target) == "probabilities: from 0.1 to 0.8, rows sum to 1 within rounding"
    assert str(explain(LOGITS, [0, 2]).target) == "labels: integers from 0 to 2, one a row"
    assert "rows sum to 0.9 to 1.02, not 1" in explain(LOGITS, TARGET * [[0.9], [1.02]]).pitfalls[1]


def test_a_float32_log_softmax_of_large_logits_is_normalised():
    x = xent.log_softmax(np.float32(LOGITS + 100))
    assert explain(x, np.float32(TARGET)).input.normalised


def test_labels_of_a_floating_dtype_and_labels_first():
    found = explain(LOGITS, np.array([0.0, 1.0]))
    assert found.target.kind == "labels"
    assert found.use == "xent.losses.cross_entropy(input, target.astype(np.int64))"
    assert any("float64" in pitfall for pitfall in found.pitfalls)
    swapped = explain(LABELS, LOGITS)
    assert swapped.swapped
    assert swapped.kl == near(found.kl)
    assert swapped.use == "xent.losses.cross_entropy(target, input)"


def test_refused_calls_say_why():
    calls = by_name(explain(LOGITS, LABELS.astype(np.int32)))
    assert calls["torch cross_entropy"].shown == "error"
    assert "int64" in calls["torch cross_entropy"].refused
    assert calls["torch cross_entropy"].relation == "target is of dtype int32: with target.astype(np.int64) = KL"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((LOGITS, TARGET[:, :2]), ValueError, ["(2, 3)", "(2, 2)", "(2,)"]),
        ((LOGITS, TARGET, 2), ValueError, ["explain", "2"]),
        ((LOGITS, TARGET, 0.5), TypeError, ["axis", "float"]),
        ((LOGITS, [0, 3]), IndexError, ["3", "(1,)", "0 to 2"]),
        ((LOGITS, [0.5, 0.5]), ValueError, ["(2,)", "float64", "of a loss or a mean"]),
        ((LOGITS, T.astype(BF16).view("V2")), TypeError, ["target", "|V2", "view(ml_dtypes.bfloat16)"]),
        ((np.zeros((0, 3)), np.zeros((0, 3))), ValueError, ["input", "(0, 3)"]),
        ((np.zeros((2, 0)), np.zeros((2, 0))), ValueError, ["input", "(2, 0)"]),
        ((1.0, 1.0), ValueError, ["axis"]),
        ((LOGITS + 1j, TARGET), TypeError, ["input", "complex128"]),
        ((LOGITS, TARGET.astype(np.longdouble)), TypeError, ["target", str(np.dtype(np.longdouble))]),
        ((LOGITS, np.ma.array(TARGET)), TypeError, ["target", "masked"]),
        ((np.full((2, 3), np.nan), TARGET), ValueError, ["input", "NaN"]),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error) as caught:
        explain(*arguments)
    assert all(word in str(caught.value) for word in words), str(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# Pairs that look like something else, or like several things

SCORES = np.array([0.3, -1.2, 2.0, 0.5])  # one a row
PRESENT = np.array([1.0, 0.0, 1.0, 0.0])
HOT = np.array([[1, 1, 0], [1, 0, 1]])
CUBE = np.sin(np.arange(24.0)).reshape(2, 3, 4) * 3
P3 = np.array([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5], [0.1, 0.1, 0.8]])
T3 = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
PRUNED = np.where(T < 0.15, 0, T)
SIGNS = np.array([[1.0, -1.0], [-1.0, 1.0]])
TINY = np.array([[1.0, 1e-310, 0.0], [5e-324, 1.0, 0.0]])


def put(array, at, value):
    array = array.copy()
    array[at] = value
    return array


def kl(t, p):
    """Of targets that need not sum to 1 and predictions that are divided by their sums; classes last."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return terms(t, np.log(unit(p))).sum(-1).mean()


def softmax(x):
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def bce(x, t):
    return np.sum(np.logaddexp(0, x) - t * x) / len(x)


def nll(x, labels):
    return -log_softmax(x)[np.arange(len(labels)), labels].mean()


def last(array):
    return np.moveaxis(array, 1, -1)


F16 = np.float16(P), np.float16(T)
B16 = P.astype(BF16), T.astype(BF16)

# What the arrays are, the arrays, as what they are to be read, the value, what has to be said, and, where the arrays do
# not decide, the values of the other readings.
PAIRS = {
    "log2 P": (
        np.log2(P),
        T,
        ("log2_probs", "probs"),
        kl(T, P),
        ["base-2", "use xent.losses.kl_div(input * np.log(2)"],
    ),
    "log10 P": (np.log10(P), T, ("log10_probs", "probs"), kl(T, P), ["base-10", "input * np.log(10)"]),
    "-log P": (-np.log(P), T, ("neg_log_probs", "probs"), kl(T, P), ["negative log-probabilities", "kl_div(-input"]),
    "-log2 P": (-np.log2(P), T, ("neg_log2_probs", "probs"), kl(T, P), ["input * -np.log(2)"]),
    "T in percent": (np.log(P), 100 * T, ("log_probs", "percent"), kl(T, P), ["in percent", "target / 100"]),
    "P in percent": (100 * P, T, ("percent", "probs"), kl(T, P), ["np.log(input / 100)"]),
    "-P": (-P, T, ("neg_probs", "probs"), kl(T, P), ["wrong sign", "np.log(-input)"]),
    "pruned P": (put(P, (0, 2), 0), T, ("probs", "probs"), np.inf, ["pruned", "KL is infinite", "first at (0, 2)"]),
    "pruned T": (P, put(T, (0, 2), 0), ("probs", "probs"), kl(put(T, (0, 2), 0), P), ["pruned", "no divergence"]),
    "log of pruned T": (
        LOGITS,
        np.where(PRUNED > 0, np.log(T), -np.inf),
        ("logits", "logits"),
        kl(unit(PRUNED), softmax(LOGITS)),
        ["unclear", "not normalised"],
        [kl(PRUNED, softmax(LOGITS))],
    ),
    "transposed": (P.T, T.T, ("probs", "probs"), kl(T, P), ["sum to 1 along axis 0", "axis=0"]),
    "one of them transposed": (
        np.log(P3),
        T3.T,
        ("log_probs", "probs"),
        kl(T3.T, P3),
        ["normalised over the wrong axis", "means anything before that is put right"],
        [kl(T3, P3.T), bce(np.log(P3), T3.T)],
    ),
    "(N, C, L) of probabilities": (
        np.stack([P.T, P.T]),
        np.stack([T.T, T.T]),
        ("probs", "probs"),
        kl(T, P),
        ["the classes are read along axis 1", "axis=1"],
    ),
    "(N, C, L) of logits": (
        CUBE,
        CUBE[::-1],
        ("logits", "logits"),
        kl(softmax(CUBE[::-1]), softmax(CUBE)),
        ["Nothing sums to 1 along any axis", "PyTorch has them along axis 1"],
        [kl(softmax(last(CUBE[::-1])), softmax(last(CUBE)))],
    ),
    "(N, C, L) and labels (N, L)": (
        CUBE,
        np.zeros((2, 4), int),
        ("logits", "labels"),
        -log_softmax(last(CUBE))[..., 0].mean(),
        ["axis=1"],
    ),
    "two of labels": (
        np.array([0, 2, 1]),
        np.array([0, 1, 1]),
        ("labels", "labels"),
        np.nan,
        ["no scores"],
        [0.0588915178],
    ),
    "two of labels, several a row": (
        np.array([[0, 2], [1, 1]]),
        np.array([[0, 1], [0, 2]]),
        ("labels", "labels"),
        np.nan,
        ["25 % of 4", "counts"],
        [np.log(2) / 2],
    ),
    "two one-hot": (
        np.eye(3)[[0, 1]],
        np.eye(3)[[0, 2]],
        ("one_hot", "one_hot"),
        np.nan,
        ["how often they agree: 50 %"],
        [np.inf],
    ),
    "two one-hot of integers": (
        np.eye(3, dtype=int),
        np.eye(3, dtype=int),
        ("one_hot", "one_hot"),
        np.nan,
        ["100 % of 3"],
    ),
    "(N,) and 0 or 1": (SCORES, PRESENT, ("binary_logits", "multi_hot"), bce(SCORES, PRESENT), ["no KL divergence"]),
    "(N, 1) and 0 or 1": (SCORES[:, None], PRESENT[:, None], ("binary_logits", "multi_hot"), bce(SCORES, PRESENT), []),
    "(N, 1) and (N,)": (
        SCORES[:, None],
        PRESENT,
        ("binary_logits", "multi_hot"),
        bce(SCORES, PRESENT),
        ["to a matrix"],
    ),
    "(N,) and (N, 1)": (
        SCORES,
        PRESENT[:, None],
        ("binary_logits", "multi_hot"),
        bce(SCORES, PRESENT),
        ["to a matrix"],
    ),
    "(N, 1) of probabilities and (N,)": (
        1 / (1 + np.exp(-SCORES[:, None])),
        PRESENT,
        ("binary_probs", "multi_hot"),
        bce(SCORES, PRESENT),
        ["target[:, None] has the other's shape"],
        [bce(1 / (1 + np.exp(-SCORES)), PRESENT)],
    ),
    "(1, N) and (N,)": (SCORES[None], PRESENT, ("binary_logits", "multi_hot"), bce(SCORES, PRESENT), ["target[None]"]),
    "(N, M, 1) and (N, M)": (
        LOGITS[..., None],
        HOT,
        ("binary_logits", "multi_hot"),
        bce(LOGITS, HOT) / 3,
        ["target[:, :, None]"],
    ),
    "(N,) and integers": (SCORES, PRESENT.astype(int), ("binary_logits", "multi_hot"), bce(SCORES, PRESENT), []),
    "(N,) of probabilities": (
        1 / (1 + np.exp(-SCORES)),
        PRESENT,
        ("binary_probs", "multi_hot"),
        bce(SCORES, PRESENT),
        ["logits that all lie from 0 to 1"],
        [bce(1 / (1 + np.exp(-SCORES)), PRESENT)],
    ),
    "-1 and 1": (SCORES, 2 * PRESENT - 1, ("binary_logits", "signs"), bce(SCORES, PRESENT), ["0 and 1", "+ 1) / 2"]),
    "multi-hot": (LOGITS, HOT, ("binary_logits", "multi_hot"), bce(LOGITS, HOT), ["each present or not"]),
    "multi-hot of probabilities": (
        P,
        HOT,
        ("binary_probs", "multi_hot"),
        bce(np.log(P / (1 - P)), HOT),
        ["share its mass"],
        [bce(P, HOT), kl(HOT / 2, P)],
    ),
    "a probability for each class": (
        LOGITS,
        np.array([[0.9, 0.8, 0.1], [0.2, 0.9, 0.7]]),
        ("logits", "probs"),
        kl(np.array([[0.9, 0.8, 0.1], [0.2, 0.9, 0.7]]), softmax(LOGITS)),
        ["on its own"],
        [bce(LOGITS, np.array([[0.9, 0.8, 0.1], [0.2, 0.9, 0.7]]))],
    ),
    "one-hot and sigmoids": (
        1 / (1 + np.exp(-LOGITS)),
        np.eye(3)[:2],
        ("logits", "one_hot"),
        nll(1 / (1 + np.exp(-LOGITS)), [0, 1]),
        ["not normalised"],
        [kl(np.eye(3)[:2], 1 / (1 + np.exp(-LOGITS)))],
    ),
    "labels from 1": (np.log(P), np.array([1, 3]), ("log_probs", "labels"), nll(np.log(P), [0, 2]), ["target - 1"]),
    "labels of -1": (LOGITS, np.array([0, -1]), ("logits", "labels"), nll(LOGITS[:1], [0]), ["ignore_index=-1"]),
    "labels of -100": (LOGITS, np.array([0, -100]), ("logits", "labels"), nll(LOGITS[:1], [0]), ["by default"]),
    "labels of 255": (
        LOGITS,
        np.array([0, 255], np.uint8),
        ("logits", "labels"),
        nll(LOGITS[:1], [0]),
        ["ignore_index=255"],
    ),
    "ignore_index": (
        LOGITS,
        np.array([0, 2]),
        ("logits", "labels"),
        nll(LOGITS[:1], [0]),
        ["labels of 2"],
        [],
        {"ignore_index": 2},
    ),
    "ignore_index of no labels": (
        LOGITS,
        T,
        ("logits", "probs"),
        kl(T, softmax(LOGITS)),
        ["not used"],
        [],
        {"ignore_index": 2},
    ),
    "labels of -1 and 1": (
        LOGITS[:, 1:],
        np.array([-1, 1]),
        ("logits", "labels"),
        nll(LOGITS[1:, 1:], [1]),
        ["axes 0, 1: give axis"],
        [nll(LOGITS[:, 1:].T[1:], [1]), nll(LOGITS[:, 1:], [0, 1])],
    ),
    "labels of -1 and 1 in 32 bits": (
        LOGITS[[0, 1, 0], 1:],
        np.array([[-1], [1], [1]], np.int32),
        ("logits", "labels"),
        nll(LOGITS[1::-1, 1:], [1, 1]),
        ["(target[:, 0].astype(np.int64) + 1) // 2"],
        [nll(LOGITS[[0, 1, 0], 1:], [0, 1, 1])],
    ),
    "labels of -1 and 1 beside NaN": (
        put(LOGITS[[0, 1, 0], :2], (1, 1), np.nan),
        np.array([-1, 1, 1]),
        ("logits", "labels"),
        np.nan,
        ["is NaN pitfall No call gives a number"],
        [np.nan, np.nan],
    ),
    "scores of -1 and 1 and labels": (
        SIGNS,
        LABELS,
        ("logits", "labels"),
        nll(SIGNS, LABELS),
        ["input holds logits: kl_div of PyTorch"],
        [],
        {"axis": 1},
    ),
    "scores of -1 and 1": (SIGNS, T[:, :2], ("logits", "probs"), kl(T[:, :2], softmax(SIGNS)), ["input holds logits:"]),
    "scores of -1 and 1 and multi-hot": (
        SIGNS,
        np.array([[0, 1], [0, 0]]),
        ("binary_logits", "multi_hot"),
        bce(SIGNS, np.array([[0, 1], [0, 0]])),
        ["that exclude each other"],
        [kl(np.array([[0, 1], [0, 0]]), softmax(SIGNS))],
    ),
    "a column of labels": (LOGITS, np.array([[0], [1]]), ("logits", "labels"), nll(LOGITS, [0, 1]), ["target[:, 0]"]),
    "floating labels": (LOGITS, np.array([0.0, 1.0]), ("logits", "labels"), nll(LOGITS, [0, 1]), ["astype(np.int64)"]),
    "counts": (
        LOGITS,
        np.array([[3, 1, 0], [0, 7, 2]]),
        ("logits", "weights"),
        kl(unit(np.array([[3, 1, 0], [0, 7, 2]])), softmax(LOGITS)),
        ["counts or weights"],
        [kl(softmax(np.array([[3, 1, 0], [0, 7, 2]])), softmax(LOGITS))],
    ),
    "+inf logits": (put(LOGITS, (0, 0), np.inf), T, ("logits", "probs"), np.nan, ["holds +inf", "(0, 0)"]),
    "+inf logits and labels": (put(LOGITS, (0, 0), np.inf), LABELS, ("logits", "labels"), np.nan, ["holds +inf"]),
    "+inf target logits": (LOGITS, put(LOGITS, (1, 1), np.inf), ("logits", "logits"), np.nan, ["target holds +inf"]),
    "a row of -inf": (put(LOGITS, 0, -np.inf), T, ("logits", "probs"), np.nan, ["leave no class any probability"]),
    "NaN": (put(LOGITS, (1, 2), np.nan), T, ("logits", "probs"), np.nan, ["holds NaN: 1 of 6", "(1, 2)"]),
    "NaN target": (LOGITS, put(T, (1, 2), np.nan), ("logits", "probs"), np.nan, ["target holds NaN"]),
    "NaN in a row that does not count": (
        put(LOGITS, (1, 2), np.nan),
        np.array([0, -1]),
        ("logits", "labels"),
        nll(LOGITS[:1], [0]),
        [],
    ),
    "NaN and 0 or 1": (put(SCORES, 1, np.nan), PRESENT, ("binary_logits", "multi_hot"), np.nan, ["input holds NaN"]),
    "bfloat16": (*B16, ("probs", "probs"), kl(*(unit(np.float64(a)) for a in B16[::-1])), ["bfloat16 (2, 3)"]),
    "float16": (*F16, ("probs", "probs"), kl(*(unit(np.float64(a)) for a in F16[::-1])), ["float16 (2, 3)"]),
    "the same": (P, P, ("probs", "probs"), 0.0, ["KL(prediction, target) = 0."]),
    "the same logits": (LOGITS, LOGITS, ("logits", "logits"), 0.0, ["KL(prediction, target) = 0."]),
    "the same in float16": (F16[0], F16[0], ("probs", "probs"), 0.0, ["KL(prediction, target) = 0."]),
    "a masked vocabulary": (
        put(LOGITS, np.s_[:, 2], -np.inf),
        put(T, np.s_[:, 2], 0) / 0.9,
        ("logits", "probs"),
        kl(T[:, :2] / 0.9, softmax(LOGITS[:, :2])),
        ["is NaN then"],
    ),
    "masked by -1e4": (
        put(LOGITS, np.s_[:, 2], -1e4),
        put(T, np.s_[:, 2], 0) / 0.9,
        ("logits", "probs"),
        kl(T[:, :2] / 0.9, softmax(LOGITS[:, :2])),
        [],
    ),
    "a row": (np.log(P[0]), T[0], ("log_probs", "probs"), kl(T[:1], P[:1]), ["divides by the first axis, of length 3"]),
    "one class": (
        np.array([[0.3], [2.0]]),
        np.ones((2, 1)),
        ("binary_logits", "multi_hot"),
        bce(np.array([0.3, 2]), 1),
        [],
    ),
    "regression": (
        SCORES[:, None],
        SCORES[::-1, None],
        ("scores", "scores"),
        np.nan,
        ["one number a row, without classes: no loss", "every divergence of one class is 0"],
        [kl(softmax(SCORES[None, ::-1]), softmax(SCORES[None]))],
    ),
    "(N, C, 1)": (
        LOGITS[..., None],
        T[..., None],
        ("logits", "probs"),
        kl(T, softmax(LOGITS)),
        ["The last axis has length 1", "axis=1"],
    ),
    "a model that has learnt nothing": (np.zeros((2, 3)), T, ("logits", "probs"), kl(T, np.ones((2, 3))), []),
    "subnormal T": (np.log(P), TINY, ("log_probs", "probs"), kl(TINY, P), []),
    "subnormal P": (TINY, T, ("probs", "probs"), np.inf, ["KL is infinite"]),
    "T of both signs": (
        LOGITS,
        np.array([[0.7, 0.4, -0.1], [0.1, 0.8, 0.1]]),
        ("logits", "logits"),
        kl(softmax(np.array([[0.7, 0.4, -0.1], [0.1, 0.8, 0.1]])), softmax(LOGITS)),
        ["target holds probabilities: KL(target, prediction) is NaN"],
        [np.nan],
    ),
    "swapped": (T, np.log(P), ("probs", "log_probs"), kl(T, P), ["look swapped"]),
    "swapped labels": (LABELS, LOGITS, ("labels", "logits"), nll(LOGITS, LABELS), ["look swapped"]),
    "features": (
        CUBE[0],
        CUBE[1],
        ("logits", "logits"),
        kl(softmax(CUBE[1]), softmax(CUBE[0])),
        ["would be meaningless"],
    ),
    "T that sums to 0.9": (
        P,
        0.9 * T,
        ("probs", "probs"),
        kl(0.9 * T, P),
        ["may be negative", f"divided by its sums it is {kl(T, P):.6g}"],
    ),
}


def same_number(value):
    return pytest.approx(value, rel=1e-9, abs=1e-15, nan_ok=True)


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_what_the_arrays_really_are(pair):
    x, t, kinds, value, words, *rest = pair
    others = rest[0] if rest else []
    options = rest[1] if len(rest) > 1 else {}
    found = explain(x, t, **options)
    text = " ".join(str(found).split())
    assert (found.input.kind, found.target.kind) == kinds
    assert found.value == same_number(value)
    assert [word for word in words if word not in text] == []
    # Another loss than KL is named, and another reading has its number.
    no_scores = kinds[0] == kinds[1] and kinds[0] in ("labels", "one_hot", "scores")
    assert found.loss == ("binary_cross_entropy" if "binary" in kinds[0] else "none" if no_scores else "kl_div")
    assert ("binary_cross_entropy(" in found.use) == (found.loss == "binary_cross_entropy" and value == value)
    assert [other.value for other in found.alternatives] == same_number(others)
    assert found.unclear == bool(others) == text.startswith("unclear ")
    # What is advised gives the number that is printed; what would be NaN is not advised.
    for number, use in [(found.value, found.use), *((other.value, other.use) for other in found.alternatives)]:
        assert bool(use) == (not np.isnan(number))
        if use:
            with np.errstate(divide="ignore"):
                got = float(written(use, x, t))
            rel, least = (2e-2, 1e-6) if x.dtype.itemsize == 2 else (1e-9, 1e-15)
            assert got == pytest.approx(number, rel=rel, abs=least), use
    if np.isnan(value) and found.loss == "kl_div":
        assert found.pitfalls[0].startswith("No call gives a number of these arrays")
        assert not any(call.is_kl or call.relation.startswith("= ") for call in found.calls)
    assert repr(found) == str(found)
    first = found.advice[0]
    assert text.startswith(" ".join(" ".join(first).split()))
    assert re.sub("<[^>]*>|:", "", found._repr_html_()).startswith(html.escape(" ".join(first)).replace(":", ""))


# ---------------------------------------------------------------------------------------------------------------------
# Large arrays

ROWS, WIDTH = 150, 1000  # several blocks, and more than the table's calls are made of


def large(form, seed):
    """Scores, or what becomes of them, by the first word; the others say what is done to them before."""
    kind, *how = form.split()
    scores = 2 * np.random.default_rng(seed).normal(size=(ROWS, WIDTH))
    if "masked" in how:
        scores[:, 900:] = -np.inf
    if "pruned" in how:
        scores[scores < -4] = -np.inf
    if kind == "labels":
        labels = scores.argmax(-1)
        return np.where(np.arange(ROWS) % 7 == 3, -1, labels) if "-1" in how else labels
    logs = log_softmax(scores)
    if kind == "probs":
        return np.exp(logs) * (0.98 if "short" in how else 1)
    return {"logits": scores + 3, "log_probs": logs, "log2": logs / np.log(2), "percent": 100 * np.exp(logs)}[kind]


LARGE = {
    "logits, logits": ("logits", "logits"),
    "logits, probs": ("logits", "probs"),
    "log_probs, probs": ("log_probs", "probs"),
    "probs, probs": ("probs", "probs"),
    "log2, percent": ("log2", "percent"),
    "masked, masked": ("logits masked", "probs masked"),
    "logits, pruned": ("logits", "probs pruned"),
    "pruned, probs": ("probs pruned", "probs"),
    "probs, short": ("probs", "probs short"),
    "near": ("logits", "logits"),
    "labels": ("logits", "labels"),
    "labels of -1": ("probs", "labels -1"),
    "one-hot": ("logits", "labels one-hot"),
}


# float16 holds too few digits for some to be what they are called.
COARSE = [name for name in LARGE if not {"percent", "pruned", "short"} & set(re.findall(r"\w+", name))]


@pytest.mark.parametrize(
    ("forms", "dtype"),
    [
        *((name, dtype) for dtype in (np.float64, np.float32) for name in LARGE),
        *((name, np.float16) for name in COARSE),
    ],
)
def test_the_numbers_of_large_arrays_are_of_all_rows(forms, dtype):
    """Whichever way a block's sums are made, and whoever makes them; in float64 of what the dtype holds."""
    a, b = LARGE[forms]
    x, t = large(a, 1).astype(dtype), large(b, 2)
    t = t if "labels" in b else t.astype(dtype)
    if forms == "near":
        t = (x + np.float64(1e-6) * large("logits", 3)).astype(dtype)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        p = wide if a.startswith("probs") else softmax(wide * (np.log(2) if a == "log2" else 1))
        p = unit(p)
        q = t.astype(np.float64)
        if "labels" in b:
            kept = t >= 0
            p, q = p[kept], np.eye(WIDTH)[t[kept]]
            t = np.eye(WIDTH, dtype=dtype)[t] if "one-hot" in b else t
        elif b.startswith("logits"):
            q = softmax(q)
        elif "short" not in b:
            q = unit(q)
        log_p, log_q = np.log(p), np.log(q)
        if forms == "near":  # softmax and its logarithm lose what the difference of the logits has
            gap = t.astype(np.float64) - wide
            shift = np.log1p((p * np.expm1(gap)).sum(-1, keepdims=True))
            by_class = q * (gap - shift)
            back = p * (shift - gap)
        else:
            by_class = np.where(q > 0, q * (log_q - log_p), 0)
            back = np.where(p > 0, p * (log_p - np.log(unit(q))), 0)
        entropy = -np.where(q > 0, q * log_q, 0).sum(-1).mean()
        cross_entropy = -np.where(q > 0, q * log_p, 0).sum(-1).mean()
    found = explain(x, t)
    assert found.rows == len(q)
    loose = 1e-4 if forms == "near" else 1e-9
    assert found.kl == pytest.approx(by_class.sum(-1).mean(), rel=loose, abs=1e-15)
    assert found.reverse == pytest.approx(back.sum(-1).mean(), rel=loose, abs=1e-15)
    assert found.entropy == pytest.approx(entropy, rel=1e-9, abs=1e-12)
    assert found.cross_entropy == pytest.approx(cross_entropy, rel=1e-9)
    np.testing.assert_allclose(found.per_class, by_class.mean(0), rtol=1e-6, atol=1e-12)
    threads = xent.get_num_threads()
    try:
        for n in (1, 3):
            xent.set_num_threads(n)
            again = explain(x, t)
            assert str(again) == str(found)
            assert json.dumps(again.to_dict()) == json.dumps(found.to_dict())
    finally:
        xent.set_num_threads(threads)


def test_a_sample_says_that_it_is_one():
    x, t = large("probs", 1), large("logits", 2) - 3
    found = explain(large("logits", 1), large("probs", 2))
    assert 0 < found.sampled < ROWS
    assert f"~ is of {found.sampled} rows only" in str(found)
    assert f"~ is of {found.sampled} rows only" in found._repr_html_()
    calls = by_name(found)
    exact = terms(large("probs", 2), large("logits", 1)).sum()
    estimate = calls["torch kl_div sum"]
    assert estimate.estimated
    assert estimate.shown.startswith("~")
    assert estimate.value != pytest.approx(exact, rel=1e-6)
    assert calls["torch cross_entropy"].value == pytest.approx(found.cross_entropy, rel=1e-12)
    assert not calls["torch cross_entropy"].estimated
    assert not explain(x[:10], t[:10]).sampled


def test_a_large_array_has_its_odd_rows_in_the_sample():
    """Rows that a relation would not hold for: without them it would be stated for all."""
    x, t = large("log_probs", 1), large("probs", 2)
    x[123, 5], t[123, 5] = -np.inf, 0
    assert "NaN where 0 meets infinity" in by_name(explain(x, t))["torch kl_div batchmean"].relation
    labels = large("labels", 2)
    labels[77] = -100
    assert "-100" in by_name(explain(x, labels))["Gluon SoftmaxCELoss"].relation


def test_what_holds_for_a_sample_is_not_said_of_all_rows():
    """Rows so long that evenly spaced ones are one row, and those with the extremes the same."""
    long = np.random.default_rng(0).normal(size=(3, 100_000))
    long[0, :2], hot = (9, -9), (long > 0) * 1.0
    found = explain(long, hot)
    calls = by_name(found)
    assert found.sampled > 1
    assert calls["torch bce_with_logits sum"].value == pytest.approx(3 * bce(long, hot), rel=1e-12)
    assert calls["torch bce_with_logits sum"].relation == "= N BCE"
    assert not calls["torch bce_with_logits sum"].is_kl
    # Which rows count is no matter of where they are.
    for labels in ([-100, 5, -100], [4, -100, 5], [-100, 5, 6]):
        calls = by_name(explain(long, np.array(labels)))
        assert calls["torch cross_entropy"].value == near(explain(long, np.array(labels)).kl), labels
        assert calls["torch cross_entropy"].relation.startswith("= KL"), labels
    # A target of one class in the rows of the sample, and of more in another.
    t = np.zeros((3, 100_000))
    t[0, 0] = t[1, 0] = t[2, 0] = 1
    t[1, :2] = 0.5
    found = explain(long, t)
    assert found.entropy == near(np.log(2) / 3)
    calls = by_name(found)
    assert calls["xent cross_entropy"].relation.startswith("= KL + H(target)")
    assert not calls["xent cross_entropy"].is_kl


def test_a_large_binary_array_has_its_odd_rows_in_the_sample():
    """Of a probability of 0 beside a target of 1 PyTorch's is not infinite: its logarithms end at -100."""
    x = np.random.default_rng(0).uniform(0.1, 0.9, 300_000)
    t = (x > 0.5) * 1.0
    x[12_345], t[12_345] = 0.0, 1.0
    for found in (explain(x, t), explain(x.reshape(-1, 100), t.reshape(-1, 100))):
        assert found.value == np.inf
        assert by_name(found)["torch binary_cross_entropy mean"].relation == "no simple relation to BCE here"


MEMORY = """
import resource, sys
import numpy as np
import xent

kind, rows, classes = sys.argv[1], *map(int, sys.argv[2:])
step = max(1, 65536 // classes)
rng = np.random.default_rng(0)


def made(to=lambda rows: rows):
    array = np.empty((rows, classes), np.float32)
    for i in range(0, rows, step):
        array[i : i + step] = to(rng.standard_normal(array[i : i + step].shape, np.float32))
    return array


x = made()
t = {"probs": lambda: made(xent.softmax), "logits": made, "labels": lambda: rng.integers(0, classes, rows, np.int8)}
t = t.get(kind, lambda: (np.arange(rows) % 2).astype(np.int8))()
if kind == "scores":
    x = x.reshape(-1)
xent.explain(x[:100], t[:100])  # what is imported and started once
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
xent.explain(x, t)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    ("kind", "rows", "classes"),
    [("probs", 16_000, 1000), ("logits", 8_000_000, 2), ("labels", 160_000, 100), ("scores", 16_000_000, 1)],
)
def test_no_large_array_is_copied(kind, rows, classes):
    """16 million elements in less than half of what a copy in float32 would take."""
    pytest.importorskip("resource", reason="the largest resident set is getrusage's")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, kind, str(rows), str(classes)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < rows * classes * 2


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("target", ["probs", "labels", "present"])
def test_progress_is_shown_where_it_takes_long(monkeypatch, target):
    x, t = large("logits", 1), (large("logits", 2) > 0) * 1 if target == "present" else large(target, 2)
    shown = {}
    for name, after, stream in (("short", 60, Terminal()), ("file", 0, io.StringIO()), ("long", 0, Terminal())):
        monkeypatch.setattr(_explain, "SHOW_AFTER", after)
        monkeypatch.setattr(sys, "stderr", stream)
        explain(x, t)
        shown[name] = stream.getvalue()
    assert (shown["short"], shown["file"]) == ("", "")
    percents = [int(number) for number in re.findall(r"(\d+) ?%", shown["long"])]
    assert shown["long"].lstrip("\r").startswith("explain: ")
    assert percents == sorted(percents)
    assert len(set(percents)) > 3
    assert percents[-1] == 100
    assert shown["long"].endswith("\r")  # and it is gone again


# ---------------------------------------------------------------------------------------------------------------------
# The result


def test_text_fits_and_marks_what_is_not_the_divergence():
    found = explain(LOGITS, TARGET)
    lines = str(found).splitlines()
    assert max(map(len, lines)) <= _explain.WIDTH
    assert all(line == line.rstrip() and line for line in lines)
    for call in found.calls:
        assert any(line.startswith(f"{' ' if call.is_kl else '!'} {call.call} ") for line in lines)


def test_to_dict_is_json():
    record = explain(LOGITS, LABELS).to_dict()
    assert json.loads(json.dumps(record)) == record
    assert record["target"] == {
        "name": "target",
        "kind": "labels",
        "normalised": None,
        "dtype": "int64",
        "shape": [2],
        "evidence": "integers from 0 to 1, one a row",
    }
    assert record["calls"][0]["value"] == record["kl"]
    assert sum(record["per_class"]) == near(record["kl"])


def test_html_is_escaped_and_whole():
    found = explain(PREDICTION, TARGET)
    text = found._repr_html_()
    assert text.count("<tr>") == text.count("</tr>") == 2 + 2 + len(found.calls) - 1 + 1
    hostile = type(found)(**{**vars(found), "use": "<script>"})
    assert "<script>" not in hostile._repr_html_()
    assert "&lt;script&gt;" in hostile._repr_html_()


def test_plot_draws_the_terms():
    matplotlib = pytest.importorskip("matplotlib", reason="Explanation.plot draws with matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = explain(LOGITS, TARGET)
    np.testing.assert_allclose(found.per_class, (TARGET * np.log(TARGET / PREDICTION)).mean(0), rtol=1e-12)
    axes = found.plot()
    above, below = (patch.get_data().values for patch in axes.patches)
    np.testing.assert_allclose(above + below, found.per_class)
    assert above.min() == 0 == below.max()
    assert found.plot(ax=axes) is axes
    pyplot.close(axes.figure)


def test_plot_without_matplotlib_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        explain(LOGITS, TARGET).plot()


def test_the_doors_are_loaded_when_they_are_asked_for():
    code = "import sys, xent; print('xent.compat' in sys.modules); xent.explain; print('explain' in xent.__all__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no attribute 'explan'"):
        xent.explan  # noqa: B018


# ---------------------------------------------------------------------------------------------------------------------
# The command


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.log(PREDICTION))
    np.savez("b.npz", target=TARGET, labels=LABELS)


def test_command(files, capsys):
    assert cli.main(["explain", "a.npy", "b.npz:target"]) == 0
    assert capsys.readouterr().out == f"{explain(np.log(PREDICTION), TARGET)}\n"
    np.save("c.npy", TARGET.T)
    np.save("d.npy", LOGITS.T)
    assert cli.main(["explain", "d.npy", "c.npy", "--axis", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kl"] == near(KL)


def test_command_writes_infinities_as_strings(files, capsys):
    assert cli.main(["explain", "a.npy", "b.npz:labels", "--json"]) == 0
    record = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert record["reverse"] == "inf"
    assert record["calls"][0]["refused"] is None


@pytest.mark.parametrize(
    "command", ["a.npy", "a.npy nope.npy", "a.npy b.npz", "a.npy b.npz:target --axis 5", "a.npy b.npz:target --axis x"]
)
def test_command_complains_in_one_line(files, capsys, command):
    assert cli.main(["explain", *command.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("xent: ")
    assert printed.err.count("\n") == 1
