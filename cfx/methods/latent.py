"""Search in the latent space of a conditional variational autoencoder, as a generative baseline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from cfx.backend import tf
from cfx.errors import InputError
from cfx.method import ArrayMethod
from cfx.problem import Problem

if TYPE_CHECKING:
    import keras

# The training of the autoencoder: hidden units, examples per step, learning rate.
_HIDDEN, _EXAMPLES, _RATE = 256, 128, 1e-3
# The weight of the distance grows by this factor after a step at a counterfactual, and shrinks by it after any other.
_FACTOR = 1.1


@dataclass(frozen=True, kw_only=True)
class Latent(ArrayMethod):
    """The counterfactual of least L1 on the path of Adam in the latent space of a conditional autoencoder.

    With the mean code E(x, c) and the decoder G(z, t) of a variational autoencoder that knows the class, the search
    starts at the code of the instance, z_0 = E(x, original class), decoded as the target class t, and takes steps on

        minimise over z   -log f_t(G(z, t)) + lam |G(z, t) - x|_1

    where lam is multiplied by 1.1 after a step at a counterfactual and divided by 1.1 after any other. With several
    target classes, t is the most probable one at the instance. An instance for which no counterfactual is found is
    returned unchanged. Distances are in units of the input. The search only raises f_t, so it may miss a `target_proba`
    below the probability where it starts.

    The autoencoder has two hidden layers of 256 units on each side. It is trained on the training instances in the
    feature range, at the first search, and kept for the next search on the same training split; `runtime_s` includes
    this time.

    Sources: after Joshi, Koyejo, Vijitbenjaronk, Kim and Ghosh 2019, "Towards realistic individual recourse and
    actionable explanations in black-box decision making systems" (REVISE, arXiv:1907.09615), which has neither the
    class in the autoencoder nor the rule for lam; Sohn, Lee and Yan 2015, "Learning structured output representation
    using deep conditional generative models".

    Example, for a Keras classifier `model` and float32 images x (n, 28, 28, 1) in [-0.5, 0.5]:

        result = find_counterfactuals(model, x, Latent(target_class=3), train=(x_train, y_train))
    """

    max_iter: int = 150
    """The number of steps, each one call of the model and one of its gradient; 1 to 100,000."""

    lam_init: float = 0.1
    """The initial weight of the L1 distance, above 0."""

    learning_rate: float = 0.05
    """The learning rate of Adam in the latent space, above 0."""

    code: int = 16
    """The number of latent dimensions, 1 to 1,000."""

    training_steps: int = 2000
    """The training steps of the autoencoder, with 128 examples each, 1 to 1,000,000."""

    seed: int = 0
    """The random seed of the training, 0 or above."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        super().__post_init__()
        self._check_whole_number("max_iter", most=100_000)
        self._check_number("lam_init", lambda value: value > 0, "> 0")
        self._check_number("learning_rate", lambda value: value > 0, "> 0")
        self._check_whole_number("code", most=1_000)
        self._check_whole_number("training_steps", most=1_000_000)
        self._check_whole_number("seed", least=0)

    def search(self, problem: Problem) -> np.ndarray:
        """Counterfactuals (n, *shape) float32; the instance itself if none is found.

        Raises:
            InputError: the problem has no training instances in the feature range, or they have other classes than the
                model.
        """
        import keras

        n, classes = problem.target.shape
        y_train = problem.y_train
        if y_train.dtype.kind not in "iu" or (len(y_train) and not 0 <= y_train.min() <= y_train.max() < classes):
            raise InputError(f"train: the classes must be whole numbers from 0 to {classes - 1}")
        autoencoder = _trained(_Split(problem), classes, self.code, self.training_steps, problem.seed)
        one_hot = np.eye(classes, dtype=np.float32)
        aim = np.where(problem.target, problem.probabilities(problem.x), -1).argmax(axis=1)
        code = keras.Variable(autoencoder.encode(problem.x, one_hot[problem.original_class]))
        adam = keras.optimizers.Adam(self.learning_rate)
        lam, best, best_l1 = np.full(n, self.lam_init), problem.x.copy(), np.full(n, np.inf)
        for step in range(self.max_iter):
            z = np.asarray(code)
            x = np.clip(autoencoder.decode(z, one_hot[aim]), problem.lower, problem.upper)
            f = problem.probabilities(x)
            f_target = np.where(problem.target, f, 0).max(axis=1)
            is_met = np.abs(f_target - np.float32(problem.target_proba)) <= problem.tol
            l1 = np.abs(x - problem.x).reshape(n, -1).sum(axis=1)
            nearer = is_met & (l1 < best_l1)
            best[nearer], best_l1[nearer] = x[nearer], l1[nearer]
            # the derivative of -log f_t with respect to the logits
            slope = problem.logits_and_gradient(x, f - one_hot[aim])[1]
            weight = lam.astype(np.float32).reshape(-1, *[1] * (x.ndim - 1))
            gradient = autoencoder.pull_back(z, one_hot[aim], slope + weight * np.sign(x - problem.x))
            adam.apply([tf.constant(gradient)], [code])
            lam *= np.where(is_met, _FACTOR, 1 / _FACTOR)
            problem.progress(int(n * (step + 1) / self.max_iter), n)
        return best


