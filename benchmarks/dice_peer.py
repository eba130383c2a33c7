"""DiCE 0.12 by its public interface: diverse counterfactuals of a given MLP on a given table.

It runs in an environment of its own (`peers/torch.lock`), so it imports nothing of ours, and it times itself: the start
and a first search, for one counterfactual, are not in the seconds.

    .venv-peers/torch/bin/python benchmarks/dice_peer.py FOLDER gradient --count 5 --threads 2

FOLDER has `train.csv` (numbers, then categories as text, then `label`), `instances.csv` (the same without `label`) and
`weights.npz`, the kernel and the bias of each dense layer. The model takes numbers scaled to [-0.5, 0.5] by their
extremes in `train.csv`, and -0.5 or 0.5 for each category. FOLDER gets `gradient.csv` or `genetic.csv`: a row a
counterfactual, with the columns of `instances.csv`, `instance`, and `seconds`, the time of the whole instance.
"""

import argparse
import logging
import time
from pathlib import Path

import dice_ml
import numpy as np
import pandas as pd
import torch
from raiutils.exceptions import UserConfigValidationException
from torch import nn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("method", choices=["gradient", "genetic"])
    parser.add_argument("--count", type=int, required=True, help="counterfactuals an instance")
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()

    logging.disable(logging.WARNING)
    torch.set_num_threads(arguments.threads)
    train, instances = (pd.read_csv(arguments.folder / f"{name}.csv") for name in ("train", "instances"))
    numbers = list(instances.select_dtypes("number"))
    data = dice_ml.Data(dataframe=train, continuous_features=numbers, outcome_name="label")
    with np.load(arguments.folder / "weights.npz") as arrays:
        model = mlp([arrays[name] for name in arrays.files])
    model = dice_ml.Model(model=model, backend="PYT", func="ohe-min-max")
    explainer = dice_ml.Dice(data, model, method=arguments.method)
    explain(explainer, instances[:1], 1)
    found = [explain(explainer, instances[row : row + 1], arguments.count) for row in range(len(instances))]
    table = pd.concat(found, keys=range(len(instances)), names=["instance", None]).reset_index("instance")
    table.drop(columns="label").to_csv(arguments.folder / f"{arguments.method}.csv", index=False)


def mlp(weights: list[np.ndarray]) -> nn.Module:
    """The MLP, from rows or one row of DiCE's numbers in [0, 1] to two probabilities."""
    layers = []
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        layer = nn.Linear(*kernel.shape)
        layer.weight.data, layer.bias.data = torch.tensor(kernel.T), torch.tensor(bias)
        layers += [layer, nn.ReLU()]
    # from [0, 1] to [-0.5, 0.5]
    layers[0].bias.data -= 0.5 * layers[0].weight.data.sum(dim=1)
    return nn.Sequential(*layers[:-1], nn.Softmax(dim=-1)).eval()


def explain(explainer, instance: pd.DataFrame, count: int) -> pd.DataFrame:
    """The counterfactuals of one instance; a row of empty cells if there is none."""
    start, found = time.perf_counter(), None
    try:
        found = explainer.generate_counterfactuals(instance, total_CFs=count, desired_class="opposite")
    except UserConfigValidationException as error:
        if "No counterfactuals found" not in str(error):
            raise
    seconds = time.perf_counter() - start
    table = found.cf_examples_list[0].final_cfs_df if found else None
    if table is None or table.empty:
        table = pd.DataFrame(np.nan, [0], [*instance.columns, "label"])
    return table.assign(seconds=seconds)


if __name__ == "__main__":
    main()
