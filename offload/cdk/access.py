"""What a function is given: permissions on a resource, and the variables by which its code finds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aws_cdk import aws_iam as iam


@dataclass(frozen=True)
class Access:
    """`grant` gives the permission to a grantee; `variables` go into the function's environment."""

    grant: Callable[[iam.IGrantable], object]
    variables: Mapping[str, str] = field(default_factory=dict)
