"""What an app has once, in whichever of its stacks needs it first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aws_cdk import Stack
from constructs import Construct

_Made = TypeVar("_Made", bound=Construct)


def once(scope: Construct, construct_id: str, kind: type[_Made], make: Callable[[Stack], _Made]) -> _Made:
    """The app's one construct of this kind and id; `make` makes it in the scope's stack when no stack has it yet."""
    for stack in scope.node.root.node.children:
        found = stack.node.try_find_child(construct_id)
        if isinstance(found, kind):
            return found
    return make(Stack.of(scope))
