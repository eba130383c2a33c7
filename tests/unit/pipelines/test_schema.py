import hashlib
import re

import numpy as np
import pytest
import yaml

from cfx.errors import InputError
from pipelines.config import schema
from pipelines.config.parameters import from_config
from tests.unit.pipelines.made import NO_RULES


def raw(**changes):
    made = {
        "seed": 0,
        "data": {"name": "mnist_5k", "seed": 0},
        "model": {
            "name": "cnn",
            "filters": [8],
            "kernel_size": 2,
            "dropout": 0.1,
            "hidden": 8,
            "hidden_dropout": 0.1,
        },
        "training": {"epochs": 1, "batch_size": 64, "learning_rate": 0.001, "replicas": 0},
        "judges": {"seed": 1, "steps": 10},
        "search": {"method": "wachter", "target_class": "other"},
        "instances": {"index": None, "range": None, "per_class": 1, "classes": [7]},
        "constraints": NO_RULES,
    }
    for key, value in changes.items():
        made[key] = made[key] | value if isinstance(value, dict) else value
    return made


def test_cells_are_the_product_of_the_axes_in_order():
    chosen = from_config(raw(), {"target_class": [1, "other"], "lam_init": [0.1, 1]})
    cells = list(chosen.points())
    assert [list(swept.values()) for swept, _ in cells] == [[1, 0.1], [1, 1], ["other", 0.1], ["other", 1]]
    assert cells[1][1] == {"method": "wachter", "target_class": 1, "lam_init": 1}


def test_a_sweep_that_names_a_cell_twice_is_refused():
    with pytest.raises(InputError, match="the same cell twice"):
        from_config(raw(), {"lam_init": [0.1, 0.2, 1e-1]})


def test_without_axes_there_is_one_cell():
    assert [swept for swept, _ in from_config(raw(), {}).points()] == [{}]


def test_an_axis_over_whole_searches_changes_the_method():
    searches = [
        {"method": name, "max_iter": most, "target_class": 0} for name, most in (("wachter", 7), ("primal_dual", 9))
    ]
    cells = list(from_config(raw(), {"search": searches, "target_class": [1, 2]}).points())
    assert [search for _, search in cells] == [
        {"method": "wachter", "max_iter": 7, "target_class": 1},
        {"method": "wachter", "max_iter": 7, "target_class": 2},
        {"method": "primal_dual", "max_iter": 9, "target_class": 1},
        {"method": "primal_dual", "max_iter": 9, "target_class": 2},
    ]
    assert cells[2][0] == {"method": "primal_dual", "target_class": 1}


def test_an_axis_is_of_the_methods_that_have_it():
    searches = [{"method": "wachter", "lam_init": 0.5}, {"method": "nearest_neighbour"}]
    searches = [search | {"target_class": "other"} for search in searches]
    cells = list(from_config(raw(), {"search": searches, "lam_init": [0.1, 1], "target_class": [1, 2]}).points())
    assert [list(swept.values()) for swept, _ in cells] == [
        ["wachter", 0.1, 1],
        ["wachter", 0.1, 2],
        ["wachter", 1, 1],
        ["wachter", 1, 2],
        ["nearest_neighbour", None, 1],
        ["nearest_neighbour", None, 2],
    ]
    assert cells[4][1] == {"method": "nearest_neighbour", "target_class": 1}


def test_what_is_written_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = from_config(raw(), {"target_class": [0, "other"]})
    schema.write(chosen)
    assert schema.read() == chosen
    before = schema.PATH.stat().st_mtime_ns
    schema.write(chosen)
    assert schema.PATH.stat().st_mtime_ns == before


