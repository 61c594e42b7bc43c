"""What a refused call of a loss says: who refuses, which argument, and the way to what was meant."""

import inspect

import numpy as np
import pandas as pd
import pytest

from xent import losses

X = np.log([[0.5, 0.25, 0.25], [0.1, 0.3, 0.6]])
P = np.exp(X)
Y = np.array([0, 2])
# A call of each loss that works.
CALLS = {
    "cross_entropy": ((X, Y), {}),
    "kl_div": ((X, P), {}),
    "nll": ((X, Y), {}),
    "binary_cross_entropy": ((X, P), {}),
    "js_div": ((X, X[::-1]), {}),
    "distillation": ((X, X[::-1], Y), {"temperature": 2.0, "alpha": 0.5}),
}
every_loss = pytest.mark.parametrize("loss", losses.__all__)

# Keywords of other libraries: what every loss says of them, and what some say instead.
FOREIGN = {
    "dim": ("axis here$", {}),
    "axes": ("axis here$", {}),
    "mask": ("where here$", {}),
    "sample_weights": ("sample_weight here$", {}),
    "weights": ("weight here$", {"kl_div": "sample_weight= weighs rows", "js_div": "sample_weight= weighs rows"}),
    "class_weight": ("weight here$", {"kl_div": "no class weights", "js_div": "no class weights"}),
    "size_average": ("reduction= says it", {}),
    "reduce": ("reduction= says it", {}),
    "normalize": ("reduction= says it", {}),
    "log_target": (
        r"the target is probabilities: np\.exp\(target\)$",
        {
            "kl_div": "target_kind='log_probs' says it$",
            "nll": r"losses\.cross_entropy takes logits$",
            "js_div": "log-probabilities are logits too",
            "distillation": "log-probabilities are logits too",
        },
    ),
    "from_logits": (
        "log-probabilities are logits too",
        {
            "nll": r"log-probabilities; xent\.losses\.cross_entropy takes logits$",
            "binary_cross_entropy": r"np\.log\(p\) - np\.log1p\(-p\)$",
        },
    ),
    "base": (r"nats: divide them by np\.log\(base\)$", {}),
    "eps": ("nothing needs it", {}),
    "keepdim": (r"np\.expand_dims", {}),
    "keepdims": (r"np\.expand_dims", {}),
    "out": (r"xent\.{loss} takes out=$", {"distillation": "returns new arrays$"}),
    "stream": (r"xent\.cuda\.using\(stream=", {}),
    "ignore_class": (
        "ignore_index here$",
        dict.fromkeys(("kl_div", "js_div", "binary_cross_entropy"), "cross_entropy, distillation and nll of"),
    ),
    "T": (
        "temperature here$",
        {
            "cross_entropy": r"cross_entropy\(logits / temperature, target\)$",
            "binary_cross_entropy": r"binary_cross_entropy\(logits / temperature, target\)$",
            "nll": r"nll\(xent\.log_softmax\(logits / temperature\), labels\)$",
        },
    ),
    "smoothing": ("cross_entropy of xent.losses takes it$", {"cross_entropy": "label_smoothing here$"}),
    "pos_weights": (
        "binary_cross_entropy of xent.losses takes it$",
        {"binary_cross_entropy": "pos_weight here$"},
    ),
    "alpha": ("distillation of xent.losses takes it$", {}),
    "beta": ("js_div of xent.losses takes it$", {}),
    "sparse_label": (r"it takes \w+, ", {"cross_entropy": "labels are integers", "nll": "labels are integers"}),
    "y_pred": ("the first operand is {first} here$", {}),
    "input": ("the first operand is {first} here$", {}),
    "y_true": ("the second operand is {second} here", {}),
    "targets": ("the second operand is {second} here", {}),
    "reducton": ("perhaps reduction; it takes {first}, {second}", {}),
    "nonsense": ("it takes {first}, {second}, .*reduction, return_grad, .*dtype$", {}),
}


