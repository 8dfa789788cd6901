"""What a synthesis refuses in one line."""


class Unusable(Exception):
    """A part of the app cannot be deployed as it is; the message is one line: where, what, and the fix."""