def test_the_users_file_is_known_by_its_digest_and_not_by_its_place(tmp_path):
    for name in ("a.npz", "b.npz"):
        (tmp_path / name).write_bytes(b"content")
    data = {"name": "npz", "bounds": [0, 255], "sha256": None}
    one, two = (
        from_config({**raw(), "data": data | {"path": str(tmp_path / name)}}, {}) for name in ("a.npz", "b.npz")
    )
    assert one.data == two.data and one.paths != two.paths
    assert one.data.sha256 == hashlib.sha256(b"content").hexdigest()
    with pytest.raises(InputError, match=r"data\.path: .* but data\.sha256 is 0000"):
        from_config({**raw(), "data": data | {"path": str(tmp_path / "a.npz"), "sha256": "0000"}}, {})
    with pytest.raises(InputError, match="cannot be read"):
        from_config({**raw(), "data": data | {"path": str(tmp_path / "c.npz")}}, {})


def keras_file(folder, **changes):
    (folder / "mine.keras").write_bytes(b"model")
    section = {"name": "keras", "bounds": [0, 1], "safe_mode": True, "module_sha256": None, "sha256": None}
    return section | {"path": str(folder / "mine.keras"), "module": None} | changes


def test_the_module_of_a_model_is_known_by_its_digest(tmp_path):
    (tmp_path / "mine.py").write_bytes(b"class Net: pass")
    given = keras_file(tmp_path, module=str(tmp_path / "mine.py"), safe_mode=False)
    chosen = from_config({**raw(), "model": given}, {})
    assert chosen.model.module_sha256 == hashlib.sha256(b"class Net: pass").hexdigest()
    assert chosen.trust == {"safe_mode": False, "module_sha256": chosen.model.module_sha256}
    assert from_config(raw(), {}).trust == {}
    with pytest.raises(InputError, match=r"model\.module: .*absent\.py cannot be read"):
        from_config({**raw(), "model": given | {"module": str(tmp_path / "absent.py")}}, {})


def test_each_classifier_of_a_sweep_is_trusted_as_it_was_asked_for(tmp_path):
    models = [keras_file(tmp_path, safe_mode=value) for value in (True, False)]
    variants = [({"model.safe_mode": model["safe_mode"]}, {**raw(), "model": model}) for model in models]
    chosen = from_config(raw(), {}, variants)
    assert [variant.trust["safe_mode"] for variant in chosen.variants] == [True, False]


def test_a_target_class_may_be_given_by_its_name(tmp_path):
    np.savez(tmp_path / "named.npz", class_names=np.array(["bag", "boot", "ankle boot"]))
    data = {"name": "npz", "bounds": [0, 255], "sha256": None, "path": str(tmp_path / "named.npz")}
    config = {**raw(search={"target_class": "boot"}), "data": data}
    assert [search["target_class"] for _, search in from_config(config, {}).points()] == [1]
    swept = from_config(config, {"target_class": ["ankle boot", "other", 1, "0"]})
    assert swept.sweep == {"target_class": [2, "other", 1, "0"]}
    searches = [{"method": "wachter", "target_class": "bag"}, {"method": "primal_dual"}]
    assert from_config(config, {"search": searches}).sweep["search"][0]["target_class"] == 0
    with pytest.raises(InputError, match="'bot' is not a class of the data; choose one of bag, boot, ankle boot"):
        from_config(config, {"target_class": ["bot"]})


def table_file(folder, target_class="other", **changes):
    """A configuration with a table; changes: of its schema."""
    (folder / "loans.csv").write_text("age,job,outcome\n31,clerk,repaid\n52,nurse,late\n")
    entries = {"target": "outcome", "columns": {"age": "integer", "job": {"kind": "category"}}, "split": None}
    data = {"name": "csv", "path": str(folder / "loans.csv"), "schema": entries | changes}
    return {**raw(search={"target_class": target_class}), "data": data | {"test_share": 0.2, "seed": 0, "sha256": None}}


