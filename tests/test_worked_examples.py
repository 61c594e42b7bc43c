"""Small examples worked by hand, through every door. Some of their six decimals are rounded, some cut off."""

import numpy as np
import pytest

import xent
from xent import losses

LOGITS = np.array([[1.2, 0.3, -0.8], [0.2, 2.5, -0.3]])
LABELS = np.array([0, 1])
TARGET = np.array([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2]])


def near(value):
    return pytest.approx(value, abs=1.1e-6)


def test_cross_entropy_with_labels():
    assert xent.cross_entropy_with_labels(LOGITS, LABELS) == near([0.433019, 0.149341])
    assert xent.ufuncs.cross_entropy_with_labels(LOGITS, LABELS) == near([0.433019, 0.149341])
    assert losses.cross_entropy(LOGITS, LABELS, reduction="none") == near([0.433019, 0.149341])
    assert losses.cross_entropy(LOGITS, LABELS) == near(0.291180)
    assert xent.cross_entropy(LOGITS, np.eye(3)[LABELS]) == near([0.433019, 0.149341])


def test_kl_per_class():
    terms = [[0.167900, -0.096957, 0.013043], [0.014676, -0.145134, 0.267981]]
    assert xent.kl_div_terms(LOGITS, TARGET) == near(np.array(terms))
    assert losses.kl_div(LOGITS, TARGET, reduction="terms") == near(np.array(terms))
    assert losses.kl_div(LOGITS, TARGET, reduction="per_class") == near(np.sum(terms, axis=0))
    assert losses.kl_div(LOGITS, TARGET, reduction="sum") == near(0.221509)
    assert losses.kl_div(LOGITS, TARGET) == near(0.110755)
    assert losses.kl_div(LOGITS, TARGET, reduction="terms").mean() == near(0.036918)
    assert losses.kl_div(LOGITS, np.log(TARGET), target_kind="log_probs") == near(0.110755)
    assert losses.kl_div(LOGITS, np.log(TARGET), target_kind="logits") == near(0.110755)
    assert xent.kl_pointwise(xent.log_softmax(LOGITS), TARGET) == near(np.array(terms))
    assert xent.rel_entr(TARGET, xent.softmax(LOGITS)) == near(np.array(terms))


def test_one_row():
    logits = [0.1, 0.2, 0.4, 0.3]
    target = xent.softmax([0.7, 0.1, 0.1, 0.1])
    terms = [0.215128, -0.027099, -0.068575, -0.047837]
    assert xent.kl_div_terms(logits, target) == near(np.array(terms))
    assert xent.kl_div_with_logits_terms(logits, [0.7, 0.1, 0.1, 0.1]) == near(np.array(terms))
    assert xent.kl_div(logits, target) == near(0.071616)
    assert xent.kl_div_terms(logits, target).mean() == near(0.017904)
    assert xent.cross_entropy(logits, target) - xent.entropy(target) == near(0.071616)


def test_in_float32():
    value = xent.cross_entropy_with_labels(LOGITS.astype(np.float32), LABELS.astype(np.uint8))
    assert value.dtype == np.float32
    assert value == near([0.433019, 0.149341])
