"""Makes metrics.json: a stored prediction set and scikit-learn's figures for it.

    pip install scikit-learn
    python tests/golden/metrics.py

1,000 predictions over 10 classes, skewed as real test sets are not: class 7 is never predicted
although 40 samples belong to it, which scikit-learn counts as 0 with `zero_division=0`; class 9 is
predicted although no sample belongs to it, and has no figures and no part in the averages.
"""

import json
import pathlib
import random

import sklearn
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

CLASSES = 10
NEVER_PREDICTED = 7
SUPPORT = [310, 180, 140, 110, 90, 60, 45, 40, 25, 0]

draw = random.Random(20240229)
targets = [c for c, n in enumerate(SUPPORT) for _ in range(n)]
draw.shuffle(targets)


def answer(target):
    """Right in about 80 % of the draws, else any class that may be predicted."""
    if target != NEVER_PREDICTED and draw.random() < 0.8:
        return target
    return draw.choice([c for c in range(CLASSES) if c != NEVER_PREDICTED])


predicted = [answer(t) for t in targets]
assert len(targets) == 1000 and 9 in predicted and NEVER_PREDICTED not in predicted

labels = list(range(CLASSES))
present = [c for c in labels if SUPPORT[c] > 0]


def figures(average):
    """precision, recall, F1 and support; `present` makes the averages run over the classes with samples."""
    precision, recall, f1, support = precision_recall_fscore_support(
        targets, predicted, labels=present, average=average, zero_division=0
    )
    if average is None:
        found = {
            c: {"precision": p, "recall": r, "f1": f, "support": int(s)}
            for c, p, r, f, s in zip(present, precision.tolist(), recall.tolist(), f1.tolist(), support.tolist())
        }
        return [found.get(c, {"precision": None, "recall": None, "f1": None, "support": 0}) for c in labels]
    return {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": len(targets)}


golden = {
    "made_by": f"tests/golden/metrics.py, scikit-learn {sklearn.__version__}",
    "classes": CLASSES,
    "accuracy": float(accuracy_score(targets, predicted)),
    "per_class": figures(None),
    "macro_average": figures("macro"),
    "weighted_average": figures("weighted"),
    "confusion": confusion_matrix(targets, predicted, labels=labels).tolist(),
    "targets": targets,
    "predicted": predicted,
}
lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in golden.items())
pathlib.Path(__file__).with_suffix(".json").write_text("{\n" + lines + "\n}\n")
