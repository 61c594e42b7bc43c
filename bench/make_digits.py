"""Make src/xent/data/digits.npz: a teacher's and a student's logits for images that neither was trained on.

Run by hand, once; it needs scikit-learn (1.9 made the file that ships), which nothing else here does:

    python bench/make_digits.py

The images are the 1797 handwritten digits (8 by 8 pixels) that scikit-learn carries. Half of them train the two models,
the other half is what the file holds:

    teacher  (899, 10) float32   a network with one hidden layer of 64, on all 64 pixels
    student  (899, 10) float32   a multinomial logistic regression on the 16 averages of 2 by 2 pixels
    labels   (899,)    int64     the digits

The logits are what the last affine layer gives. They are not logarithms of predict_proba(), which are normalised
already and would hide whether a loss normalises.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

SEED = 20


def network_logits(model: MLPClassifier, pixels: np.ndarray) -> np.ndarray:
    hidden = np.maximum(pixels @ model.coefs_[0] + model.intercepts_[0], 0.0)
    return hidden @ model.coefs_[1] + model.intercepts_[1]


def pooled(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(-1, 4, 2, 4, 2).mean(axis=(2, 4)).reshape(-1, 16)


def main() -> None:
    digits = load_digits()
    train, test, train_labels, labels = train_test_split(
        digits.data / 16.0, digits.target, test_size=0.5, random_state=SEED, stratify=digits.target
    )
    network = MLPClassifier((64,), alpha=1e-2, max_iter=500, random_state=SEED).fit(train, train_labels)
    regression = LogisticRegression(max_iter=2000).fit(pooled(train), train_labels)

    arrays = {
        "teacher": network_logits(network, test).astype(np.float32),
        "student": regression.decision_function(pooled(test)).astype(np.float32),
        "labels": labels.astype(np.int64),
    }
    path = Path(__file__).parents[1] / "src" / "xent" / "data" / "digits.npz"
    np.savez_compressed(path, **arrays)
    for name in ("teacher", "student"):
        logits = arrays[name]
        right = np.mean(logits.argmax(axis=1) == labels)
        print(f"{name}: accuracy {right:.4f}, logits from {logits.min():.1f} to {logits.max():.1f}")
    print(f"{path.name}: {len(labels)} rows, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
