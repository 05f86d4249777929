"""Agents on other machines: work items, deliverables and files on JetStream, with both ends."""
