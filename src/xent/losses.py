"""Losses with the options that training and evaluation code needs: weights, masks, reductions, gradients.

Values are in nats; the prediction comes first, the target second. Nothing of the logits' size is allocated unless it is
the result, or an operand (or a mask) has to be converted: integers to float64, a masked array's mask to ``where``.
Only `distillation` with labels needs, for a gradient or terms, those of both of its parts.

What the reductions return, for losses ``l_i`` and sample weights ``s_i`` (1 without ``sample_weight``) of the rows that
count:

============= ==========================================================================================
"none"        ``s_i l_i``, one value a row
"sum"         ``sum_i s_i l_i``
"mean"        ``sum_i s_i l_i / D``; ``D`` is ``sum_i s_i w_y`` in ``cross_entropy`` and ``nll`` with labels ``y`` and
              class weights ``w`` (1 without ``weight``), and ``sum_i s_i`` everywhere else: never the number of
              classes; NaN, without a warning, where ``D`` is 0
"terms"       what is added over the classes, one value a row and class, times ``s_i``
"per_class"   the terms summed over the rows, one value a class
============= ==========================================================================================

The "sum" and "mean" of 16-bit floats are float32 scalars; all else has the operands' dtype. ``dtype=`` decides
otherwise, for values and gradients.

A row does not count where its label equals ``ignore_index``, where its label is masked, or where ``where`` selects
none of its classes: its value, terms and gradient are 0 and it is left out of ``D``.

A target or a ``where`` of fewer dimensions than the logits is refused, as are whole numbers above 1 as probabilities:
they are labels, counts or masks of rows, of which broadcasting would make a number without a word.

An array of dask is computed first, as a whole: the result is one of NumPy. The callables of `xent` are lazy there.

Arrays on a CUDA GPU (PyTorch's, CuPy's, JAX's) stay there, and so does the result: see `xent.cuda`. Labels are then not
checked by default: one out of range makes its row's results NaN instead of an IndexError, for which the call would have
to wait; inside ``xent.cuda.using(check_labels=True)`` it does.
"""

import functools
import inspect

import numpy as np

from xent import _temperatures
from xent._core import (
    Options,
    as_array,
    as_label,
    as_numbers,
    as_share,
    as_temperatures,
    as_weights,
    evaluate_loss,
    hints,
    mask_of_classes,
    on_gpu,
    operand,
    place,
)

__all__ = ["binary_cross_entropy", "cross_entropy", "distillation", "js_div", "kl_div", "nll"]

_REDUCTIONS = ("none", "sum", "mean", "terms", "per_class")
_KL_OPERATIONS = {"probs": "kl_div", "log_probs": "kl_div_with_log_probs", "logits": "kl_div_with_logits"}


def _loss(function):
    """`function`, whose calls that do not fit its signature are refused as the callables of `xent` refuse them."""

    @functools.wraps(function)
    def call(*operands, **options):
        try:
            return function(*operands, **options)
        except TypeError:
            try:
                inspect.signature(function).bind(*operands, **options)
            except TypeError:
                pass
            else:
                raise
        hints().refuse_call(function.__name__, inspect.signature(function), len(operands), options)

    return call


