"""Classifiers of other frameworks: logits and gradients of the arithmetic that they stand for, or one clear line."""

import io
import pickle
import sys
import types

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cfx import GrowingSpheres, InputError, PrimalDual, Wachter, find_counterfactuals, frameworks
from cfx.bridge import Passes, bridge
from cfx.classifier import Classifier
from cfx.frameworks import sklearn

RNG = np.random.default_rng(0)
KERNEL = 20 * RNG.normal(size=(6, 3)).astype(np.float32)
X = RNG.uniform(-0.5, 0.5, (40, 6)).astype(np.float32)
IMAGES = RNG.uniform(-0.5, 0.5, (20, 3, 2, 1)).astype(np.float32)
LABELS = (X @ KERNEL).argmax(axis=1)


def softmax(logits):
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


class Linear:
    """A model with the two methods; counts the passes."""

    def __init__(self):
        self.forward = self.both = 0

    def probabilities(self, x):
        self.forward += 1
        return softmax(x @ KERNEL)

    def logits_and_gradient(self, x, weights):
        self.both += 1
        return x @ KERNEL, weights @ KERNEL.T


class Continued(Linear):
    """The same, whose backward pass continues from the forward pass."""

    def vjp(self, x):
        self.forward += 1
        return x @ KERNEL, lambda weights: weights @ KERNEL.T


def linear_passes():
    return Passes(lambda x: x.reshape(len(x), -1) @ KERNEL, Continued().vjp)


@pytest.mark.parametrize("kind", [Linear, Continued])
def test_an_object_with_two_methods_is_searched_without_numerical_gradients(kind):
    model = kind()
    found = find_counterfactuals(model, X, PrimalDual(max_iter=50))
    assert found.found.all()
    expected = find_counterfactuals(lambda x: softmax(x @ KERNEL), X, PrimalDual(max_iter=50))
    np.testing.assert_allclose(found.l1.sum(), expected.l1.sum(), rtol=0.02)
    # a forward pass for each step, and few for the predictions before and after
    assert model.both == 0 if kind is Continued else 0 <= model.forward - model.both < 10


def test_an_object_answers_itself_what_an_array_method_asks():
    model, weights = Linear(), np.ones((40, 3), np.float32)
    logits, gradient = Classifier(model, X).logits_and_gradient(X, weights, 16)
    np.testing.assert_allclose(logits, X @ KERNEL, rtol=1e-6)
    np.testing.assert_allclose(gradient, weights @ KERNEL.T, rtol=1e-6)


def test_an_object_without_gradient_is_for_methods_without_gradient():
    model = bridge(Passes(Linear().probabilities, None), X)
    assert find_counterfactuals(model, X[:5], GrowingSpheres(tol=0.5)).found.all()
    for method in (Wachter(), PrimalDual()):
        with pytest.raises(InputError, match="has no gradient: a step method cannot search; use growing_spheres, "):
            find_counterfactuals(model, X[:5], method)


@pytest.mark.parametrize("outputs", ["logits", "probabilities", "one logit", "one probability"])
def test_a_bridge_adapts_range_order_and_outputs(outputs):
    """A model of channels-first images in [0, 255], against finite differences of its own logits."""
    is_one, kernel = "one" in outputs, KERNEL[:, :1] if "one" in outputs else KERNEL

    def forward(x):
        logits = x.reshape(len(x), -1) @ kernel / 2000
        if "logit" in outputs:
            return logits
        return 1 / (1 + np.exp(-logits)) if is_one else softmax(logits)

    def vjp(x):
        values, slope = forward(x), kernel / 2000

        def pull_back(weights):
            if outputs == "probabilities":
                weights = values * (weights - (values * weights).sum(axis=1, keepdims=True))
            elif outputs == "one probability":
                weights = weights * values * (1 - values)
            return (weights @ slope.T).reshape(x.shape)

        return values, pull_back

    known = "probabilities" if "prob" in outputs else "logits"
    model = bridge(Passes(forward, vjp), IMAGES, bounds=(0, 255), channels_first=True, outputs=known)
    assert model.classes == (2 if is_one else 3)
    flat = (IMAGES.transpose(0, 3, 1, 2).reshape(20, -1) + 0.5) * 255
    expected = flat @ kernel / 2000
    expected = np.concatenate([np.zeros_like(expected), expected], axis=1) if is_one else expected
    np.testing.assert_allclose(model.probabilities(IMAGES), softmax(expected), atol=1e-5)
    weights = RNG.normal(size=expected.shape).astype(np.float32)
    weights -= weights.mean(axis=1, keepdims=True)
    slopes = np.pad(kernel, ((0, 0), (1, 0))) if is_one else kernel
    gradient = model.logits_and_gradient(IMAGES, weights)[1]
    np.testing.assert_allclose(gradient.reshape(20, -1), 255 / 2000 * weights @ slopes.T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"channels_first": True}, "channels_first needs images"),
        ({"bounds": (1, 0)}, "need two finite numbers, low < high"),
        ({"outputs": "odds"}, "outputs must be one of auto"),
    ],
)
def test_a_bridge_that_does_not_fit(options, told):
    with pytest.raises(InputError, match=told):
        bridge(linear_passes(), X, **options)