class _Split:
    """The training split of a problem in its feature range, equal to another one with the same content."""

    def __init__(self, problem: Problem) -> None:
        x, shape = problem.x_train, problem.x.shape[1:]
        inside = problem.is_inside(x)
        if not inside.any():
            raise InputError(
                "train has no instances in the feature range to train the autoencoder on: give train=(x_train, y_train)"
            )
        self.x, self.y = x[inside], problem.y_train[inside]
        self.low, self.high = (np.broadcast_to(bound, shape) for bound in (problem.low, problem.high))
        digest = sha256(repr(self.x.shape).encode())
        for array in (self.x, self.y.astype(np.int64), self.low, self.high):
            digest.update(np.ascontiguousarray(array).data)
        self._digest = digest.hexdigest()

    def __hash__(self) -> int:
        return hash(self._digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Split) and self._digest == other._digest


class _Autoencoder:
    """A conditional variational autoencoder; labels are one-hot, (n, classes)."""

    def __init__(self, split: _Split, classes: int, code: int, seed: int) -> None:
        self._shape, features = split.x.shape[1:], split.low.size
        self.low, self.span = split.low.ravel(), (split.high - split.low).ravel()
        self.encoder = _dense(features + classes, 2 * code, None, 10 * seed)
        self.decoder = _dense(code + classes, features, "sigmoid", 10 * seed + 5)
        self.code = code

    def encode(self, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The mean codes (n, code) of inputs (n, *shape)."""
        return np.asarray(self.encoder(np.concatenate([self.shares(x), labels], axis=1)))[:, : self.code]

    def decode(self, z: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The inputs (n, *shape) that codes (n, code) stand for."""
        shares = np.asarray(self.decoder(np.concatenate([z, labels], axis=1)))
        return (self.low + self.span * shares).reshape(-1, *self._shape).astype(np.float32)

    def pull_back(self, z: np.ndarray, labels: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """The gradient (n, code) at codes z of a loss whose gradient at the decoded inputs is slope (n, *shape)."""
        code = tf.constant(z)
        with tf.GradientTape() as tape:
            tape.watch(code)
            shares = self.decoder(tf.concat([code, labels], axis=1))
        return np.asarray(tape.gradient(shares, code, slope.reshape(len(z), -1) * self.span.astype(np.float32)))

    def shares(self, x: np.ndarray) -> np.ndarray:
        """Inputs as shares of their range, (n, features) in [0, 1]."""
        return ((x.reshape(len(x), -1) - self.low) / self.span).astype(np.float32)


def _dense(inputs: int, outputs: int, activation: str | None, seed: int) -> keras.Model:
    """A network with two hidden layers. Its seeds leave the global random state as it is."""
    import keras

    sizes = ((_HIDDEN, "relu"), (_HIDDEN, "relu"), (outputs, activation))
    stack = [
        keras.layers.Dense(units, kind, kernel_initializer=keras.initializers.GlorotUniform(seed + i))
        for i, (units, kind) in enumerate(sizes)
    ]
    return keras.Sequential([keras.Input((inputs,)), *stack])


@lru_cache(maxsize=1)
def _trained(split: _Split, classes: int, code: int, steps: int, seed: int) -> _Autoencoder:
    """Train an autoencoder to maximise the evidence lower bound, with Bernoulli likelihoods of shares of the range."""
    import keras

    model, random = _Autoencoder(split, classes, code, seed), np.random.default_rng(seed)
    optimizer = keras.optimizers.Adam(_RATE)
    variables = [*model.encoder.trainable_variables, *model.decoder.trainable_variables]
    optimizer.build(variables)

    def bound(x: Any, labels: Any, noise: Any) -> Any:
        mean, log_variance = tf.split(model.encoder(tf.concat([x, labels], axis=1), training=True), 2, axis=1)
        z = mean + tf.exp(log_variance / 2) * noise
        decoded = model.decoder(tf.concat([z, labels], axis=1), training=True)
        likelihood = -tf.reduce_sum(keras.losses.binary_crossentropy(x[..., None], decoded[..., None]), axis=1)
        divergence = tf.reduce_sum(tf.exp(log_variance) + tf.square(mean) - 1 - log_variance, axis=1) / 2
        return tf.reduce_mean(divergence - likelihood)

    def step(x: Any, labels: Any, noise: Any) -> None:
        with tf.GradientTape() as tape:
            loss = bound(x, labels, noise)
        optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))

    shapes = (split.low.size, classes, code)
    compiled = tf.function(step, [tf.TensorSpec([_EXAMPLES, size], tf.float32) for size in shapes], autograph=False)
    one_hot = np.eye(classes, dtype=np.float32)
    for _ in range(steps):
        drawn = random.choice(len(split.x), _EXAMPLES)
        noise = random.standard_normal((_EXAMPLES, code), np.float32)
        compiled(model.shares(split.x[drawn]), one_hot[split.y[drawn]], noise)
    return model
