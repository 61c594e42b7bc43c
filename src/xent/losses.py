"""Losses with the options that training and evaluation code needs: weights, masks, reductions, gradients.

Values are in nats; the prediction comes first, the target second. Nothing of the logits' size is allocated unless it is
the result, or the logits (or a mask) have to be converted: integers to float64, a masked array's mask to ``where``.

What the reductions return, for losses ``l_i`` and sample weights ``s_i`` (1 without ``sample_weight``) of the rows that
count:

============= ==========================================================================================
"none"        ``s_i l_i``, one value a row
"sum"         ``sum_i s_i l_i``
"mean"        ``sum_i s_i l_i / D``; ``D`` is ``sum_i s_i w_y`` for labels ``y`` with class weights ``w`` (1 without
              ``weight``), and ``sum_i s_i`` for every other target; NaN, without a warning, where ``D`` is 0
"terms"       what is added over the classes, one value a row and class, times ``s_i``
"per_class"   the terms summed over the rows, one value a class
============= ==========================================================================================

A row does not count where its label equals ``ignore_index``, where its label is masked, or where ``where`` selects
none of its classes: its value, terms and gradient are 0 and it is left out of ``D``.
"""

import operator

import numpy as np

from xent._core import as_array, evaluate_loss

__all__ = ["cross_entropy", "kl_div"]

_REDUCTIONS = ("none", "sum", "mean", "terms", "per_class")
_KL_OPERATIONS = {"probs": "kl_div", "log_probs": "kl_div_with_log_probs", "logits": "kl_div_with_logits"}


