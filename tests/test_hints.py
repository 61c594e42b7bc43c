"""What a refused call of a loss says: who refuses, which argument, and the way to what was meant."""

import inspect

import numpy as np
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
    "beta": (r"perhaps|it takes \w+, ", {}),
    "sparse_label": (r"it takes \w+, ", {"cross_entropy": "labels are integers", "nll": "labels are integers"}),
    "y_pred": ("the first operand is {first} here$", {}),
    "input": ("the first operand is {first} here$", {}),
    "y_true": ("the second operand is {second} here", {}),
    "targets": ("the second operand is {second} here", {}),
    "reducton": ("perhaps reduction; it takes {first}, {second}", {}),
    "nonsense": ("it takes {first}, {second}, .*reduction, return_grad, dtype$", {}),
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