def test_the_schema_of_a_table_may_be_in_a_file_which_the_parameters_do_not_need_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = table_file(tmp_path, "repaid")
    given = from_config(config, {})
    assert [search["target_class"] for _, search in given.points()] == [1]
    (tmp_path / "loans.yaml").write_text(yaml.safe_dump(config["data"]["schema"], sort_keys=False))
    assert from_config({**config, "data": config["data"] | {"schema": str(tmp_path / "loans.yaml")}}, {}) == given
    (tmp_path / "loans.yaml").unlink()
    schema.write(given)
    assert schema.read() == given


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"target": None}, "data.schema.target: input should be a valid string, not None"),
        ({"colour": "red"}, "data.schema.colour: no such option"),
        (
            {"columns": {"age": "int"}},
            "the column 'age' has the kind 'int'; choose one of numeric, integer or category",
        ),
        ({"columns": {"age": {"kind": "integer", "bounds": [60, 18]}}}, "the column 'age' has the bounds .60, 18"),
        ({"columns": {"job": {"kind": "category", "categories": [True, False]}}}, "should be a valid string, not True"),
        ({"columns": {"outcome": "category"}}, "the column 'outcome' is named twice"),
        ({"columns": {}}, "columns is empty"),
    ],
)
def test_a_schema_that_does_not_describe_a_table(changes, told, tmp_path):
    with pytest.raises(InputError, match=told):
        from_config(table_file(tmp_path, **changes), {})


@pytest.mark.parametrize("content", ["target: [", "", "just text", None])
def test_a_file_that_holds_no_schema(content, tmp_path):
    path = tmp_path / "loans.yaml"
    if content is not None:
        path.write_text(content)
    config = table_file(tmp_path)
    config["data"]["schema"] = str(path)
    with pytest.raises(InputError, match=r"data\.schema: .*loans\.yaml .*see conf/data/csv\.yaml$") as raised:
        from_config(config, {})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": -1}, "seed: "),
        ({"training": {"epochs": 0}}, "training.epochs: "),
        ({"training": {"batch_size": "many"}}, "training.batch_size: .*'many'"),
        ({"training": {"momentum": 1}}, "training.momentum: no such option"),
        ({"judges": {"steps": 0}}, "judges.steps: "),
        ({"data": {"name": "cifar"}}, "data"),
        ({"data": {"bounds": [0, 1]}}, "data.bounds: no such option"),
        ({"model": {"dropout": 1.0}}, "model.dropout: "),
        ({"search": {"method": "magic"}}, "search.method: unknown method 'magic'; choose one of"),
        ({"search": {"speed": 1}}, "search: method wachter .*speed"),
        ({"search": {"lam_init": 0}}, "search.lam_init must be > 0"),
        ({"search": {"learning_rate": -0.1}}, "search.learning_rate must be > 0"),
        ({"search": {"tol": 1}}, "search.tol must be in"),
        (
            {"search": {"max_iter": 99999999999}},
            "search.max_iter must be a whole number .*, got 99999999999",
        ),
        (
            {"search": {"method": "primal_dual", "max_iter": 100001}},
            "search.max_iter must be a whole number from 1 to 100,000",
        ),
        ({"search": {"max_lam_steps": 10**6}}, "search.max_lam_steps must be a whole number from 1 to 1,000"),
        ({"search": {"target_class": "seven"}}, "search.target_class"),
        ({"search": {"target_class": [1, 2]}}, "search.target_class: must be one value"),
        ({"instances": {"index": [1], "range": [0, 2]}}, "index or range, not both"),
        ({"instances": {"index": [1, 1]}}, "distinct indices"),
        ({"instances": {"index": []}}, "distinct indices"),
        ({"instances": {"range": [2, 2]}}, "range must be"),
        ({"instances": {"per_class": None}}, "give one of"),
        ({"instances": {"classes": []}}, "list of distinct classes"),
        ({"search": {"feature_range": [0, 0.1]}}, "search.feature_range: must contain"),
        ({"search": {"method": ["wachter"]}}, "search.method: unknown method"),
        ({"data": "mnist_5k"}, "data: is missing"),
        ({"instances": {"per_class": 0}}, "instances.per_class"),
        ({"foo": 1}, "foo: no such option"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(changes, told):
    with pytest.raises(InputError, match=told) as raised:
        from_config(raw(**changes), {})
    assert "\n" not in str(raised.value)


def test_a_params_file_that_is_missing_or_no_yaml(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"params\.yaml: no such file"):
        schema.read()
    schema.PATH.write_text("a: [")
    with pytest.raises(InputError, match="is not valid YAML"):
        schema.read()
    schema.PATH.write_text(yaml.safe_dump({"seed": 0}))
    with pytest.raises(InputError, match="is missing"):
        schema.read()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": True}, r"seed: .*not True"),
        ({"training": {"epochs": True}}, r"training\.epochs: .*not True"),
        ({"training": {"learning_rate": True}}, r"training\.learning_rate: .*not True"),
        ({"instances": {"per_class": True}}, r"instances\.per_class: .*not True"),
        ({"instances": {"index": [0, True]}}, r"instances\.index\.1: .*not True"),
        ({"instances": {"classes": [True]}}, r"instances\.classes\.0: .*not True"),
    ],
)
def test_true_and_false_are_no_numbers(changes, told):
    with pytest.raises(InputError, match=f"^{told}"):
        from_config(raw(**changes), {})


