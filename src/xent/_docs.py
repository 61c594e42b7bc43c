"""Docstrings of the operations: what the C table says of each, and a sentence, a formula and an example from here."""

import re
from typing import NamedTuple

# The first operand, where it is not logits.
_FIRST_OPERANDS = {"entropy": "probs"} | dict.fromkeys(("nll", "nll_terms", "nll_value_and_grad"), "log_probs")
# Those of the operations that work element by element.
_ELEMENTS = {"kl_pointwise": ("log_probs", "target"), "rel_entr": ("p", "q")}


def operands(name: str, target: str) -> tuple[str, str]:
    """What a callable calls its operands; the second is empty where it has none."""
    second = {"none": "", "labels": "labels"}.get(target, "other_logits" if name.startswith("js_div") else "target")
    return _ELEMENTS.get(name, (_FIRST_OPERANDS.get(name, "logits"), second))


# What is particular to each operation, under the source that it refers to: a sentence, a formula and an example.
# x is the prediction, t the target, c runs over the classes.
_BY_SOURCE = {
    "Blanchard, Higham and Higham, Accurately computing the log-sum-exp and softmax functions (2021).": """
logsumexp
    The logarithm of the sum of exponentials of each row.
    log sum_c exp(x_c)
    >>> xent.logsumexp([0, -50])
    np.float64(1.9287498479639178e-22)
log_softmax
    The logarithm of each row's softmax: log-probabilities, in nats.
    x_c - log sum_k exp(x_k)
    >>> xent.log_softmax([1000.0, 1000.0])
    array([-0.69314718, -0.69314718])
""",
    "Bridle, Probabilistic interpretation of feedforward classification network outputs (1990).": """
softmax
    The probabilities that belong to each row of logits.
    exp(x_c) / sum_k exp(x_k)
    >>> xent.softmax([[0.0, 0.0], [1000.0, 0.0]])
    array([[0.5, 0.5],
           [1. , 0. ]])
""",
    "Shannon, A Mathematical Theory of Communication (1948).": """
entropy
    The entropy of each row of probabilities, in nats; NaN where one is negative.
    -sum_c p_c log p_c, with 0 log 0 = 0
    >>> xent.entropy([0.5, 0.5])
    np.float64(0.6931471805599453)
softmax_entropy
    The entropy of the softmax of each row of logits, in nats.
    -sum_c p_c log p_c, p = softmax(x)
    >>> xent.softmax_entropy([3.0, 3.0])
    np.float64(0.6931471805599453)
cross_entropy
    The cross-entropy of logits under target probabilities, in nats; linear in the target.
    -sum_c t_c log_softmax(x)_c
    >>> xent.cross_entropy([0.0, 0.0], [0.25, 0.75])
    np.float64(0.6931471805599453)
cross_entropy_with_labels
    The cross-entropy of logits under class labels, in nats.
    -log_softmax(x)_y for the label y
    >>> xent.cross_entropy_with_labels([[0.0, 0.0], [0.0, 50.0]], [0, 1])
    array([6.93147181e-01, 1.92874985e-22])
    >>> xent.cross_entropy_with_labels([[0.0, 0.0], [0.0, 50.0]], [0, 2])
    Traceback (most recent call last):
    IndexError: cross_entropy_with_labels: label 2 at 1 is out of range for 2 classes: labels may hold 0 to 1
cross_entropy_terms
    The terms of the cross-entropy, one a class, in nats.
    -t_c log_softmax(x)_c
    >>> xent.cross_entropy_terms([0.0, 0.0], [1.0, 0.0])
    array([0.69314718, 0.        ])
cross_entropy_value_and_grad
    cross_entropy and its gradient with respect to the logits, in one call.
    -sum_c t_c log_softmax(x)_c, and T softmax(x)_c - t_c with T = sum_c t_c
    >>> value, gradient = xent.cross_entropy_value_and_grad([0.0, 0.0], [1.0, 0.0])
    >>> gradient
    array([-0.5,  0.5])
cross_entropy_with_labels_value_and_grad
    cross_entropy_with_labels and its gradient with respect to the logits, in one call.
    -log_softmax(x)_y, and softmax(x)_c - [c = y]
    >>> value, gradient = xent.cross_entropy_with_labels_value_and_grad([0.0, 0.0], 0)
    >>> gradient
    array([-0.5,  0.5])
cross_entropy_value_and_hess
    cross_entropy and the diagonal of its Hessian with respect to the logits, in one call.
    -sum_c t_c log_softmax(x)_c, and T p_c (1 - p_c) with p = softmax(x) and T = sum_c t_c
    >>> value, hessian = xent.cross_entropy_value_and_hess([0.0, 0.0], [1.0, 0.0])
    >>> hessian
    array([0.25, 0.25])
cross_entropy_with_labels_value_and_hess
    cross_entropy_with_labels and the diagonal of its Hessian with respect to the logits, in one call.
    -log_softmax(x)_y, and p_c (1 - p_c) with p = softmax(x)
    >>> value, hessian = xent.cross_entropy_with_labels_value_and_hess([40.0, 0.0, 0.0], 0)
    >>> hessian
    array([8.49670851e-18, 4.24835426e-18, 4.24835426e-18])
nll
    Minus the log-probability of each row's label, in nats; the log-probabilities are taken as they are.
    -x_y for log-probabilities x and the label y; nothing else of the row is looked at
    >>> xent.nll([[-0.5, -1.0], [-2.0, -0.25]], [0, 1])
    array([0.5 , 0.25])
nll_terms
    The terms of nll, one a class: 0 but at the label.
    -x_c [c = y]
    >>> xent.nll_terms([-0.5, -1.0], 1)
    array([0., 1.])
nll_value_and_grad
    nll and its gradient with respect to the log-probabilities, in one call.
    -x_y, and -[c = y]
    >>> value, gradient = xent.nll_value_and_grad([-0.5, -1.0], 1)
    >>> gradient
    array([ 0., -1.])
""",
    "Kullback and Leibler, On Information and Sufficiency (1951).": """
kl_div
    The Kullback-Leibler divergence of target probabilities from the softmax of logits, in nats.
    sum_c t_c (log t_c - log_softmax(x)_c), KL(t, softmax(x)) for a target that sums to one
    >>> xent.kl_div([0.0, 0.0], [1.0, 0.0])
    np.float64(0.6931471805599453)
kl_div_with_logits
    The Kullback-Leibler divergence of the softmax of target logits from that of logits, in nats.
    KL(softmax(t), softmax(x)) = sum_c softmax(t)_c (log_softmax(t)_c - log_softmax(x)_c)
    >>> xent.kl_div_with_logits([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    np.float64(0.0)
kl_div_with_log_probs
    The Kullback-Leibler divergence of target log-probabilities from the softmax of logits, in nats.
    sum_c t_c (log t_c - log_softmax(x)_c) with log t given; what does not sum to one is not normalised
    >>> xent.kl_div_with_log_probs([0.0, 0.0], [0.0, -np.inf])
    np.float64(0.6931471805599453)
kl_div_terms
    The terms of kl_div, one a class, in nats; a term may be negative.
    t_c (log t_c - log_softmax(x)_c), 0 where t_c = 0
    >>> xent.kl_div_terms([0.0, 0.0], [1.0, 0.0])
    array([0.69314718, 0.        ])
kl_div_with_logits_terms
    The terms of kl_div_with_logits, one a class, in nats; a term may be negative.
    t_c (log t_c - log_softmax(x)_c), t = softmax(target)
    >>> xent.kl_div_with_logits_terms([0.0, 0.0], [0.0, -np.inf])
    array([0.69314718, 0.        ])
kl_div_with_log_probs_terms
    The terms of kl_div_with_log_probs, one a class, in nats; a term may be negative.
    t_c (log t_c - log_softmax(x)_c) with log t given
    >>> xent.kl_div_with_log_probs_terms([0.0, 0.0], [0.0, -np.inf])
    array([0.69314718, 0.        ])
kl_div_value_and_grad
    kl_div and its gradient with respect to the logits, in one call.
    sum_c t_c (log t_c - log_softmax(x)_c), and T softmax(x)_c - t_c with T = sum_c t_c
    >>> value, gradient = xent.kl_div_value_and_grad([0.0, 0.0], [1.0, 0.0])
    >>> gradient
    array([-0.5,  0.5])
kl_div_with_logits_value_and_grad
    kl_div_with_logits and its gradient with respect to the logits, in one call.
    KL(softmax(t), softmax(x)), and softmax(x)_c - softmax(t)_c
    >>> value, gradient = xent.kl_div_with_logits_value_and_grad([0.0, 0.0], [0.0, -np.inf])
    >>> gradient
    array([-0.5,  0.5])
kl_div_with_log_probs_value_and_grad
    kl_div_with_log_probs and its gradient with respect to the logits, in one call.
    sum_c t_c (log t_c - log_softmax(x)_c), and T softmax(x)_c - t_c with T = sum_c t_c
    >>> value, gradient = xent.kl_div_with_log_probs_value_and_grad([0.0, 0.0], [0.0, -np.inf])
    >>> gradient
    array([-0.5,  0.5])
kl_div_with_logits_value_and_target_grad
    kl_div_with_logits and its gradient with respect to the target's logits, in one call.
    KL(p, softmax(x)), and p_c (log p_c - log_softmax(x)_c - KL(p, softmax(x))) with p = softmax(t)
    >>> value, gradient = xent.kl_div_with_logits_value_and_target_grad([0.0, 0.0], [1.0, 0.0])
    >>> gradient.round(6)
    array([ 0.196612, -0.196612])
""",
    "Lin, Divergence measures based on the Shannon entropy (1991).": """
js_div
    The Jensen-Shannon divergence of the softmaxes of two rows of logits, in nats: from 0 to log 2, symmetric.
    KL(p, m) / 2 + KL(q, m) / 2, p = softmax(x), q = softmax(y), m = (p + q) / 2
    >>> xent.js_div([0.0, -np.inf], [-np.inf, 0.0])
    np.float64(0.6931471805599453)
js_div_terms
    The terms of js_div, one a class, in nats; never negative.
    (p_c log(p_c / m_c) + q_c log(q_c / m_c)) / 2
    >>> xent.js_div_terms([0.0, -np.inf], [-np.inf, 0.0])
    array([0.34657359, 0.34657359])
js_div_value_and_grad
    js_div and its gradient with respect to the first operand, in one call.
    the value, and p_c (log(p_c / m_c) - KL(p, m)) / 2
    >>> value, gradient = xent.js_div_value_and_grad([0.0, 0.0], [0.0, -np.inf])
    >>> gradient.round(6)
    array([-0.137327,  0.137327])
""",
    "Cox, The regression analysis of binary sequences (1958).": """
binary_cross_entropy
    The cross-entropy of independent yes-or-no classes, added over a row, in nats; linear in the target.
    -sum_c (t_c log sigmoid(x_c) + (1 - t_c) log sigmoid(-x_c)), with 0 log 0 = 0
    >>> xent.binary_cross_entropy([0.0, 50.0], [1.0, 1.0])
    np.float64(0.6931471805599453)
binary_cross_entropy_terms
    The terms of binary_cross_entropy, one a class, in nats; a NaN stays in its own class.
    -t_c log sigmoid(x_c) - (1 - t_c) log sigmoid(-x_c)
    >>> xent.binary_cross_entropy_terms([0.0, 50.0], [1.0, 1.0])
    array([6.93147181e-01, 1.92874985e-22])
binary_cross_entropy_value_and_grad
    binary_cross_entropy and its gradient with respect to the logits, in one call.
    the value, and sigmoid(x_c) - t_c
    >>> value, gradient = xent.binary_cross_entropy_value_and_grad([0.0, 50.0], [1.0, 1.0])
    >>> gradient
    array([-5.00000000e-01, -1.92874985e-22])
""",
    "PyTorch's torch.nn.functional.kl_div(x, t, reduction='none').": """
kl_pointwise
    t (log t - x) of a log-probability x, taken as it is, and a probability t; not reduced.
    t (log t - x), 0 where t = 0, NaN where t < 0
    >>> xent.kl_pointwise(np.log(0.5), 1.0)
    np.float64(0.6931471805599453)
""",
    "SciPy's scipy.special.rel_entr.": """
rel_entr
    p log(p / q) element by element; not reduced.
    p log(p / q) for p, q > 0; 0 for p = 0, q >= 0; +inf elsewhere
    >>> xent.rel_entr([1.0, 0.0, 1.0], [0.5, 0.5, 0.0])
    array([0.69314718, 0.        ,        inf])
""",
}


