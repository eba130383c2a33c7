"""The sections of params.yaml upstream of the search, and the selection of the instances."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, Strict, field_validator, model_validator

from cfx.data import Kind as ColumnKind
from cfx.guides import Kind
from cfx.outputs import Outputs
from cfx.tables import Schema

# Numbers; without Strict, pydantic accepts true and false.
Int = Annotated[int, Strict()]
Float = Annotated[float, Strict()]
Size = Annotated[Int, Field(ge=1)]
Sizes = Annotated[list[Size], Field(min_length=1)]
Rate = Annotated[Float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A section of the configuration. It is immutable and rejects unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)


class Embedded(Section):
    """A data set that an installed package contains; its split is drawn."""

    name: Literal["mnist_5k", "digits", "breast_cancer"]
    seed: Int = Field(ge=0)


class Downloaded(Section):
    """A data set with a split, from a file in the Keras format or downloaded by Keras."""

    name: Literal["mnist", "fashion_mnist"]


class Npz(Section):
    """The user's .npz file."""

    name: Literal["npz"]
    bounds: tuple[Float, Float]
    sha256: str | None


class Table(Section):
    """The user's table of numbers and categories."""

    name: Literal["csv", "parquet"]
    # pydantic has a method `schema`
    columns: Schema = Field(alias="schema")
    test_share: Float = Field(gt=0, lt=1)
    seed: Int = Field(ge=0)
    sha256: str | None

    @field_validator("columns", mode="before")
    @classmethod
    def _columns_as_list(cls, schema: Any) -> Any:
        """In a schema that a person writes, `columns` maps each name to a kind or to the options of the column."""
        if not isinstance(schema, Mapping) or not isinstance(columns := schema.get("columns"), Mapping):
            return schema
        options = {name: one if isinstance(one, Mapping) else {"kind": one} for name, one in columns.items()}
        for name, one in options.items():
            if one.get("kind") not in get_args(ColumnKind):
                need = "numeric, integer or category"
                raise ValueError(f"the column {name!r} has the kind {one.get('kind')!r}; choose one of {need}")
        return {**schema, "columns": [{"name": name, **one} for name, one in options.items()]}


Data = Annotated[Embedded | Downloaded | Npz | Table, Field(discriminator="name")]


class Convolutional(Section):
    """The hyperparameters of the reference CNN."""

    name: str
    filters: Sizes
    kernel_size: Size
    dropout: Rate
    hidden: Size
    hidden_dropout: Rate


class Cnn(Convolutional):
    """The reference CNN."""

    name: Literal["cnn"]


class Robust(Convolutional):
    """The reference CNN, trained on adversarial examples."""

    name: Literal["robust"]
    eps: Float = Field(gt=0, le=1)
    steps: Size


class Mlp(Section):
    """A multilayer perceptron."""

    name: Literal["mlp"]
    hidden: Sizes
    dropout: Rate


class Resnet(Section):
    """A residual network."""

    name: Literal["resnet"]
    filters: Sizes
    blocks: Size
    kernel_size: Size


class ModelFile(Section):
    """The user's trained classifier, loaded from a file."""

    name: str
    bounds: tuple[Float, Float]
    sha256: str | None


class KerasFile(ModelFile):
    """A .keras file."""

    name: Literal["keras"]
    safe_mode: bool
    module_sha256: str | None


class OnnxFile(ModelFile):
    """An .onnx file."""

    name: Literal["onnx"]
    channels_first: bool
    outputs: Outputs


class TorchFile(ModelFile):
    """A file of TorchScript or torch.export, or weights with a module."""

    name: Literal["torch"]
    channels_first: bool
    outputs: Outputs
    safe_mode: bool
    module_sha256: str | None


class JaxFile(ModelFile):
    """Weights in an .npz file, with a module."""

    name: Literal["jax"]
    module_sha256: str | None


class SklearnFile(ModelFile):
    """A .skops file."""

    name: Literal["sklearn"]
    trusted: tuple[str, ...]


Model = Annotated[
    Cnn | Mlp | Resnet | Robust | KerasFile | TorchFile | JaxFile | OnnxFile | SklearnFile, Field(discriminator="name")
]
# The options of `model` that are a file.
MODEL_FILES = {"keras", "torch", "jax", "onnx", "sklearn"}


class Paths(Section):
    """The paths of the user's files on this machine. Only their digests are part of a cell's identity."""

    data: Path | None
    model: Path | None
    module: Path | None = None


class Training(Section):
    """The training of the classifier, unless it is loaded from a file."""

    epochs: Int = Field(ge=1)
    batch_size: Int = Field(ge=1)
    learning_rate: Float = Field(gt=0, allow_inf_nan=False)
    replicas: Int = Field(ge=0, le=100)


class Judges(Section):
    """The training of the judges."""

    seed: Int = Field(ge=0, lt=2**32)
    steps: Int = Field(ge=1)


class Guides(Section):
    """The training of the guides."""

    kinds: list[Kind] = Field(min_length=1)
    epochs: Int = Field(ge=1)
    steps: Int = Field(ge=1)
    seed: Int = Field(ge=0, lt=2**32 - 16)


Feature = str | Int


class Constraints(Section):
    """The rules that every counterfactual follows, as in `cfx.Constraints`, by name or index of a feature."""

    immutable: list[Feature]
    increase: list[Feature]
    decrease: list[Feature]
    ranges: dict[Feature, tuple[Float, Float]] | None
    most_change: dict[Feature, Float] | None
    steps: dict[Feature, Float] | None
    groups: list[list[Feature]]
    mask: Path | None
    mask_sha256: str | None
    scale: Literal["unit", "mad", "inverse_range"]


class Instances(Section):
    """The instances of the test split to explain."""

    index: list[Annotated[Int, Field(ge=0)]] | None
    range: tuple[Int, Int] | None
    per_class: Int | None = Field(ge=1)
    classes: list[Annotated[Int, Field(ge=0)]] | Literal["all"]

    @model_validator(mode="after")
    def _one_choice(self) -> Instances:
        if self.index is not None and self.range is not None:
            raise ValueError("give index or range, not both")
        if self.index is None and self.range is None and self.per_class is None:
            raise ValueError("give one of index, range and per_class")
        if self.range is not None and not 0 <= self.range[0] < self.range[1]:
            raise ValueError(f"range must be [start, stop] with 0 <= start < stop, not {list(self.range)}")
        if self.classes != "all" and (not self.classes or len(set(self.classes)) < len(self.classes)):
            raise ValueError(f"classes must be `all` or a list of distinct classes, not {self.classes}")
        if self.index is not None and (not self.index or len(set(self.index)) < len(self.index)):
            raise ValueError(f"index must be a list of distinct indices into the test split, not {self.index}")
        return self
