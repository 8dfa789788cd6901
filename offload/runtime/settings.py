"""A function's settings: a frozen struct, read once from the environment variables at cold start."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Self

import msgspec


class MissingSetting(Exception):
    """An environment variable that the function needs is not set or has a wrong value; the message names it."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Subclass it with one field a variable: field `notes_table` is the variable `NOTES_TABLE`."""

    @classmethod
    def from_environment(cls, variables: Mapping[str, str] | None = None) -> Self:
        """Reads every field from its variable; raises MissingSetting with the name of one that is missing or wrong."""
        found = os.environ if variables is None else variables
        fields = msgspec.structs.fields(cls)
        values = {field.name: found[field.name.upper()] for field in fields if field.name.upper() in found}
        for field in fields:
            if field.required and field.name not in values:
                raise MissingSetting(f"{cls.__module__}: the environment variable {field.name.upper()} is not set")
        try:
            return msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError as error:
            what, _, where = str(error).rpartition(" - at `$.")
            raise MissingSetting(
                f"{cls.__module__}: the environment variable {where.rstrip('`').upper()}: {what}"
            ) from error