def test_what_is_swept_stands_in_one_place_so_that_no_change_is_without_effect(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    searches = [{"method": "wachter"}, {"method": "primal_dual"}]
    for axes, told in (({"target_class": [0, 1]}, "target_class"), ({"search": searches}, "method")):
        schema.write(from_config(raw(), axes))
        changed = yaml.safe_load(schema.PATH.read_text())
        changed["search"] = {"method": "wachter", "target_class": 3}
        schema.PATH.write_text(yaml.safe_dump(changed))
        with pytest.raises(
            InputError, match=rf"search\.{told} has no effect, because it is swept; change `sweep` instead"
        ):
            schema.read()


def test_a_model_to_train_that_is_none_of_those_to_compare_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    schema.write(from_config(raw(), {}, [({"seed": seed}, raw(seed=seed)) for seed in (0, 1)]))
    text = schema.PATH.read_text()
    assert text.count("\nseed: 0\n") == 1
    schema.PATH.write_text(text.replace("\nseed: 0\n", "\nseed: 5\n"))
    with pytest.raises(InputError, match="do not match any of its variants"):
        schema.read()


def test_the_classes_of_fashion_mnist_have_names():
    fashion = raw() | {"data": {"name": "fashion_mnist", "path": None}}
    chosen = from_config(fashion, {"target_class": ["bag", "T-shirt/top", "other", 3]})
    assert chosen.sweep["target_class"] == [8, 0, "other", 3]
    with pytest.raises(InputError, match="'hat' is not a class of the data; choose one of T-shirt/top, trouser"):
        from_config(fashion, {"target_class": ["hat"]})


def test_the_classes_of_the_table_of_tumours_have_names():
    config = raw() | {"data": {"name": "breast_cancer", "seed": 0}}
    assert from_config(config, {"target_class": ["benign", "malignant", "other"]}).sweep["target_class"] == [
        1,
        0,
        "other",
    ]


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"name": "mlp", "hidden": [], "dropout": 0.1}, "model.hidden: list should have at least 1 item"),
        ({"name": "mlp", "hidden": [8], "dropout": 1.0}, "model.dropout: input should be less than 1, not 1.0"),
        ({"name": "mlp", "hidden": [8], "dropout": 0.1, "filters": [3]}, "model.filters: no such option"),
        ({"name": "resnet", "filters": [8], "blocks": 0, "kernel_size": 3}, "model.blocks: input should be greater"),
        ({"name": "resnet", "filters": [8, 0], "blocks": 1, "kernel_size": 3}, "model.filters.1: input should be"),
        (raw()["model"] | {"name": "robust", "steps": 1}, "model.eps: is missing"),
        (raw()["model"] | {"name": "robust", "eps": 0, "steps": 1}, "model.eps: input should be greater than 0"),
        (raw()["model"] | {"name": "robust", "eps": 0.1, "steps": True}, "model.steps: input should be a valid int"),
        (raw()["model"] | {"eps": 0.1}, "model.eps: no such option"),
    ],
)
def test_a_hyperparameter_of_a_classifier_that_cannot_be_is_named_in_one_line(section, told):
    with pytest.raises(InputError, match=f"^{re.escape(told)}") as raised:
        from_config(raw() | {"model": section}, {})
    assert "\n" not in str(raised.value)
