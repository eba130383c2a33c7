"""The chart of what changes in a table: the columns by how often they change, with amounts in their own units."""

from cfx.change_chart import changes_figure, often
from cfx.changes import Change
from cfx.data import Feature

FEATURES = (
    Feature("age", "integer", 20, 70, "age"),
    Feature("income", "numeric", 10, 110, "income"),
    Feature("job=clerk", "category", 0, 1, "job"),
    Feature("job=nurse", "category", 0, 1, "job"),
)
INCOME = [Change("income", "50.0", after, size) for after, size in (("60.0", 0.1), ("80.0", 0.3), ("45.5", -0.045))]
FOUND = [
    [INCOME[0], Change("job", "clerk", "nurse", 1.0)],
    [INCOME[1]],
    [INCOME[2], Change("job", "clerk", "nurse", 1.0), Change("age", "30", "33", 0.06)],
    [],
]


def test_columns_are_in_the_order_of_how_often_they_change():
    assert [(name, len(of_name)) for name, of_name in often(FOUND)] == [("income", 3), ("job", 2), ("age", 1)]


def test_each_column_has_its_share_its_changes_and_their_medians_in_its_own_units():
    shares, sizes = changes_figure(FOUND, FEATURES, "black").axes
    assert [label.get_text() for label in shares.get_yticklabels()] == ["income", "job", "age"]
    assert [bar.get_width() for bar in shares.patches] == [0.75, 0.5, 0.25]
    texts = [text.get_text() for text in sizes.texts]
    assert texts == ["1 × −4.5, 2 × +20.0", "2 × clerk → nurse", "1 × +3"]  # noqa: RUF001
    income, age = sizes.collections
    assert income.get_offsets()[:, 0].tolist() == [0.1, 0.3, -0.045] and age.get_offsets()[:, 0].tolist() == [0.06]


def test_a_table_with_many_columns_has_a_chart_of_the_most_frequent():
    many = [[Change(f"column {i}", "0", "1", 0.5) for i in range(40)]]
    features = tuple(Feature(f"column {i}", "numeric", 0, 2, f"column {i}") for i in range(40))
    assert len(changes_figure(many, features, "black").axes[0].patches) == 15
