"""What goes wrong foreseeably when one operates the app."""

from __future__ import annotations


class Failure(Exception):
    """Something foreseeable went wrong; the text says for people what, where, and what to do.

    The command line shows it on stderr without a traceback and ends with exit code 1.
    """
