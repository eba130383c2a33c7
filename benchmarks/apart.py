"""A function in a process of its own, so that its memory and TensorFlow's global settings are its own too."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context


def apart(function, *arguments):
    """Call a module's function with arguments that pickle, in a fresh interpreter, and return what it returns."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as process:
        return process.submit(function, *arguments).result()