class Entry(NamedTuple):
    """What is particular to one operation."""

    source: str
    summary: str
    formula: str
    example: list[str]


def _entries() -> dict[str, Entry]:
    entries = {}
    for source, text in _BY_SOURCE.items():
        for block in re.split(r"\n(?=\S)", text.strip()):
            name, summary, formula, *example = (line.removeprefix("    ") for line in block.split("\n"))
            entries[name] = Entry(source, summary, formula, example)
    return entries


ENTRIES = _entries()

_FIRST = {
    "logits": "The prediction, of shape (..., C): any real numbers. Log-probabilities are valid logits.",
    "probs": "Probabilities, of shape (..., C), taken as they are.",
    "log_probs": "Log-probabilities, of shape (..., C), taken as they are.",
}
_BATCH = "batch dimensions broadcast with those of logits."
_SECOND = {
    "probs": f"Probabilities, of shape (..., C), taken as they are; {_BATCH}",
    "logits": f"Logits of the target, of shape (..., C); {_BATCH}",
    "log_probs": f"Log-probabilities, of shape (..., C), taken as they are; {_BATCH}",
    "labels": "One class a row, 0 to C - 1, of any integer dtype; broadcasts with the batch shape of logits.",
    "other_logits": "The other row of logits, of shape (..., C); batch dimensions broadcast.",
}
_LABEL_ERROR = """\
IndexError
    A label outside 0 to C - 1: its value, its position and C. Nothing is written.
    On a GPU: NaN in its row, unless asked for (xent.cuda).
"""
_VALUE = "One value a row, of the batch shape; a NumPy scalar for a single row."
_ROWS = "One value a row and class, of the broadcast shape of the operands."
_DERIVATIVES = {
    "grad": ("gradient", "The gradient of each row's value with respect to its first operand, of the broadcast shape."),
    "target_grad": ("gradient", "The gradient of each row's value with respect to its target, of the broadcast shape."),
    "hess": ("hessian", "The diagonal of the Hessian of each row's value with respect to the logits, of their shape."),
}