def cross_entropy(
    logits,
    target,
    *,
    axis=-1,
    weight=None,
    sample_weight=None,
    ignore_index=None,
    where=None,
    label_smoothing=0.0,
    reduction="mean",
    return_grad=False,
):
    """Cross-entropy of logits under labels or target probabilities, in nats.

    For a row x and target probabilities t it is ``-sum_c t'_c log_softmax(x)_c`` with
    ``t'_c = w_c ((1 - a) t_c + a / K)``, where w is ``weight``, a is ``label_smoothing`` and K is the number of the
    row's classes that ``where`` selects. A label y is the target that is 1 at y and 0 elsewhere: without smoothing the
    row's loss is ``-w_y log_softmax(x)_y``. It is linear in the target, which is not normalised.

    Parameters
    ----------
    logits : array_like
        The prediction, C classes along `axis`. Log-probabilities are valid logits.
    target : array_like
        Of an integer dtype: labels, one a row, of a shape that broadcasts with that of `logits` without `axis`. Of a
        floating dtype: probabilities, C classes along `axis`; the other dimensions broadcast with those of `logits`.
    axis : int, default -1
        The class axis, counted in each operand by itself.
    weight : array_like of shape (C,), optional
        One weight a class, which multiplies that class's target.
    sample_weight : array_like, optional
        One weight a row, which multiplies its value, terms and gradient; broadcasts to the batch shape.
    ignore_index : int, optional
        Rows with this label do not count; it may lie outside 0 to C - 1. For labels only.
    where : array_like of bool, optional
        Broadcasts to the shape of the logits. A class where it is False acts as a logit of -inf with target 0; terms
        and gradient are 0 there. A row whose own label is left out has loss 0 and counts; a row without any class
        left does not count.
    label_smoothing : float, default 0.0
        From 0 to 1: how much of the target is spread evenly over the row's classes.
    reduction : {"none", "sum", "mean", "terms", "per_class"}, default "mean"
        See the module's docstring. With labels, "mean" divides by the sum of the counted rows' ``sample_weight`` times
        the weight of their labels (as PyTorch does); with probabilities, by the sum of their ``sample_weight``.
    return_grad : bool, default False
        Also return the gradient with respect to the logits of what is returned: of each row's own value for "none",
        of the scalar for "sum" and "mean".

    Returns
    -------
    value : ndarray or NumPy scalar
        Of the widest floating dtype of logits and target; labels and weights do not count, integer logits are float64.
    gradient : ndarray
        With `return_grad`: of the broadcast shape of the operands and of the same dtype.

    Raises
    ------
    TypeError
        `target` is bool, or an operand is complex, longdouble or object.
    ValueError
        Shapes that do not match, an unknown reduction, an option out of its range, `return_grad` with "terms" or
        "per_class", `ignore_index` with probabilities, or integers of the logits' own shape as target.
    IndexError
        A label that is neither `ignore_index` nor in 0 to C - 1: its value, its position and C.

    Examples
    --------
    >>> import numpy as np
    >>> from xent.losses import cross_entropy
    >>> logits = np.array([[0.0, 0.0], [0.0, 50.0]])
    >>> cross_entropy(logits, [0, 1], reduction="none")
    array([6.93147181e-01, 1.92874985e-22])
    >>> cross_entropy(logits, [0, -100], ignore_index=-100)
    np.float64(0.6931471805599453)
    >>> value, gradient = cross_entropy(logits, [[0.5, 0.5], [0.0, 1.0]], reduction="sum", return_grad=True)
    >>> gradient[0]
    array([0., 0.])
    """
    name = "cross_entropy"
    reduction = _checked_reduction(name, reduction, return_grad)
    target = as_array(target, name, "target")
    dtype = target.dtype
    if dtype.kind == "b":
        raise TypeError(f"{name}: a bool target is neither labels (integers) nor probabilities (floating)")
    labels = dtype.kind in "iu"
    smoothing = float(label_smoothing)
    if not 0.0 <= smoothing <= 1.0:
        raise ValueError(f"{name}: label_smoothing must be from 0 to 1, got {label_smoothing!r}")
    if ignore_index is not None:
        ignore_index = operator.index(ignore_index)
        if not labels:
            raise ValueError(f"{name}: ignore_index goes with labels; the target is probabilities ({dtype})")
    operation = "cross_entropy"
    if reduction in ("terms", "per_class"):
        operation = "cross_entropy_terms"
    elif labels and smoothing == 0.0:
        # No need to walk a one-hot row: the label's own logit and logsumexp are all that matters.
        operation = "cross_entropy_with_labels"
    return evaluate_loss(
        operation + "_value_and_grad" * bool(return_grad),
        logits,
        target,
        caller=name,
        labels=labels,
        axis=axis,
        where=where,
        weight=_as_weights(name, "weight", weight),
        sample_weight=_as_weights(name, "sample_weight", sample_weight),
        label_smoothing=smoothing,
        ignore_index=ignore_index,
        reduction=reduction,
    )


