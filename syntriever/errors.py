"""The one error that people are meant to read."""


class SyntrieverError(Exception):
    """What is wrong, where, and how to mend it. Stages print it without a traceback and exit 1."""