@_loss
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
    return_hess=False,
    dtype=None,
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
        Rows with this label do not count; it may lie outside 0 to C - 1, and is an int64. For labels only. Labels of
        an unsigned dtype are never negative: -100 that was cast to one is a large label, an IndexError, and
        ``target.view(np.int64)`` (of uint64) has it back. uint64 labels beyond int64 count as 2**63 - 1.
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
    return_hess : bool, default False
        Also return the diagonal of that value's Hessian, as boosting uses it: ``T p (1 - p)`` with ``p = softmax(x)``
        and ``T = sum_c t'_c``, times the row's weight. A confident class keeps its digits.
    dtype : dtype, optional
        Of everything returned, which is computed in float64 where it is float64 and in float32 otherwise. By default
        the dtypes below.

    Returns
    -------
    value : ndarray or NumPy scalar
        Of the widest floating dtype of logits and target; labels and weights do not count, integer logits are float64;
        "sum" and "mean" of 16-bit floats are float32.
    gradient : ndarray
        With `return_grad`: of the broadcast shape of the operands and of their widest floating dtype.
    hessian : ndarray
        With `return_hess`, last: as the gradient.

    Raises
    ------
    TypeError
        `target` is bool or holds names (strings, objects, categories), an operand is complex, longdouble or object, or
        a weight or `where` is masked.
    ValueError
        Shapes that do not match, an unknown reduction, an option out of its range, `return_grad` or `return_hess` with
        "terms" or "per_class", `ignore_index` with probabilities, or integers of the logits' own shape as target.
        Also, because they are mistakes that broadcasting would hide: probabilities or a `where` of fewer dimensions
        than the logits, and whole numbers above 1 as probabilities.
    IndexError
        A label that is neither `ignore_index` nor in 0 to C - 1: its value, its position and C. On a GPU: NaN in its
        row, unless asked for (`xent.cuda.using`).

    Notes
    -----
    A label that `where` leaves out is a target of 0 everywhere: with `label_smoothing` the loss is what that spreads
    over the classes left, and "mean" still counts the label's weight.

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
    >>> value, hessian = cross_entropy([40.0, 0.0, 0.0], 0, return_hess=True)
    >>> hessian
    array([8.49670851e-18, 4.24835426e-18, 4.24835426e-18])
    """
    name = "cross_entropy"
    variant = _variant(name, reduction, return_grad, return_hess)
    given = getattr(target, "dtype", None)
    logits, target = operand(logits, name, "logits"), operand(target, name, "target")
    kind = target.dtype.kind
    if kind == "f" and given is None and target.size == 0 and target.ndim == logits.ndim - 1:
        target, kind = target.astype(np.intp), "i"  # NumPy makes an empty list of labels float64
    if kind not in "iuf" and target.dtype.name != "bfloat16" and target.dtype != "V2":
        given = target.dtype if given is None else given
        raise TypeError(hints().neither_labels_nor_probs(name, "target", given, kind))
    labels = kind in "iu"
    if not labels and where is None:
        _check_not_counts(name, logits, target)
    smoothing = as_share(label_smoothing, name, "label_smoothing")
    if ignore_index is not None and not labels:
        raise ValueError(f"{name}: ignore_index goes with labels; the target is probabilities ({target.dtype})")
    operation = "cross_entropy"
    if variant == "_terms":
        operation = "cross_entropy_terms"
    elif labels and smoothing == 0.0:
        # No need to walk a one-hot row: the label's own logit and logsumexp are all that matters.
        operation = "cross_entropy_with_labels"
    options = Options(
        name,
        axis,
        where,
        sample_weight,
        reduction,
        dtype,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=smoothing,
        labels=labels,
    )
    wanted = ["_value_and_grad"] * bool(return_grad) + ["_value_and_hess"] * bool(return_hess)
    if not wanted:
        return evaluate_loss(operation, logits, target, options)
    results = [evaluate_loss(operation + variant, logits, target, options) for variant in wanted]
    return (results[0][0], *[derivative for _, derivative in results])


@_loss
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
    grad_of="logits",
    dtype=None,
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
        ``target_kind="logits"``, the target logits, as if they had been divided and rounded before the call: each by
        up to ``eps m / temperature`` for an offset m common to a row, unless temperature is a power of two;
        ``logits - logits.max(axis, keepdims=True)`` has no offset. The gradient is that of the value with respect to
        the undivided logits, so it holds a factor ``1 / temperature``; nothing is multiplied by the ``temperature**2``
        that distillation recipes often add.
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
    grad_of : {"logits", "target"}, default "logits"
        What `return_grad` is with respect to: "target" is that of the target's logits, ``t (log t - log_softmax(x) -
        KL)`` over `temperature`, for ``target_kind="logits"``. Reverse KL, as distillation has it, is
        ``kl_div(teacher, student, target_kind="logits", return_grad=True, grad_of="target")``. Of an infinite
        divergence it is +inf at the classes that make it so, and -inf at others that the target has.
    dtype : dtype, optional
        Of everything returned, which is computed in float64 where it is float64 and in float32 otherwise. By default
        the dtypes below.

    Returns
    -------
    value : ndarray or NumPy scalar
        Of the widest floating dtype of logits and target; weights do not count, integers are float64;
        "sum" and "mean" of 16-bit floats are float32.
    gradient : ndarray
        With `return_grad`: of the broadcast shape of the operands and of their widest floating dtype.

    Raises
    ------
    TypeError
        An operand is complex, longdouble or object, or a weight, a temperature or `where` is masked.
    ValueError
        Shapes that do not match, an unknown reduction, target_kind or grad_of, a temperature that is not positive,
        `return_grad` with "terms" or "per_class", or ``grad_of="target"`` without `return_grad` or of a target that
        is not logits.

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
    variant = _variant(name, reduction, return_grad)
    if not (isinstance(target_kind, str) and target_kind in _KL_OPERATIONS):
        raise ValueError(f"{name}: target_kind must be one of {', '.join(_KL_OPERATIONS)}, got {target_kind!r}")
    if target_kind == "probs" and where is None:
        logits, target = operand(logits, name, "logits"), operand(target, name, "target")
        _check_not_counts(name, logits, target)
    if not (isinstance(grad_of, str) and grad_of in ("logits", "target")):
        raise ValueError(f"{name}: grad_of must be logits or target, got {grad_of!r}")
    if grad_of == "target" and not (return_grad and target_kind == "logits"):
        raise ValueError(f'{name}: grad_of="target" goes with return_grad=True and target_kind="logits"')
    operation = _KL_OPERATIONS[target_kind] + variant
    if grad_of == "target":
        operation = "kl_div_with_logits_value_and_target_grad"
    options = Options(name, axis, where, sample_weight, reduction, dtype, temperature=temperature)
    return evaluate_loss(operation, logits, target, options)


@_loss
def nll(
    log_probs,
    labels,
    *,
    axis=-1,
    weight=None,
    sample_weight=None,
    ignore_index=None,
    where=None,
    reduction="mean",
    return_grad=False,
    dtype=None,
):
    """Negative log-likelihood of labels under log-probabilities that are taken as they are, in nats.

    For a row x and its label y it is ``-w_y x_y``: no other class of the row is looked at, and nothing is normalised.
    Of log-probabilities that sum to one it is `cross_entropy`, which of logits is what is wanted: a model's raw
    scores passed here give a number, often a negative one, that is no likelihood.

    Parameters
    ----------
    log_probs : array_like
        Log-probabilities, C classes along `axis`.
    labels : array_like of int
        One a row, 0 to C - 1, of a shape that broadcasts with that of `log_probs` without `axis`.
    axis : int, default -1
        The class axis.
    weight : array_like of shape (C,), optional
        One weight a class, which multiplies the loss of the rows with that label.
    sample_weight : array_like, optional
        One weight a row, which multiplies its value, terms and gradient; broadcasts to the batch shape.
    ignore_index : int, optional
        Rows with this label do not count; see `cross_entropy`, on labels of an unsigned dtype too.
    where : array_like of bool, optional
        Broadcasts to the shape of `log_probs`. A row whose own label is left out has loss 0 and counts; a row
        without any class left does not count.
    reduction : {"none", "sum", "mean", "terms", "per_class"}, default "mean"
        See the module's docstring. "mean" divides by the sum of the counted rows' ``sample_weight`` times the weight
        of their labels, as PyTorch does.
    return_grad : bool, default False
        Also return the gradient, with respect to `log_probs`, of what is returned: ``-w_y`` at the label and 0
        elsewhere, for "none". It does not go through a softmax: `cross_entropy` has the gradient of logits.
    dtype : dtype, optional
        Of everything returned, which is computed in float64 where it is float64 and in float32 otherwise. By default
        the dtypes below.

    Returns
    -------
    value : ndarray or NumPy scalar
        Of the dtype of `log_probs`; integers are float64;
        "sum" and "mean" of 16-bit floats are float32.
    gradient : ndarray
        With `return_grad`: of the broadcast shape of the operands and of their widest floating dtype.

    Raises
    ------
    TypeError
        `labels` are not integers, `log_probs` are complex, longdouble or object, or a weight or `where` is masked.
    ValueError
        Shapes that do not match, an unknown reduction, or `return_grad` with "terms" or "per_class".
    IndexError
        A label that is neither `ignore_index` nor in 0 to C - 1: its value, its position and C. On a GPU: NaN in its
        row, unless asked for (`xent.cuda.using`).

    Examples
    --------
    >>> from xent.losses import nll
    >>> nll([[-0.5, -1.0], [-2.0, -0.25]], [0, 1], reduction="none")
    array([0.5 , 0.25])
    >>> nll([[-0.5, -1.0], [-2.0, -0.25]], [0, 1], weight=[3.0, 1.0])
    np.float64(0.4375)
    """
    name = "nll"
    variant = _variant(name, reduction, return_grad)
    names = ("log_probs", "labels")
    options = Options(
        name,
        axis,
        where,
        sample_weight,
        reduction,
        dtype,
        weight=weight,
        ignore_index=ignore_index,
        labels=True,
        operands=names,
    )
    return evaluate_loss(name + variant, log_probs, labels, options)


@_loss
def binary_cross_entropy(
    logits,
    target,
    *,
    axis=-1,
    pos_weight=None,
    weight=None,
    sample_weight=None,
    where=None,
    reduction="mean",
    return_grad=False,
    dtype=None,
):
    """Cross-entropy of classes that are each present or not, independently (multi-label), from logits, in nats.

    For a row x and targets t it is ``sum_c w_c (p_c t_c softplus(-x_c) + (1 - t_c) softplus(x_c))``, where w is
    ``weight``, p is ``pos_weight``, and ``softplus(x) = log(1 + exp(x)) = -log sigmoid(-x)``. A row's loss is the sum
    over its classes: their joint likelihood. PyTorch's "mean" divides by the number of classes too. At an infinite
    logit a factor of 0 gives 0. It is linear in the target, which may be any number.

    Parameters
    ----------
    logits : array_like
        The prediction, C classes along `axis`. For a single class a row, add that axis: ``logits[..., None]``.
    target : array_like
        How much each class is present, C classes along `axis`; the other dimensions broadcast with those of `logits`.
        Bools and integers (0 or 1) do not count for the dtype of the result.
    axis : int, default -1
        The class axis, counted in each operand by itself.
    pos_weight : array_like of shape (C,), optional
        One weight a class, which multiplies its target's positive part.
    weight : array_like of shape (C,), optional
        One weight a class, which multiplies that class's term.
    sample_weight : array_like, optional
        One weight a row, which multiplies its value, terms and gradient; broadcasts to the batch shape.
    where : array_like of bool, optional
        Broadcasts to the shape of the logits. A class where it is False adds nothing, whatever it holds; terms and
        gradient are 0 there. A row without any class left does not count.
    reduction : {"none", "sum", "mean", "terms", "per_class"}, default "mean"
        See the module's docstring. "mean" divides by the sum of the counted rows' ``sample_weight``, whatever the
        class weights and however many of their classes `where` selects.
    return_grad : bool, default False
        Also return the gradient with respect to the logits of what is returned:
        ``w_c ((1 - t_c) sigmoid(x_c) - p_c t_c sigmoid(-x_c))``, for "none".
    dtype : dtype, optional
        Of everything returned, which is computed in float64 where it is float64 and in float32 otherwise. By default
        the dtypes below.

    Returns
    -------
    value : ndarray or NumPy scalar
        Of the widest floating dtype of logits and target; weights do not count, integer logits are float64;
        "sum" and "mean" of 16-bit floats are float32.
    gradient : ndarray
        With `return_grad`: of the broadcast shape of the operands and of their widest floating dtype.

    Raises
    ------
    TypeError
        An operand is complex, longdouble or object, or a weight or `where` is masked.
    ValueError
        An integer target other than 0 and 1, shapes that do not match, an unknown reduction, or `return_grad` with
        "terms" or "per_class".

    Examples
    --------
    >>> from xent.losses import binary_cross_entropy
    >>> binary_cross_entropy([[0.0, 50.0], [0.0, 0.0]], [[1, 1], [0, 1]], reduction="none")
    array([0.69314718, 1.38629436])
    >>> value, gradient = binary_cross_entropy([[0.0, 50.0]], [[1, 1]], return_grad=True)
    >>> gradient
    array([[-5.00000000e-01, -1.92874985e-22]])
    """
    name = "binary_cross_entropy"
    variant = _variant(name, reduction, return_grad)
    logits, target = operand(logits, name, "logits"), operand(target, name, "target")
    if target.dtype.kind in "iub":
        _check_zero_or_one(name, target)
        target = target.astype(np.float64 if logits.dtype.kind in "iub" else logits.dtype)
    options = Options(name, axis, where, sample_weight, reduction, dtype, weight=weight, pos_weight=pos_weight)
    return evaluate_loss(name + variant, logits, target, options)


@_loss
def js_div(
    logits,
    other_logits,
    *,
    beta=0.5,
    axis=-1,
    temperature=1.0,
    sample_weight=None,
    where=None,
    reduction="mean",
    return_grad=False,
    dtype=None,
):
    """Jensen-Shannon divergence of the softmaxes of two rows of logits, in nats.

    With p and q the softmaxes of the two rows, each divided by `temperature`, and ``m = (p + q) / 2`` it is
    ``KL(p, m) / 2 + KL(q, m) / 2``: symmetric to the last bit where both operands have the same dtype and layout, at
    least 0 and at most log 2 (in the result's dtype), and never NaN for finite logits.

    The generalised one, of `beta`, is ``beta KL(p, m) + (1 - beta) KL(q, m)`` with ``m = beta p + (1 - beta) q``. As
    beta falls to 0, over beta it tends to KL(p, q); as beta rises to 1, over ``1 - beta`` to KL(q, p).

    Parameters
    ----------
    logits, other_logits : array_like
        C classes along `axis`; the other dimensions broadcast. Log-probabilities are valid logits.
    beta : float, default 0.5
        The share of `logits` in m, between 0 and 1, both excluded. Small divergences keep their digits, and so do those
        of a beta next to 0 or 1.
    axis : int, default -1
        The class axis, counted in each operand by itself.
    temperature : float or array_like, default 1.0
        Positive: one for all rows, or of a shape that broadcasts to the batch shape. Divides both operands, as in
        `kl_div`; the gradient, with respect to the undivided logits, holds a factor ``1 / temperature``.
    sample_weight : array_like, optional
        One weight a row, which multiplies its value, terms and gradient; broadcasts to the batch shape.
    where : array_like of bool, optional
        Broadcasts to the shape of the logits. A class where it is False acts as a logit of -inf in both operands;
        terms and gradient are 0 there. A row without any class left does not count.
    reduction : {"none", "sum", "mean", "terms", "per_class"}, default "mean"
        See the module's docstring. "mean" divides by the sum of the counted rows' ``sample_weight``. Terms,
        ``beta p_c log(p_c / m_c) + (1 - beta) q_c log(q_c / m_c)``, are never negative.
    return_grad : bool, default False
        Also return the gradient of what is returned with respect to `logits`, the first operand alone. For that of
        the other one, pass them the other way round, with ``1 - beta``.
    dtype : dtype, optional
        Of everything returned, which is computed in float64 where it is float64 and in float32 otherwise. By default
        the dtypes below.

    Returns
    -------
    value : ndarray or NumPy scalar
        Of the widest floating dtype of the operands; weights do not count, integers are float64;
        "sum" and "mean" of 16-bit floats are float32.
    gradient : ndarray
        With `return_grad`: of the broadcast shape of the operands and of their widest floating dtype.

    Raises
    ------
    TypeError
        An operand is complex, longdouble or object, or a weight, a temperature or `where` is masked.
    ValueError
        Shapes that do not match, an unknown reduction, a temperature that is not positive, a beta that is not between 0
        and 1, or `return_grad` with "terms" or "per_class".

    References
    ----------
    Lin, Divergence measures based on the Shannon entropy (1991).

    Examples
    --------
    >>> import numpy as np
    >>> from xent.losses import js_div
    >>> js_div([[0.0, -np.inf], [1.0, 2.0]], [[-np.inf, 0.0], [1.0, 2.0]], reduction="none")
    array([0.69314718, 0.        ])
    """
    name = "js_div"
    variant = _variant(name, reduction, return_grad)
    names = ("logits", "other_logits")
    options = Options(
        name, axis, where, sample_weight, reduction, dtype, operands=names, beta=beta, temperature=temperature
    )
    return evaluate_loss(name + variant, logits, other_logits, options)


@_loss
def distillation(
    student_logits,
    teacher_logits,
    labels=None,
    *,
    temperature,
    alpha=None,
    scale_by_temperature_squared=True,
    axis=-1,
    weight=None,
    sample_weight=None,
    ignore_index=None,
    where=None,
    reduction="mean",
    return_grad=False,
    dtype=None,
):
    """Knowledge distillation: a student's divergence from a teacher, softened, and its loss under labels, in nats.

    A row's loss is ``alpha T**2 KL(softmax(y / T), softmax(x / T)) + (1 - alpha) w_y nll`` for the student's logits
    x, the teacher's logits y, the temperature T, and the label's ``nll = -log_softmax(x)_label``, which knows no
    temperature. Without labels it is the first part alone, and alpha is 1.

    The gradient of the first part with respect to x is ``alpha T (softmax(x / T) - softmax(y / T))``: T squared times
    1 / T. As T grows it tends to a limit, so that the two parts keep their proportion, which is what the factor is
    for. With ``scale_by_temperature_squared=False`` the value has no T squared, and the gradient the factor 1 / T.

    Parameters
    ----------
    student_logits : array_like
        The prediction, C classes along `axis`.
    teacher_logits : array_like
        Logits of the same shape.
    labels : array_like of int, optional
        One a row, 0 to C - 1, of the shape of the logits without `axis`.
    temperature : float or array_like
        Positive: one for all rows, or of a shape that broadcasts to the batch shape.
    alpha : float, optional
        From 0 to 1: the teacher's share. Needed with labels.
    scale_by_temperature_squared : bool, default True
        Whether the teacher's part is multiplied by the square of its row's temperature.
    axis : int, default -1
        The class axis.
    weight : array_like of shape (C,), optional
        One weight a class, which multiplies the labels' part alone. Needs labels.
    sample_weight : array_like, optional
        One weight a row, which multiplies its value, terms and gradient; broadcasts to the batch shape.
    ignore_index : int, optional
        Rows with this label do not count: neither part of them. Needs labels; see `cross_entropy`, on labels of an
        unsigned dtype too.
    where : array_like of bool, optional
        Broadcasts to the shape of the logits. A class where it is False acts as a logit of -inf in both operands;
        terms and gradient are 0 there. A row without any class left does not count.
    reduction : {"none", "sum", "mean", "terms", "per_class"}, default "mean"
        See the module's docstring. "mean" divides both parts by one number, the sum of the counted rows'
        ``sample_weight``, whatever the class weights (PyTorch's cross_entropy would divide its part by the sum of
        the labels' weights).
    return_grad : bool, default False
        Also return the gradient with respect to the student's logits of what is returned.
    dtype : dtype, optional
        Of everything returned, which is computed in float64 where it is float64 and in float32 otherwise. By default
        the dtypes below.

    Returns
    -------
    value : ndarray or NumPy scalar
        Of the widest floating dtype of the logits; each part is rounded to it before they are added;
        "sum" and "mean" of 16-bit floats are float32.
    gradient : ndarray
        With `return_grad`: of the shape of the logits and of their widest floating dtype.

    Raises
    ------
    TypeError
        Labels that are not integers, logits that are complex, longdouble or object, or a weight, a temperature or
        `where` that is masked.
    ValueError
        Shapes that do not match, an unknown reduction, a temperature that is not positive, an `alpha` missing beside
        labels, below 1 without them, or outside 0 to 1, `weight` or `ignore_index` without labels, or `return_grad`
        with "terms" or "per_class".
    IndexError
        A label that is neither `ignore_index` nor in 0 to C - 1: its value, its position and C. On a GPU: NaN in its
        row, unless asked for (`xent.cuda.using`).

    Notes
    -----
    No power of T overflows or underflows on the way. As T grows, the first part tends to half the variance of the
    differences of the logits and its gradient to ``alpha (d - mean(d)) / C``, d the differences; terms grow with T.
    Beyond T = 1024, rows whose logits differ by less than 600 T are computed in float64 from the differences,
    undivided, at some thirty times the cost of other rows. Others are divided and rounded as in `kl_div`, which says
    what an offset common to a row costs. As T falls, it tends to T times a difference of logits.

    References
    ----------
    Hinton, Vinyals and Dean, Distilling the knowledge in a neural network (2015).

    Examples
    --------
    >>> from xent.losses import distillation
    >>> student, teacher = [[0.0, 0.0], [2.0, 0.0]], [[4.0, 0.0], [2.0, 0.0]]
    >>> distillation(student, teacher, temperature=2.0, reduction="none").round(6)
    array([1.311253, 0.      ])
    >>> distillation(student, teacher, [0, 0], temperature=2.0, alpha=0.5).round(6)
    np.float64(0.532832)
    """
    name = "distillation"
    variant = _variant(name, reduction, return_grad)
    gpu = on_gpu(student_logits) or on_gpu(teacher_logits)
    if gpu:
        from xent import cuda

        student, teacher, labels = cuda.operands_of_distillation(student_logits, teacher_logits, labels, where)
    else:
        student = as_numbers(student_logits, name, "student_logits")
        teacher = as_numbers(teacher_logits, name, "teacher_logits")
        labels = None if labels is None else _as_labels(name, labels)
    if student.shape != teacher.shape:
        raise ValueError(hints().two_shapes(name, student, teacher))
    alpha = _checked_alpha(alpha, labels, weight, ignore_index)
    temperature = as_temperatures(temperature, name)
    sample_weight = np.float64(1.0) if sample_weight is None else as_weights(sample_weight, name, "sample_weight")
    ignore_index = as_label(ignore_index, name)
    if not student.shape:
        raise ValueError(f"{name}: student_logits must have at least one dimension, the class axis")
    axis = place(axis, len(student.shape), name)
    batch = student.shape[:axis] + student.shape[axis + 1 :]
    if labels is not None and labels.shape != batch:
        raise ValueError(hints().not_one_a_row(name, labels, student.shape, batch))
    of_labels, scaled = {"weight": weight, "ignore_index": ignore_index}, bool(scale_by_temperature_squared)
    if gpu:
        parts = (temperature, scaled, alpha, sample_weight)
        return cuda.distillation(student, teacher, labels, axis, where, *parts, variant, reduction, dtype, of_labels)
    for option, values in (("temperature", temperature), ("sample_weight", sample_weight)):
        _stretched(name, option, values, batch)

    masks = [] if where is None else [mask_of_classes(where, name, "student_logits", student.ndim)]
    for mask in masks:
        _stretched(name, "where", mask, student.shape)
    # Both parts leave out the same rows. One bool a row: nothing of the logits' size.
    if isinstance(labels, np.ma.MaskedArray):
        masks.append(np.expand_dims(~np.ma.getmaskarray(labels), axis))
    if ignore_index is not None:
        known = np.asarray(labels)
        if known.dtype.kind == "u" and known.dtype.itemsize == 8:
            known = np.minimum(known, 2**63 - 1)  # as the kernels read them
        masks.append(np.expand_dims(known != ignore_index, axis))
    masks += [~np.ma.getmaskarray(logits) for logits in (student, teacher) if isinstance(logits, np.ma.MaskedArray)]
    shown = functools.reduce(np.logical_and, masks) if masks else None
    student, teacher = np.asarray(student), np.asarray(teacher)

    factor = sample_weight
    if reduction == "mean":
        factor, divisor = _divided(sample_weight, shown, student.shape, axis)
    soft, warm = factor * alpha, None
    if scale_by_temperature_squared:
        extreme = (temperature > _temperatures.WARM) | (temperature < _temperatures.COLD)
        if extreme.any():
            real = np.dtype(_promoted(student, teacher) if dtype is None else dtype)
            rows = _temperatures.Rows(student, teacher, shown, axis)
            warm = _temperatures.Warm(rows, temperature, soft)
            soft, temperature = warm.left_over(np.float64 if real == np.float64 else np.float32)
        else:
            soft = soft * temperature**2
    options = {"axis": axis, "where": shown, "reduction": "sum" if reduction == "mean" else reduction}
    options["dtype"] = _dtype_of_parts(student, teacher, labels, dtype)
    value, *gradient = _of_teacher(variant, student, teacher, temperature, soft, options)
    if warm is not None:
        value = warm.add(value, gradient[0] if gradient else None, options["reduction"])
    if labels is not None:
        more, *its_gradient = _of_labels(variant, student, labels, factor * (1.0 - alpha), options | of_labels)
        value, gradient = _sum_into(value, more), list(map(_sum_into, gradient, its_gradient))
    if reduction == "mean" and divisor == 0.0:
        value = np.result_type(value).type(np.nan)
    return (value, *gradient) if gradient else value


def _of_teacher(variant, student, teacher, temperature, weights, options):
    """The teacher's part of distillation, in a tuple: its values times `weights`, or terms, and the gradient."""
    names = ("student_logits", "teacher_logits")
    asked = Options("distillation", operands=names, temperature=temperature, sample_weight=weights, **options)
    part = evaluate_loss("kl_div_with_logits" + variant, student, teacher, asked)
    return part if isinstance(part, tuple) else (part,)


def _of_labels(variant, student, labels, weights, options):
    """The labels' part."""
    names = ("student_logits", "labels")
    asked = Options("distillation", operands=names, labels=True, sample_weight=weights, **options)
    operation = "cross_entropy" if variant == "_terms" else "cross_entropy_with_labels"
    part = evaluate_loss(operation + variant, student, labels, asked)
    return part if isinstance(part, tuple) else (part,)


def _dtype_of_parts(student, teacher, labels, dtype):
    """That of the result, where the labels' part, which does not see the teacher's, would be rounded to less."""
    promoted = _promoted(student, teacher)
    return promoted if dtype is None and labels is not None and student.dtype.name != promoted else dtype


def _checked_alpha(alpha, labels, weight, ignore_index):
    name = "distillation"
    if labels is None:
        for option, given in (("weight", weight), ("ignore_index", ignore_index)):
            if given is not None:
                raise ValueError(f"{name}: {option} goes with labels, and there are none")
        if alpha is not None and alpha != 1.0:
            raise ValueError(f"{name}: without labels alpha can only be 1, got {alpha!r}")
        return 1.0
    if alpha is None:
        raise ValueError(f"{name}: labels need alpha, the teacher's share beside them")
    return as_share(alpha, name, "alpha")


def _stretched(name, option, values, shape):
    """`values` as they broadcast to `shape`, or a ValueError that names the option."""
    try:
        return np.broadcast_to(values, shape)
    except ValueError:
        raise ValueError(f"{name}: {option} of shape {values.shape} does not broadcast to {shape}") from None


def _divided(sample_weight, shown, shape, axis):
    """Sample weights over their sum over the rows that count; and that sum."""
    batch = shape[:axis] + shape[axis + 1 :]
    weights = np.broadcast_to(sample_weight, batch)
    if shown is not None and shape[axis]:  # of rows without classes all count, as there is none to leave out
        weights = weights[np.broadcast_to(shown, shape).any(axis=axis)]
    with np.errstate(all="ignore"):  # infinite weights, and weights whose sum is
        divisor = weights.sum()
        return np.true_divide(sample_weight, divisor if divisor else np.nan), divisor


def _promoted(*arrays):
    """The name of the dtype of a result of these: as NumPy's promotion, but float32 for float16 with bfloat16."""
    names = {"float64" if array.dtype.kind in "iub" else array.dtype.name for array in arrays}
    return names.pop() if len(names) == 1 else "float64" if "float64" in names else "float32"


def _sum_into(values, more):
    """values + more, in place where they are an array; opposite infinities are NaN without a warning."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.add(values, more, out=values) if isinstance(values, np.ndarray) else values + more


def _check_not_counts(name, logits, target):
    """ValueError for whole numbers above 1 where probabilities belong: labels or counts. Only the first few thousand
    are looked at, and none where the very first one is no whole number."""
    if on_gpu(target) or isinstance(target, np.ma.MaskedArray) or not target.size:
        return
    if not on_gpu(logits) and target.ndim < logits.ndim:
        return  # refused for that
    if target.dtype.kind not in "fiu" and target.dtype.name != "bfloat16":
        return  # nothing that is taken
    first = float(target.flat[0])
    if not np.isfinite(first) or first != np.floor(first):
        return
    some = target.flat[:4096]
    if (some > 1).any() and (some == np.floor(some)).all() and np.isfinite(some).all():
        raise ValueError(
            f"{name}: target is to hold probabilities and holds whole numbers, {float(some[some > 1][0]):g} among "
            "them. Counts become probabilities by counts / counts.sum(-1, keepdims=True); labels are integers, one a "
            + ("row: target.astype(int)" if name == "cross_entropy" else "row, and for cross_entropy")
        )


def _check_zero_or_one(name, target):
    """ValueError for integers that are no yes or no: most likely labels."""
    if on_gpu(target):
        raise TypeError(
            f"{name}: on a GPU, where nobody looks whether each is 0 or 1, the target is floating, not {target}"
        )
    values = np.ma.getdata(target)
    wrong = (values != 0) & (values != 1)
    if isinstance(target, np.ma.MaskedArray):
        wrong &= ~np.ma.getmaskarray(target)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name}: an integer target is 0 or 1 in each class, not {values[at]} (at {at}); for one class index a row "
            "see cross_entropy"
        )


def _variant(name, reduction, return_grad, return_hess=False):
    """How the operation is called that returns what the reduction works on, once both are found to go together."""
    if not (isinstance(reduction, str) and reduction in _REDUCTIONS):
        raise ValueError(hints().bad_reduction(name, _REDUCTIONS, reduction))
    if reduction not in ("terms", "per_class"):
        return "_value_and_grad" * bool(return_grad)
    if return_grad or return_hess:
        option = "return_grad" if return_grad else "return_hess"
        raise ValueError(f"{name}: {option} goes with one value a row or in all, not with reduction={reduction!r}")
    return "_terms"


def _as_labels(name, labels):
    """Labels as an array of integers, masked or not."""
    given = getattr(labels, "dtype", None)
    labels = as_array(labels, name, "labels")
    if given is None and not labels.size:
        labels = labels.astype(np.intp)  # NumPy makes an empty list float64
    if labels.dtype.kind not in "iu":
        raise TypeError(
            hints().labels_dtype(name, "labels", labels.dtype if given is None else given, labels.dtype.kind)
        )
    return labels