def _head(name: str) -> str:
    """An operation without an entry gets what the table alone can say."""
    entry = ENTRIES.get(name)
    return f"The operation {name} of libxent.\n" if entry is None else f"{entry.summary}\n\n    {entry.formula}\n"


def _tail(name: str) -> str:
    if name not in ENTRIES:
        return ""
    entry = ENTRIES[name]
    numpy = [">>> import numpy as np"] * any("np." in line for line in entry.example if line.startswith(">>>"))
    example = "\n".join([*numpy, ">>> import xent", *entry.example])
    return f"""
References
----------
{entry.source}

Examples
--------
{example}
"""


def _returns(name: str, has_value: bool, has_emit: bool) -> str:
    if has_value and has_emit:
        what, text = _DERIVATIVES[name.rpartition("_and_")[2]]
        return f"value : ndarray or scalar\n    {_VALUE}\n{what} : ndarray\n    {text}"
    return f"ndarray or scalar\n    {_VALUE}" if has_value else f"ndarray\n    {_ROWS}"


def callable_doc(name: str, target: str, operands: tuple[str, str], has_value: bool, has_emit: bool) -> str:
    """The docstring of ``xent.<name>``."""
    first, second = operands
    labels = target == "labels"
    text = _SECOND.get("other_logits" if second == "other_logits" else target)
    operand = "" if text is None else f"{second} : array_like{' of int' * labels}\n    {text}\n"
    excluded = "probability 0" if first == "probs" else "a logit of -inf with target 0"
    outs = "a pair of arrays, either of them None" if has_value and has_emit else "an array"
    return f"""\
{_head(name)}
Parameters
----------
{first} : array_like
    {_FIRST[first]}
{operand}axis : int, tuple of int or None, default -1
    The class axis, counted in each operand by itself; a tuple is taken as one axis, None as all.
keepdims : bool, default False
    Keep the class axis with length 1 in a result that has one value a row.
where : array_like of bool, optional
    Broadcasts to the operands' shape; a class where it is False acts as {excluded}.
    Not a masked array.
out : {outs}, optional
    Where to put the result; may overlap the operands.
dtype : float16, bfloat16 (of ml_dtypes), float32 or float64, optional
    That of the result, else what the operands' promote to; integers and bools count as float64, and
    float16 with bfloat16 gives float32. The two of 16 bits are computed in float32.

Returns
-------
{_returns(name, has_value, has_emit)}

Raises
------
TypeError
    A dtype that is none of the above: complex, longdouble, object, 16 bits of no type (|V2).
ValueError
    Shapes that do not match; `out` of another shape, or read-only. Nothing is written.
{_LABEL_ERROR * labels}
Notes
-----
The mask of a masked array means `where`: what it hides is left out{", with a masked label its whole row" * labels}.
Tables of pandas and polars and xarray's arrays are read as plain arrays, axes by position, and a missing
value as NaN{" (a missing label: TypeError)" * labels}; plain arrays are the result. dask's arrays stay lazy,
and take no `out`. PyTorch's bfloat16 tensors in CPU memory need ml_dtypes.
{_tail(name)}"""


def ufunc_doc(name: str, signature: str) -> str:
    """The docstring of ``xent.ufuncs.<name>``; NumPy puts the call's form in front of it."""
    if signature == "(),()->()":
        return _head(name) + _tail(name)
    return f"""\
{_head(name)}
A generalized ufunc of signature {signature}; xent.{name} is the callable in front of it, which also
takes several class axes, masks, pandas objects and labels of mixed dtypes.
"""


_CUDA_LABELS = """
check_labels=False is the default: a label outside 0 to C - 1 makes its row's results NaN, without
a wait. With True the call waits for the GPU and raises the CPU's IndexError, which cannot be while a
graph is captured.
"""


def cuda_doc(name: str, target: str, operands: tuple[str, str], *_results: bool) -> str:
    """The docstring of ``xent.cuda.<name>``: what is its own."""
    return f"""\
{_head(name)}
As xent.{name}, of arrays on one CUDA GPU: queued on `stream` (an int or a stream object), or else on
the current stream of the library of `{operands[0]}`, whose array the result is. See xent.cuda for what
differs from arrays in CPU memory.
{_CUDA_LABELS * (target == "labels")}"""
