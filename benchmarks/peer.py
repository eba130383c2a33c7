"""The peer: alibi 0.9.6 `Counterfactual` on given weights and instances, through its public interface only.

It runs in an environment of its own (`peers/alibi.lock`: TensorFlow 2.14, numpy 1.26), so it imports nothing of
ours, and it times itself: start-up, building its graphs and the slow first call of each are not in the seconds.

    seq 0 39 | .venv-peers/alibi/bin/python benchmarks/peer.py weights.npz instances.npz peer.npz --threads 2

`weights.npz` holds the arrays of the reference CNN in the order of `model.get_weights()`; `instances.npz` holds `x`
(n, 28, 28, 1) float32 in [-0.5, 0.5], `index` (n,) int and `target` (n,) text, `other` or a class. It reads a place in
them from each line of its input, and answers with the row as a line of JSON: `index`, `target`, `original_class`,
`seconds`, `found`, and where found `cf_class`, `probability`, `l1`, `l0` (|change| > 1e-3) and `lam`. So whoever asks
can let others run in between. `peer.npz` gets the counterfactuals `x`, NaN where there is none.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import numpy as np
import tensorflow as tf
from alibi.explainers import Counterfactual

SETTINGS = {
    "target_proba": 1.0,
    "tol": 0.01,
    "max_iter": 1000,
    "lam_init": 0.1,
    "max_lam_steps": 10,
    "learning_rate_init": 0.1,
    "feature_range": (-0.5, 0.5),
}


def reference_cnn(weights):
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Conv2D(64, 2, padding="same", activation="relu", input_shape=(28, 28, 1)),
            layers.MaxPooling2D(2),
            layers.Dropout(0.3),
            layers.Conv2D(32, 2, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.set_weights(weights)
    return model


def explain(explainer, x):
    """Search from one instance `x` (1, 28, 28, 1); return the row and the counterfactual, or None."""
    start = time.perf_counter()
    explanation = explainer.explain(x)
    row = {"original_class": int(explanation.orig_class), "seconds": round(time.perf_counter() - start, 4)}
    best = explanation.cf
    if best is None:
        return row | {"found": False}, None
    change = np.abs(best["X"] - x)
    probability = float(best["proba"][0, best["class"]])
    return row | {
        "found": True,
        "cf_class": int(best["class"]),
        "probability": probability,
        "l1": float(change.sum()),
        "l0": int((change > 1e-3).sum()),
        "lam": float(best["lambda"]),
    }, best["X"][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("instances", type=Path)
    parser.add_argument("counterfactuals", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    tf.compat.v1.disable_eager_execution()
    with np.load(arguments.weights) as arrays:
        model = reference_cnn([arrays[name] for name in arrays.files])
    with np.load(arguments.instances) as arrays:
        x, indices = arrays["x"], arrays["index"].tolist()
        targets = [target if target == "other" else int(target) for target in arrays["target"].tolist()]

    # The classes share one session: a graph that grew between two searches would slow the second.
    explainers = {}
    for target in set(targets):
        explainers[target] = Counterfactual(model, shape=x[:1].shape, target_class=target, **SETTINGS)
    for target, explainer in explainers.items():
        explainer.explain(x[targets.index(target)][None])

    found = np.full_like(x, np.nan)
    for line in sys.stdin:
        place = int(line)
        row, counterfactual = explain(explainers[targets[place]], x[place : place + 1])
        if counterfactual is not None:
            found[place] = counterfactual
        print(json.dumps({"index": indices[place], "target": targets[place], **row}), flush=True)
    np.savez(arguments.counterfactuals, x=found)


if __name__ == "__main__":
    main()
