"""The program of docs/how-to/from-alibi.md, which is alibi's example on MNIST with one line changed."""

import os
import re
import subprocess
import sys

import pytest

from tests.workflow.conftest import ROOT

pytestmark = pytest.mark.slow

# the embedded images in place of a download, a 7 first in the test split
IMAGES = """
import keras
import numpy as np
from tensorflow.keras import datasets

from cfx.datasets import mnist_5k

keras.utils.set_random_seed(0)
split = mnist_5k(seed=0)
order = np.argsort(split.y_test != 7, kind="stable")
pixels = [((x[..., 0] + 0.5) * 255).round().astype("uint8") for x in (split.x_train, split.x_test[order])]
datasets.mnist.load_data = lambda: ((pixels[0], split.y_train), (pixels[1], split.y_test[order]))
"""


def test_the_reference_example_runs_with_one_line_changed(tmp_path):
    page = (ROOT / "docs/how-to/from-alibi.md").read_text()
    (program,) = re.findall(r"^```python\n(# seven\.py\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", IMAGES + program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    accuracy, *found = done.stdout.splitlines()
    assert float(accuracy.split()[-1]) > 0.9
    (other, one) = [re.fullmatch(r"7 to (\d): probability ([\d.]+), L1 ([\d.]+)", line).groups() for line in found]
    assert other[0] != "7" and one[0] == "1"
    assert min(float(other[1]), float(one[1])) >= 0.99
    assert 0 < float(other[2]) < 28 * 28 and 0 < float(one[2]) < 28 * 28
    assert {path.name for path in tmp_path.iterdir()} == {"other.png", "1.png"}
