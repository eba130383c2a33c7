"""Where the artefacts are, relative to the repository's root: the outputs of the DVC stages and the cells."""

from pathlib import Path

ROOT = Path("artifacts")

DATA = ROOT / "data.npz"
DATA_CARD = ROOT / "data.json"

MODEL = ROOT / "model.keras"
METRICS = ROOT / "metrics.json"
HISTORY = ROOT / "history.csv"
CONFUSION = ROOT / "confusion.csv"

AUTOENCODERS = ROOT / "judges" / "autoencoders.keras"
ORACLE = ROOT / "judges" / "oracle.keras"
JUDGES_METRICS = ROOT / "judges" / "metrics.json"

TABLE = ROOT / "counterfactuals.parquet"
RESULTS = ROOT / "counterfactuals"

REPORT = ROOT / "report"

CELLS = Path("cells")