def test_a_bridge_of_a_model_for_other_instances():
    with pytest.raises(InputError, match=r"does not take inputs of shape \(5,\) \(.*"):
        bridge(linear_passes(), X[:, :5])
    with pytest.raises(InputError, match="returns a number that is not finite"):
        bridge(Passes(lambda x: np.full((len(x), 3), np.nan), None), X)


FITTED = {
    "linear": (lambda: LogisticRegression(), 3),
    "two classes": (lambda: LogisticRegression(), 2),
    "pipeline": (lambda: make_pipeline(StandardScaler(), PCA(4), LogisticRegression()), 3),
    "network": (lambda: make_pipeline(StandardScaler(), MLPClassifier((8, 5), "tanh", max_iter=20, random_state=0)), 3),
    "network, two classes": (lambda: MLPClassifier((8,), max_iter=20, random_state=0), 2),
}


@pytest.mark.parametrize("kind", FITTED)
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_scikit_learn_has_exact_gradients_of_linear_models_and_networks(kind):
    made, classes = FITTED[kind]
    model = made().fit(X.astype(float), LABELS % classes)
    of_model = bridge(sklearn.passes(model), X)
    np.testing.assert_allclose(of_model.probabilities(X), model.predict_proba(X.astype(float)), atol=1e-6)
    weights = RNG.normal(size=(40, classes)).astype(np.float32)
    gradient = of_model.logits_and_gradient(X, weights)[1]
    aside = 1e-3 * RNG.normal(size=X.shape).astype(np.float32)
    rise = (of_model.vjp(X + aside)[0] - of_model.vjp(X - aside)[0]) / 2
    np.testing.assert_allclose((gradient * aside).sum(axis=1), (weights * rise).sum(axis=1), atol=1e-4)


def test_scikit_learn_has_no_gradient_of_forests_and_of_kernels():
    for model in (RandomForestClassifier(5, random_state=0), GaussianProcessClassifier()):
        assert sklearn.passes(model.fit(X, LABELS)).vjp is None


class Network:
    """The files of one network in each framework: KERNEL, for channels-first images in the case of PyTorch."""

    torch_module = (
        "import torch\ndef model():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 3))\n"
    )
    jax_module = "def logits(weights, x):\n    return x.reshape(len(x), -1) @ weights['kernel']\n"

    @staticmethod
    def torch():
        torch = pytest.importorskip("torch", reason="needs the extra `torch`")
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 3))
        with torch.no_grad():
            network[1].weight.copy_(torch.tensor(KERNEL.T))
            network[1].bias.zero_()
        return torch, network


def module(source):
    made = types.ModuleType("mine")
    exec(source, vars(made))
    return made


def saved(kind, folder):
    """The path, the framework and the options of a file."""
    path = folder / "mine"
    if kind == "jax":
        pytest.importorskip("jax", reason="needs the extra `jax`")
        with path.open("wb") as file:
            np.savez(file, kernel=KERNEL)
        return path, "jax", {"module": module(Network.jax_module)}
    torch, network = Network.torch()
    if kind == "torchscript":
        torch.jit.trace(network, torch.zeros(2, 1, 3, 2)).save(path)
    elif kind == "weights":
        torch.save(network.state_dict(), path)
        return path, "torch", {"module": module(Network.torch_module), "channels_first": True}
    elif kind == "export":
        rows = {0: torch.export.Dim("n")}
        torch.export.save(torch.export.export(network, (torch.zeros(2, 1, 3, 2),), dynamic_shapes=(rows,)), path)
        return path, "torch", {"safe_mode": False, "channels_first": True}
    else:
        pytest.importorskip("onnx2pytorch", reason="needs the extra `onnx`")
        pytest.importorskip("onnxscript", reason="writes the file of the test")
        rows = {0: torch.export.Dim("n")}
        torch.onnx.export(network, (torch.zeros(2, 1, 3, 2),), path, dynamic_shapes=(rows,), external_data=False)
    return path, "onnx" if kind == "onnx" else "torch", {"channels_first": True}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["torchscript", "weights", "export", "jax", "onnx"])
