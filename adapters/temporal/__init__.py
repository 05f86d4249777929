"""Temporal: the client, what it says of workflows, and what they are told."""