@pytest.mark.parametrize(
    ("loss", "word"),
    [
        (f, word)
        for f in losses.__all__
        for word in FOREIGN
        if word not in inspect.signature(getattr(losses, f)).parameters
    ],
)
def test_keywords_of_others(loss, word):
    arguments, options = CALLS[loss]
    says, others = FOREIGN[word]
    says = others.get(loss, says)
    first, second, *_ = inspect.signature(getattr(losses, loss)).parameters
    says = says.format(loss=loss, first=first, second=second)
    with pytest.raises(TypeError, match=rf"^{loss}\(\) has no argument '{word}': .*{says}"):
        getattr(losses, loss)(*arguments, **options, **{word: 1})


@every_loss
def test_options_of_the_other_losses_lead_there(loss):
    own = inspect.signature(getattr(losses, loss)).parameters
    arguments, options = CALLS[loss]
    for other in losses.__all__:
        for word in set(inspect.signature(getattr(losses, other)).parameters) - set(own):
            with pytest.raises(TypeError, match=rf"^{loss}\(\) has no argument '{word}': \w") as caught:
                getattr(losses, loss)(*arguments, **options, **{word: 1})
            assert "perhaps" not in str(caught.value)


@every_loss
def test_calls_that_do_not_fit(loss):
    """Too many arguments, one twice, one missing: in the words of the loss that was called."""
    function = getattr(losses, loss)
    arguments, options = CALLS[loss]
    parameters = inspect.signature(function).parameters.values()
    operands = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = ", ".join(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    with pytest.raises(
        TypeError,
        match=rf"^{loss}\(\) takes {len(operands)} positional arguments, {operands[0]}.* and {operands[-1]}, but "
        rf"{len(arguments) + 2} were given; {keywords} are keywords$",
    ):
        function(*arguments, None, 3, **options)
    with pytest.raises(TypeError, match=rf"^{loss}\(\) got {operands[0]} twice"):
        function(*arguments, **options, **{operands[0]: X})
    with pytest.raises(TypeError, match=rf"^{loss}\(\) needs {operands[0]}.*; {operands[1]} is missing$"):
        function(X, **options)
    with pytest.raises(TypeError, match=rf"^{loss}\(\) needs {operands[0]}.*; {operands[0]}.*are missing$"):
        function()
    named = dict(zip(operands, arguments, strict=False))
    assert function(**named, **options) == function(*arguments, **options)


def test_distillation_needs_its_temperature():
    with pytest.raises(
        TypeError,
        match=r"^distillation\(\) needs student_logits, teacher_logits and temperature; temperature is missing$",
    ):
        losses.distillation(X, X)


@every_loss
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("batchmean", "'batchmean': 'mean' divides by rows, and not by classes too"),
        ("sum_over_batch_size", "'sum_over_batch_size': 'mean' divides by rows"),
        ("elementwise_mean", "'elementwise_mean': 'mean' divides by rows"),
        (None, r"None: 'none' is meant\?$"),
        ("Sum", r"'Sum': 'sum' is meant\?$"),
        ("per-class", r"'per-class': 'per_class' is meant\?$"),
        ("median", "'median'"),
        (True, "True$"),
        (["sum"], r"\['sum'\]$"),
        (np.array(["sum", "mean"]), "array"),
    ],
)
def test_bad_reductions(loss, given, says):
    arguments, options = CALLS[loss]
    known = "none, sum, mean, terms, per_class"
    with pytest.raises(ValueError, match=f"^{loss}: reduction must be one of {known}, got {says}"):
        getattr(losses, loss)(*arguments, **options, reduction=given)


@every_loss
def test_a_loss_looks_like_itself(loss):
    """What stands in front of it to refuse calls shows nowhere."""
    function = getattr(losses, loss)
    assert (function.__name__, function.__qualname__, function.__module__) == (loss, loss, "xent.losses")
    assert function.__doc__.count("Examples") == 1
    assert list(inspect.signature(function).parameters)[-1] == "dtype"


# ---- operands and options that are none ----

masked = np.ma.masked_array


def arguments_of(kind):
    """(loss, argument) of every argument that is of a kind."""
    for loss in losses.__all__:
        for word in inspect.signature(getattr(losses, loss)).parameters:
            if word in KINDS[kind]:
                yield loss, word


