"""Tables with a classifier that both systems are given: real numbers, and numbers, integers and categories."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

EPOCHS = 100


@dataclass(frozen=True)
class Table:
    """A table in its own units. Its encoding has the numbers first, scaled to [-0.5, 0.5] by their extremes in the
    training split, then -0.5 or 0.5 for each category."""

    name: str
    train: pd.DataFrame
    """Numbers, then categories as text."""
    labels: np.ndarray
    """(m,) 0 or 1, of the training split."""
    test: pd.DataFrame

    @cached_property
    def numbers(self) -> list[str]:
        return list(self.train.select_dtypes("number"))

    @cached_property
    def columns(self) -> pd.Index:
        """The names of the encoded features, (features,)."""
        return pd.get_dummies(self.train).columns

    @cached_property
    def span(self) -> tuple[pd.Series, pd.Series]:
        """The least and the greatest value of each number in the training split."""
        numbers = self.train[self.numbers]
        return numbers.min(), numbers.max()

    @cached_property
    def mad(self) -> np.ndarray:
        """The median absolute deviation of each number in the training split, in units of its range; 1 if it is 0."""
        numbers = self.encode(self.train)[:, : len(self.numbers)]
        mad = np.median(np.abs(numbers - np.median(numbers, axis=0)), axis=0)
        return np.where(mad > 0, mad, 1)

    @cached_property
    def steps(self) -> dict[int, float]:
        """The step of each integer, by its encoded feature."""
        low, high = self.span
        whole = self.train[self.numbers].dtypes == "int64"
        return {i: 1 / (high[name] - low[name]) for i, name in enumerate(self.numbers) if whole[name]}

    @cached_property
    def groups(self) -> list[list[int]]:
        """The encoded features of each category."""
        categories = [name for name in self.train if name not in self.numbers]
        return [[i for i, column in enumerate(self.columns) if column.startswith(f"{name}_")] for name in categories]

    def encode(self, table: pd.DataFrame) -> np.ndarray:
        """Rows as (n, features) float32; NaN where a cell is empty."""
        low, high = self.span
        scaled = table.assign(**(table[self.numbers] - low) / (high - low))
        encoded = pd.get_dummies(scaled, dtype=float).reindex(columns=self.columns, fill_value=0)
        return encoded.to_numpy(np.float32) - np.float32(0.5)


def real() -> Table:
    """The breast tumours of scikit-learn: 30 real numbers."""
    found = load_breast_cancer(as_frame=True)
    return _split("breast_cancer", found.data, found.target.to_numpy())


def mixed() -> Table:
    """2,000 made loan applications: three real numbers, two integers and two categories."""
    random, n = np.random.default_rng(0), 2000
    table = pd.DataFrame(
        {
            "income": random.lognormal(3.6, 0.5, n).round(2),
            "savings": random.gamma(2.0, 8.0, n).round(2),
            "rate": random.uniform(1, 9, n).round(2),
            "age": random.integers(18, 80, n),
            "loans": random.poisson(1.5, n),
            "housing": random.choice(["owned", "rented", "free"], n, p=[0.5, 0.4, 0.1]),
            "work": random.choice(["employed", "own", "none", "student"], n, p=[0.6, 0.2, 0.1, 0.1]),
        }
    )
    score = (
        1.5 * np.log(table["income"] / 40)
        + 0.06 * table["savings"]
        - 0.35 * table["rate"]
        - 0.6 * table["loans"]
        - 0.002 * (table["age"] - 45) ** 2
        + table["housing"].map({"owned": 0.8, "rented": 0.0, "free": 0.3})
        + table["work"].map({"employed": 0.7, "own": 0.4, "none": -1.2, "student": -0.4})
    )
    labels = score - score.median() + random.logistic(0, 0.4, n) > 0
    return _split("mixed", table, labels.to_numpy().astype(int))


def classifier(table: Table):
    """The MLP of model=mlp, trained, and its weights."""
    import keras

    from cfx.architectures import mlp

    options = yaml.safe_load((Path(__file__).parents[1] / "conf/model/mlp.yaml").read_text())
    del options["name"]
    keras.utils.set_random_seed(0)
    model = mlp((len(table.columns),), 2, **options)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(table.encode(table.train), table.labels, batch_size=64, epochs=EPOCHS, verbose=0)
    return model


def _split(name: str, table: pd.DataFrame, labels: np.ndarray) -> Table:
    """A stratified split; of the test split, the rows inside the extremes of the training split."""
    train, test, y_train, _ = train_test_split(table, labels, test_size=0.2, random_state=0, stratify=labels)
    numbers = table.select_dtypes("number").columns
    inside = ((test[numbers] >= train[numbers].min()) & (test[numbers] <= train[numbers].max())).all(axis=1)
    return Table(name, train, y_train, test[inside])