def test_a_file_of_each_framework_is_searched(kind, tmp_path):
    path, framework, options = saved(kind, tmp_path)
    model = frameworks.load(framework, path, IMAGES[:2], **options)
    order = IMAGES.transpose(0, 3, 1, 2) if options.get("channels_first") else IMAGES
    np.testing.assert_allclose(model.probabilities(IMAGES), softmax(order.reshape(20, -1) @ KERNEL), atol=1e-5)
    weights = RNG.normal(size=(20, 3)).astype(np.float32)
    gradient = model.logits_and_gradient(IMAGES, weights)[1]
    np.testing.assert_allclose(gradient.reshape(20, -1), weights @ KERNEL.T, atol=1e-5)
    assert find_counterfactuals(model, IMAGES, PrimalDual(max_iter=50)).found.all()


@pytest.mark.filterwarnings("ignore")
def test_a_torch_file_that_would_run_code_or_does_not_fit(tmp_path):
    torch, network = Network.torch()
    path = tmp_path / "mine.pt"
    torch.save(network, path)
    with pytest.raises(InputError, match=r"mine\.pt: is neither a TorchScript file nor one of torch\.export; a pickle"):
        frameworks.load("torch", path, IMAGES)
    with pytest.raises(InputError, match=r"mine\.pt: cannot be loaded as a model of PyTorch"):
        frameworks.load("torch", path, IMAGES, module=module(Network.torch_module))
    path.write_bytes(pickle.dumps({"weights": 1}))
    with pytest.raises(InputError, match="is neither a TorchScript file nor one of"):
        frameworks.load("torch", path, IMAGES)
    torch.jit.trace(network, torch.zeros(2, 1, 3, 2)).save(path)
    with pytest.raises(InputError, match=r"mine\.pt: does not take inputs of shape \(2, 2, 1\)"):
        frameworks.load("torch", path, IMAGES[:, :2])
    path, *_ = saved("export", tmp_path)
    with pytest.raises(InputError, match=r"model\.safe_mode=false permits it"):
        frameworks.load("torch", path, IMAGES, channels_first=True)


@pytest.mark.parametrize(
    ("framework", "package", "told"),
    [("jax", "jax", "a model of JAX"), ("onnx", "onnx2pytorch", "of ONNX"), ("sklearn", "skops", "of scikit-learn")],
)
def test_a_file_of_another_framework(framework, package, told, tmp_path):
    pytest.importorskip(package, reason=f"needs the extra `{framework}`")
    (tmp_path / "mine").write_bytes(pickle.dumps(np.zeros(3)))
    with pytest.raises(InputError, match=f"mine: cannot be loaded as .*{told}"):
        frameworks.load(framework, tmp_path / "mine", X, module=module(Network.jax_module))


def test_a_package_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)
    np.savez(tmp_path / "mine.npz", kernel=KERNEL)
    with pytest.raises(InputError, match="the package jax is not installed; run `pip install jax`"):
        frameworks.load("jax", tmp_path / "mine.npz", X, module=module(Network.jax_module))


def test_only_trusted_types_of_a_skops_file_are_made(tmp_path):
    skops = pytest.importorskip("skops.io")
    path = tmp_path / "mine.skops"
    skops.dump(RandomForestClassifier(3, random_state=0).fit(X, LABELS), path)
    with pytest.raises(InputError, match=r"model\.trusted=\[sklearn\.tree\._tree\.Tree\] permits them"):
        frameworks.load("sklearn", path, X)
    model = frameworks.load("sklearn", path, X, trusted=["sklearn.tree._tree.Tree"])
    assert model.probabilities(X).shape == (40, 3) and not hasattr(model, "logits_and_gradient")
    path.write_bytes(io.BytesIO(skops.dumps(StandardScaler().fit(X))).getvalue())
    with pytest.raises(InputError, match="StandardScaler has no predict_proba"):
        frameworks.load("sklearn", path, X)