KINDS = {
    "floats": ("logits", "log_probs", "other_logits", "student_logits", "teacher_logits", "target"),
    "labels": ("labels",),
    "class weights": ("weight", "pos_weight"),
    "row weights": ("sample_weight", "temperature"),
    "mask": ("where",),
    "share": ("label_smoothing", "alpha"),
    "axis": ("axis",),
    "label": ("ignore_index",),
    "dtype": ("dtype",),
    "word": ("target_kind",),
}
NO_NUMBERS = [
    (np.array([[object(), 1, 2]] * 2, dtype=object), "object"),
    (np.array([["a", "b", "c"]] * 2), "<U1"),
    (X + 0j, "complex128"),
    (np.zeros((2, 3), "M8[D]"), r"datetime64\[D\]"),
    (np.zeros((2, 3), [("a", "f4")]), "'a'"),
    (None, "object"),
    ({}, "object"),
]
CODES = "integer code from 0 to C - 1"
BAD = {
    "floats": [
        *[(value, TypeError, says) for value, says in NO_NUMBERS],
        (X.astype(np.longdouble), TypeError, r"(float128|longdouble).*float64"),
        ([[1.0, 2.0], [3.0]], ValueError, "inhomogeneous"),
        (np.array(0.5), ValueError, r"at least one dimension|\(\)"),
        (masked(0.5, True), ValueError, r"at least one dimension|\(\)"),
    ],
    "labels": [
        (np.array(["a", "b"]), TypeError, f"<U1: .*{CODES}"),
        (np.array([b"a", b"b"]), TypeError, CODES),
        (np.array([0, 2], object), TypeError, f"object: .*{CODES}"),
        (pd.Series(["a", "b"], dtype="category"), TypeError, f"category: .*{CODES}.*cat.codes"),
        (Y.astype(float), TypeError, r"float64: labels\.astype\(int\)"),
        (np.array([0.0, np.nan]), TypeError, "float64"),
        (masked(Y, [True, False]).astype(float), TypeError, "float64"),
        (Y > 0, TypeError, r"bool: labels\.astype\(int\)"),
        (np.zeros(5, np.uint8), ValueError, r"\(5,\) and dtype uint8"),
        (np.zeros(0, int), ValueError, r"\(0,\)"),
        (P.round().astype(int), ValueError, r"\(2, 3\)"),
        (Y[:, None], ValueError, r"\(2, 1\)"),
        (Y + 7, IndexError, "label 7 at 0 is out of range for 3 classes: labels may hold 0 to 2$"),
        (Y - 1, IndexError, "label -1 at 0"),
    ],
    "class weights": [
        *[(value, TypeError, f"real numbers, not .*{says}") for value, says in NO_NUMBERS[:-2]],
        (np.ones(2), ValueError, r"\(2,\), expected \(3,\), one a class"),
        (np.array(2.0), ValueError, r"\(\), expected \(3,\)"),
        ([], ValueError, r"\(0,\), expected \(3,\)"),
        (masked(np.ones(3), [True, False, False]), TypeError, r"masked: \w+\.filled\("),
        (masked(np.ones(3)), TypeError, "masked"),
    ],
    "row weights": [
        *[(value, TypeError, f"real numbers, not .*{says}") for value, says in NO_NUMBERS[:-2]],
        (np.ones(3), ValueError, r"of shape \(3,\) does not broadcast to \(2,\)"),
        (np.ones((2, 1)), ValueError, r"\(2, 1\) does not broadcast"),
        ([], ValueError, r"\(0,\) does not broadcast"),
        (masked([1.0, 2.0], [True, False]), TypeError, r"masked: \w+\.filled\("),
        (masked(1.0, True), TypeError, "masked"),
        ([[1.0, 2.0], [3.0]], ValueError, "inhomogeneous"),
    ],
    "mask": [
        (np.ones((2, 3)), TypeError, "bools, not float64"),
        (np.ones((2, 3), int), TypeError, "bools, not int64"),
        (np.array(["a"]), TypeError, "bools, not <U1"),
        ([], TypeError, "bools"),
        (1, TypeError, "bools, not int64"),
        (masked(X < 0, X < -1), TypeError, r"masked array; where\.filled"),
        (masked(X < 0), TypeError, "masked array"),
        (np.array([True, False]), ValueError, r"\(2,\) has fewer dimensions.*mask\[:, None\]"),
        (np.ones((2, 2), bool), ValueError, r"\(2, 2\) does not broadcast to \(2, 3\)"),
        (np.zeros((0, 3), bool), ValueError, r"\(0, 3\) does not broadcast"),
        ([[True, False], [True]], ValueError, "inhomogeneous"),
    ],
    "share": [
        ("0.5", TypeError, "a number from 0 to 1, not '0.5'"),
        (np.array([0.5]), TypeError, r"not array\(\[0.5\]\)"),
        (masked(0.5, True), TypeError, "not masked"),
        ({}, TypeError, "not {}"),
        (1j, TypeError, "not 1j"),
        (1.5, ValueError, "from 0 to 1, got 1.5"),
        (-0.1, ValueError, "got -0.1"),
        (np.nan, ValueError, "got nan"),
    ],
    "axis": [
        (None, TypeError, "an integer, not None"),
        ((0, 1), TypeError, r"an integer, not \(0, 1\)"),
        (1.0, TypeError, "an integer, not 1.0"),
        ("last", TypeError, "an integer, not 'last'"),
        (2, np.exceptions.AxisError, "axis 2 is out of bounds"),
        (-3, np.exceptions.AxisError, "axis -3 is out of bounds"),
        (10**30, np.exceptions.AxisError, "out of bounds"),
    ],
    "label": [
        (1.0, TypeError, "an integer, not 1.0"),
        ("1", TypeError, "an integer, not '1'"),
        (Y, TypeError, r"an integer, not array\(\[0, 2\]\)"),
        (2**63, ValueError, "got 9223372036854775808"),
        (-(2**70), ValueError, "got -"),
    ],
    "dtype": [
        ("foo", TypeError, "'foo' not understood"),
        (X, TypeError, "array"),
        ("i4", TypeError, "dtype=int32 is not supported; float16"),
        (np.longdouble, TypeError, "is not supported; float16"),
        (complex, TypeError, "dtype=complex128 is not supported"),
    ],
    "word": [
        ("prob", ValueError, "one of probs, log_probs, logits, got 'prob'"),
        (["probs"], ValueError, r"got \['probs'\]"),
        (None, ValueError, "got None"),
    ],
}
SHAPES = [
    (X[:, :2], ValueError, r"\(2, 2\)"),
    (np.zeros((5, 3)), ValueError, r"\(5, 3\)"),
    (np.zeros((2, 0)), ValueError, r"\(2, 0\)"),
    (np.zeros((0, 3)), ValueError, r"\(0, 3\)"),
]
LABELLED = ("cross_entropy", "nll")  # where logits of another shape make labels wrong: their messages are below
# A target that may hold labels has words of its own for what is neither.
OF_CROSS_ENTROPY = [
    (np.array(["a", "b"]), TypeError, rf"labels \(integers\) or probabilities \(floating\), not <U1: .*{CODES}"),
    (np.array([0, 2], object), TypeError, f"object: .*{CODES}"),
    (pd.Series(["a", "b"], dtype="category"), TypeError, f"not category: .*{CODES}"),
    (Y > 0, TypeError, "not bool$"),
    (X + 0j, TypeError, "not complex128$"),
    (X.astype("g"), TypeError, r"(float128|longdouble).*float64"),
    (
        Y.astype("f4"),
        ValueError,
        r"\(2,\) and dtype float32 has fewer dimensions.*target\.astype\(int\).*target\[None, :\]",
    ),
    (0.5, ValueError, r"\(\) and dtype float64 has fewer dimensions"),
    (np.zeros(5, np.uint8), ValueError, r"\(5,\) and dtype uint8 do not match logits"),
    (P.round().astype(np.int8), ValueError, "dtype int8.*one-hot"),
    (Y[:, None], ValueError, r"keep the class axis.*target\.squeeze\(1\)"),
    (P * 1e3 // 1, ValueError, "whole numbers"),
    (X[:, :2], ValueError, r"\(2, 3\) of logits and \(2, 2\) of target"),
    (Y + 1, IndexError, "label 3 at 1 is out of range for 3 classes: target may hold 0 to 2$"),
]
# Labels and others of fewer dimensions, where the target is not labels.
FEWER = [
    (Y, ValueError, r"\(2,\) and dtype int64 has fewer dimensions than \w+ \(2, 3\)\. Labels are for cross_entropy\."),
    (
        Y.astype(float),
        ValueError,
        r"dtype float64 has fewer dimensions.*for cross_entropy, as integers: \w+\.astype\(int\)",
    ),
    (P[0], ValueError, r"\(3,\) and dtype float64 has fewer dimensions than .*\w+\[None, :\]"),
    (0.5, ValueError, r"\(\) and dtype float64 has fewer dimensions"),
]


def bad_calls():
    for kind, junk in BAD.items():
        for loss, word in arguments_of(kind):
            if (loss, word) == ("cross_entropy", "target"):
                bad = OF_CROSS_ENTROPY
            else:
                bad = junk + (SHAPES if kind == "floats" and loss not in LABELLED else [])
            for value, error, says in bad:
                yield loss, word, value, error, says
    for loss, word in (("kl_div", "target"), ("js_div", "other_logits"), ("binary_cross_entropy", "target")):
        for value, error, says in FEWER:
            if loss != "binary_cross_entropy" or value is not Y:
                yield loss, word, value, error, says
    for loss in ("kl_div", "js_div", "distillation"):
        for value in (0.0, -1.0, np.nan, np.inf):
            yield loss, "temperature", value, ValueError, f"positive and finite, got {value}$"
        yield loss, "temperature", [1.0, 0.0], ValueError, "got 0.0 at 1$"
        yield loss, "temperature", None, TypeError, "real numbers, not None"
    yield (
        "binary_cross_entropy",
        "target",
        P.round().astype(int) * 2,
        ValueError,
        r"0 or 1 in each class, not 2 \(at \(1, 2\)\)",
    )
    yield "kl_div", "target", P * 1e3 // 1, ValueError, "whole numbers"


@pytest.mark.parametrize(
    ("loss", "word", "value", "error", "says"),
    [pytest.param(*call, id=f"{call[0]}-{call[1]}-{n}") for n, call in enumerate(bad_calls())],
)
def test_what_is_refused_is_named(loss, word, value, error, says):
    """The loss that was called, the argument as the caller spelled it, what came, and what was expected."""
    arguments, options = CALLS[loss]
    named = dict(zip(inspect.signature(getattr(losses, loss)).parameters, arguments, strict=False)) | options
    with pytest.raises(error, match=rf"^{loss}: .*{says}") as caught:
        getattr(losses, loss)(**(named | {word: value}))
    assert type(caught.value) is error
    assert word in str(caught.value)
    assert not any(other in str(caught.value) for other in ("_with_labels", "_value_and_grad", "kl_div_with", "call()"))


# ---- arrays of unusual kinds that are taken ----


def calls_of_every_loss(**options):
    for loss in losses.__all__:
        arguments, own = CALLS[loss]
        yield loss, arguments, own | options


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "terms", "per_class"])
def test_no_rows(reduction):
    expected = {
        "none": np.zeros(0),
        "sum": np.float64(0),
        "mean": np.float64(np.nan),
        "terms": np.zeros((0, 3)),
        "per_class": np.zeros(3),
    }[reduction]
    for loss, arguments, options in calls_of_every_loss(reduction=reduction):
        got = getattr(losses, loss)(*(a[:0] for a in arguments), **options)
        np.testing.assert_array_equal(got, expected, strict=True, err_msg=loss)
        if reduction in ("none", "sum", "mean"):
            _, gradient = getattr(losses, loss)(*(a[:0] for a in arguments), **options, return_grad=True)
            assert gradient.shape == (0, 3), loss
        if np.ndim(arguments[-1]) == 1:  # NumPy makes an empty list float64
            got = getattr(losses, loss)(*(a[:0] for a in arguments[:-1]), [], **options)
            np.testing.assert_array_equal(got, expected, strict=True, err_msg=loss)


