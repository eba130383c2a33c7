"""The exception for invalid input, which distinguishes a user's mistake from a bug."""


class InputError(ValueError):
    """Invalid input. The message is one line that states the error, its location and a remedy.

    `python -m pipelines.*` prints this line and exits with code 2; in the library, it is a ValueError.
    """
