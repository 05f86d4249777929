"""Temporal, NATS and PostgreSQL as child processes, for users who have none of their own."""

from adapters.local_stack.child import Child, ChildSpec
from adapters.local_stack.stack import LocalStack, StackIncident
from adapters.local_stack.state import StackAddresses, keeper_of, read_stack

__all__ = [
    "Child",
    "ChildSpec",
    "LocalStack",
    "StackAddresses",
    "StackIncident",
    "keeper_of",
    "read_stack",
]
