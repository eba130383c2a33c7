"""The one exception that means "the input is wrong", so that callers can tell a user's mistake from a bug."""


class InputError(ValueError):
    """A mistake in what the user gave: the message is one line that says what, where and what to do.

    `python -m pipelines.*` turns it into that line and exit code 2; a library user sees a ValueError.
    """
