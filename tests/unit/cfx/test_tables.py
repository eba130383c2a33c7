"""A table as a data set: its scale comes from the training split, and every mistake in it is one line."""

import warnings

import numpy as np
import pandas as pd
import pytest

from cfx import tables
from cfx.data import Feature
from cfx.errors import InputError
from cfx.tables import Column, Schema

SCHEMA = Schema(
    "outcome",
    (
        Column("income", "numeric"),
        Column("age", "integer", bounds=(18, 98)),
        Column("job", "category"),
        Column("home", "category", categories=("rent", "own")),
    ),
)


def loans(n: int = 60) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": np.arange(n),
            "income": random.uniform(20, 90, n).round(2),
            "age": random.integers(18, 70, n),
            "job": random.choice(["clerk", "None", "teacher"], n),
            "home": random.choice(["own", "rent"], n),
            "outcome": np.where(np.arange(n) % 3 == 0, "repaid", "defaulted"),
            "part": np.where(np.arange(n) % 5 == 0, "test", "train"),
        }
    )


def table(**changes: object) -> pd.DataFrame:
    """The loans with other values of a column, or with some of its rows replaced."""
    frame = loans().astype(object)
    for column, values in changes.items():
        for row, value in values.items() if isinstance(values, dict) else enumerate(values):
            frame.loc[row, column] = value
    return frame


def dataset(frame: pd.DataFrame, schema: Schema = SCHEMA, test_share: float = 0.2, seed: int = 0):
    return tables.dataset(frame, schema, test_share, seed, "loans.csv")


def test_numbers_are_scaled_and_categories_one_hot_coded_and_both_can_be_read_back():
    made = dataset(loans())
    assert [feature.name for feature in made.features] == [
        *("income", "age", "job=None", "job=clerk", "job=teacher", "home=rent", "home=own")
    ]
    assert made.features[1:3] == (
        Feature("age", "integer", 18.0, 98.0, "age"),
        Feature("job=None", "category", 0.0, 1.0, "job"),
    )
    assert made.class_names == ("defaulted", "repaid")
    low, high = np.array([(feature.low, feature.high) for feature in made.features]).T
    x = np.concatenate([made.x_train, made.x_test]).astype(float)
    own = low + (x + 0.5) * (high - low)
    rows = pd.DataFrame({"income": own[:, 0].round(2), "age": own[:, 1].round().astype(int)})
    rows["job"] = np.array(["None", "clerk", "teacher"])[own[:, 2:5].argmax(axis=1)]
    rows["home"] = np.array(["rent", "own"])[own[:, 5:].argmax(axis=1)]
    rows["outcome"] = np.array(made.class_names)[np.concatenate([made.y_train, made.y_test])]
    by = list(rows)
    pd.testing.assert_frame_equal(
        rows.sort_values(by, ignore_index=True), loans()[by].sort_values(by, ignore_index=True), check_dtype=False
    )
    assert set(np.unique(own[:, 2:])) == {0, 1}


@pytest.mark.parametrize("seed", range(10))
def test_the_training_split_alone_fixes_the_scale_and_knows_every_value(seed):
    made = dataset(loans(), seed=seed)
    assert made.x_train[:, 0].min() == -0.5 and made.x_train[:, 0].max() == 0.5
    assert np.abs(made.x_test).max() <= 0.5
    # a fifth of each class
    assert np.bincount(made.y_test).tolist() == [8, 4]
    rare = dataset(table(job={7: "pilot"}), seed=seed)
    assert rare.x_train[:, 4].max() == 0.5 and rare.features[4].name == "job=pilot"


def test_the_split_follows_its_seed_or_a_column():
    assert dataset(loans(), seed=1).sha256() == dataset(loans(), seed=1).sha256() != dataset(loans(), seed=2).sha256()
    schema = Schema("outcome", (Column("income", "numeric", bounds=(0, 100)),), split="part")
    made = dataset(loans(), schema)
    np.testing.assert_allclose(made.x_test[:, 0], loans()["income"][::5] / 100 - 0.5, rtol=1e-6)


def test_numbers_as_class_names_are_in_the_order_of_their_values():
    frame = loans().assign(outcome=np.arange(60) % 12)
    assert dataset(frame).class_names == tuple(map(str, range(12)))