def kl_div(
    logits,
    target,
    *,
    axis=-1,
    target_kind="probs",
    temperature=1.0,
    sample_weight=None,
    where=None,
    reduction="mean",
    return_grad=False,
):
    """Kullback-Leibler divergence of a target distribution from the softmax of logits, in nats.

    For a row x and target probabilities t it is ``sum_c t_c (log t_c - log_softmax(x / temperature)_c)``, with
    ``0 log 0 = 0``: KL(t, softmax(x / temperature)). Its mean over rows is what PyTorch calls "batchmean"; PyTorch's
    "mean" divides by the number of classes too.

    A target that sums to T instead of 1 is not normalised: the value is ``T KL(t / T, softmax(x)) + h``, where h is 0
    if T differs from 1 by rounding only (at most ``eps (4 + sqrt(C))``, with the eps of the target's dtype), and
    ``T log T`` otherwise. A negative target probability gives NaN.

    Parameters
    ----------
    logits : array_like
        The prediction, C classes along `axis`. Log-probabilities are valid logits.
    target : array_like
        The target, C classes along `axis`; the other dimensions broadcast with those of `logits`.
    axis : int, default -1
        The class axis, counted in each operand by itself.
    target_kind : {"probs", "log_probs", "logits"}, default "probs"
        What `target` holds. Probabilities and log-probabilities are taken as they are; of logits the softmax is the
        target.
    temperature : float or array_like, default 1.0
        Positive: one for all rows, or of a shape that broadcasts to the batch shape. Divides the logits and, with
        ``target_kind="logits"``, the target logits, as if they had been divided and rounded before the call. The
        gradient is that of the value with respect to the undivided logits, so it holds a factor ``1 / temperature``;
        nothing is multiplied by the ``temperature**2`` that distillation recipes often add.
    sample_weight : array_like, optional
        One weight a row, which multiplies its value, terms and gradient; broadcasts to the batch shape.
    where : array_like of bool, optional
        Broadcasts to the shape of the logits. A class where it is False acts as a logit of -inf with target 0; terms
        and gradient are 0 there. A row without any class left does not count.
    reduction : {"none", "sum", "mean", "terms", "per_class"}, default "mean"
        See the module's docstring. "mean" divides by the sum of the counted rows' ``sample_weight``.
    return_grad : bool, default False
        Also return the gradient with respect to the logits of what is returned: of each row's own value for "none",
        of the scalar for "sum" and "mean".

    Returns
    -------
    value : ndarray or NumPy scalar
        Of the widest floating dtype of logits and target; weights do not count, integers are float64.
    gradient : ndarray
        With `return_grad`: of the broadcast shape of the operands and of the same dtype.

    Raises
    ------
    TypeError
        An operand is complex, longdouble or object.
    ValueError
        Shapes that do not match, an unknown reduction or target_kind, a temperature that is not positive, or
        `return_grad` with "terms" or "per_class".

    Examples
    --------
    >>> import numpy as np
    >>> from xent.losses import kl_div
    >>> kl_div([[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.5, 0.5]], reduction="none")
    array([0.69314718, 0.        ])
    >>> kl_div([[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.5, 0.5]], reduction="per_class")
    array([0.69314718, 0.        ])
    >>> value, gradient = kl_div([0.0, 0.0], [0.0, -np.inf], target_kind="logits", temperature=2.0, return_grad=True)
    >>> gradient
    array([-0.25,  0.25])
    """
    name = "kl_div"
    reduction = _checked_reduction(name, reduction, return_grad)
    if target_kind not in _KL_OPERATIONS:
        raise ValueError(f"{name}: target_kind must be one of {', '.join(_KL_OPERATIONS)}, got {target_kind!r}")
    if type(temperature) is float and temperature == 1.0:
        temperature = None
    else:
        temperature = _as_weights(name, "temperature", temperature)
        if not ((temperature > 0.0) & (temperature < np.inf)).all():
            raise ValueError(f"{name}: temperature must be positive and finite")
    operation = _KL_OPERATIONS[target_kind]
    if reduction in ("terms", "per_class"):
        operation += "_terms"
    return evaluate_loss(
        operation + "_value_and_grad" * bool(return_grad),
        logits,
        target,
        caller=name,
        axis=axis,
        where=where,
        sample_weight=_as_weights(name, "sample_weight", sample_weight),
        temperature=temperature,
        reduction=reduction,
    )


def _checked_reduction(name, reduction, return_grad):
    if reduction not in _REDUCTIONS:
        raise ValueError(f"{name}: reduction must be one of {', '.join(_REDUCTIONS)}, got {reduction!r}")
    if return_grad and reduction in ("terms", "per_class"):
        raise ValueError(f"{name}: return_grad goes with one value a row or in all, not with reduction={reduction!r}")
    return reduction


def _as_weights(name, option, weights):
    """Float64, in which the kernels read weights and temperatures."""
    if weights is None:
        return None
    weights = np.asarray(as_array(weights, name, option))
    if not np.can_cast(weights.dtype, np.float64, "same_kind"):
        raise TypeError(f"{name}: {option} must be real numbers, not {weights.dtype}")
    return weights.astype(np.float64, copy=False)