def test_no_classes():
    """A row without classes has no loss; a label of it is out of range, whatever it is."""
    none = np.zeros((2, 0))
    for loss, arguments, options in calls_of_every_loss(reduction="none"):
        labelled = loss in LABELLED or loss == "distillation"
        given = [none if a.ndim == 2 else a for a in arguments]
        if labelled:
            with pytest.raises(
                IndexError, match=rf"^{loss}: label 0 at 0 is out of range for 0 classes: \w+ may hold none"
            ):
                getattr(losses, loss)(*given, **options)
            continue
        got = getattr(losses, loss)(*given, **options)
        np.testing.assert_array_equal(got, [0, 0], err_msg=loss)


def test_masked_operands_leave_out_what_they_mask():
    hidden = np.array([[True, False, False], [False, True, False]])
    for loss, arguments, options in calls_of_every_loss():
        function = getattr(losses, loss)
        expected = function(*arguments, where=~hidden, **options)
        for place, a in enumerate(arguments):
            if a.ndim == 2:
                given = [*arguments[:place], masked(a, hidden), *arguments[place + 1 :]]
                assert function(*given, **options) == expected, (loss, place)
                given[place] = masked(a)  # nothing is masked
                assert function(*given, **options) == function(*arguments, **options), (loss, place)
            else:
                given = [*arguments[:place], masked([7, 2], [True, False])]
                kept = function(*(b[1:] for b in arguments), **options)
                assert function(*given, **options) == pytest.approx(kept, rel=1e-15), (loss, place)