@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_a_file_gives_the_data_set_of_its_table(file_format, tmp_path):
    path = tmp_path / "loans"
    loans().to_csv(path, index=False) if file_format == "csv" else loans().to_parquet(path)
    assert dataset(tables.read(path, file_format, SCHEMA)).sha256() == dataset(loans()).sha256()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"income": {4: None}}, "the column 'income' has no value in 1 row, first in row 5"),
        ({"income": {4: "12k", 6: "x"}}, "the column 'income' holds '12k' in row 5; give a number"),
        ({"income": {4: np.inf}}, "the column 'income' holds 'inf' in row 5"),
        ({"income": [3] * 60}, "the column 'income' holds only 3 in the training split"),
        ({"age": {4: 30.5}}, "the column 'age' holds 30.5 in row 5, no integer"),
        ({"age": {4: 99}}, "the column 'age' holds 99 in row 5, outside [18, 98], its bounds"),
        ({"job": {4: " ", 5: None}}, "the column 'job' has no value in 2 rows, first in row 5"),
        ({"job": ["clerk"] * 60}, "the number of categories in the column 'job' is 1"),
        ({"home": {4: "tent"}}, "the column 'home' holds 'tent' in row 5, which is not in its categories"),
        ({"outcome": {4: ""}}, "the column 'outcome' has no value"),
        ({"outcome": ["repaid"] * 60}, "the target 'outcome' holds only 'repaid'"),
        ({"outcome": {4: "other"}}, "the target 'outcome' holds 'other', which as a target means something else"),
        ({"outcome": [f"loan {i}" for i in range(60)] * 4}, "the target 'outcome' holds"),
    ],
)
def test_a_table_that_is_not_as_its_schema_says(changes, told, monkeypatch):
    monkeypatch.setattr(tables, "_MOST_CATEGORIES", 50)
    with pytest.raises(InputError) as raised:
        dataset(table(**changes))
    assert told in str(raised.value) and str(raised.value).startswith("loans.csv: ") and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"part": {4: "valid"}}, "the column 'part' holds 'valid' in row 5; the split needs train or test"),
        ({"part": ["train"] * 60}, "needs rows of both splits"),
        ({"income": {5: 95}}, "the column 'income' holds 95 in row 6, outside"),
        ({"job": {5: "pilot"}}, "the column 'job' holds 'pilot' in row 6, which is not in the training split"),
        ({"outcome": {5: "late"}}, "the training split has no row of the class 'late'"),
    ],
)
def test_a_split_of_the_users_own_whose_test_split_is_not_known_from_the_training_split(changes, told):
    schema = Schema("outcome", (Column("income", "numeric"), Column("job", "category")), split="part")
    with pytest.raises(InputError, match="loans") as raised:
        dataset(table(**changes), schema)
    assert told in str(raised.value)


def test_too_few_rows_for_a_test_split():
    with pytest.raises(InputError, match="a test split of 20% of 2 rows is empty"):
        dataset(loans().iloc[2:4])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read as csv"),
        (b"income,age,job,home,outcome\n", "has no rows"),
        (b"income;age;job;home;outcome\n1;2;a;b;c\n", "has no column 'outcome'; it has 'income;age"),
        (b"income,age,job,home,outcome\n1,5,2,a,b,c\n", "cannot be read as csv"),
        (b"income,age,job,home,outcome\n1,2,a,b,c\n1,5,2,a,b,c\n", "cannot be read as csv"),
        (b"income,age,job,home,outcome\n1,2,\xff,b,c\n", "cannot be read as csv"),
    ],
)
def test_a_file_that_is_no_such_table(content, told, tmp_path):
    path = tmp_path / "loans.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=told) as raised, warnings.catch_warnings():
        warnings.simplefilter("default")
        tables.read(path, "csv", SCHEMA)
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="cannot be read as parquet"):
        tables.read(path, "parquet", SCHEMA)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Column("age", "integer", bounds=(0.5, 9)), "the column 'age' has the bounds \\[0.5, 9\\]"),
        (lambda: Column("age", "numeric", bounds=(9, 9)), "the column 'age' has the bounds"),
        (lambda: Column("job", "category", bounds=(0, 1)), "the column 'job' has the bounds"),
        (lambda: Column("age", "integer", categories=("a", "b")), "the column 'age' has the categories"),
        (lambda: Column("job", "category", categories=("a", "a")), "the column 'job' has the categories"),
        (lambda: Schema("age", (Column("age", "integer"),)), "the column 'age' is named twice"),
        (lambda: Schema("age", ()), "columns is empty"),
    ],
)
def test_a_schema_that_contradicts_itself(make, told):
    with pytest.raises(InputError, match=told):
        make()