def test_options_without_dimensions():
    for loss, arguments, options in calls_of_every_loss(reduction="none"):
        function = getattr(losses, loss)
        plain = function(*arguments, **options)
        np.testing.assert_array_equal(function(*arguments, **options, sample_weight=np.array(2)), 2 * plain)
        np.testing.assert_array_equal(function(*arguments, **options, where=np.array(True)), plain)
        assert not function(*arguments, **options, where=np.array(False)).any()
        if "temperature" in options:
            assert (function(*arguments, **options | {"temperature": np.array(2)}) == plain).all()
    assert losses.cross_entropy(X[0], np.array(0)) == pytest.approx(np.log(2), rel=1e-15)


# ---- labels without a sign ----


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("loss", ["cross_entropy", "nll", "distillation"])
def test_a_negative_ignore_index_is_no_unsigned_label(loss, dtype):
    """-100 that was cast to it is a large label, out of range; the message has the way back."""
    arguments, options = CALLS[loss]
    labels = np.array([0, -100]).astype(dtype)
    function = getattr(losses, loss)
    with pytest.raises(IndexError, match=rf"^{loss}: label {labels[1]} at 1 .* for 3 classes: \w+ may hold 0 to 2$"):
        function(*arguments[:-1], labels, **options)
    signed = labels.dtype.name.removeprefix("u")
    says = rf"and ignore_index, -100, which u{signed} cannot hold; \w+\.view\(np\.{signed}\)"
    with pytest.raises(IndexError, match=rf"label {labels[1]} at 1 .*{says}"):
        function(*arguments[:-1], labels, ignore_index=-100, **options)
    expected = function(*arguments[:-1], np.array([0, -100]), ignore_index=-100, **options)
    assert dtype == "u1" or function(*arguments[:-1], labels.view(signed), ignore_index=-100, **options) == expected
    if dtype != "u8":
        assert function(*arguments[:-1], labels, ignore_index=int(labels[1]), **options) == expected


@pytest.mark.parametrize("loss", ["cross_entropy", "nll", "distillation"])
def test_labels_beyond_int64(loss):
    """Out of range, whatever is ignored; but that they count as the largest int64."""
    arguments, options = CALLS[loss]
    expected = getattr(losses, loss)(*(a[:1] for a in arguments), **options)
    for dtype, label in (("<u8", 2**63), ("<u8", 2**64 - 1), (">u8", 2**64 - 1)):
        labels = np.array([0, label], dtype)
        for ignored in (None, -1, -(2**63), 0):
            with pytest.raises(IndexError, match=f"label {label} at 1 is out of range"):
                getattr(losses, loss)(*arguments[:-1], labels, **options, ignore_index=ignored)
        got = getattr(losses, loss)(*arguments[:-1], labels, **options, ignore_index=2**63 - 1)
        assert got == pytest.approx(expected, rel=1e-15)
