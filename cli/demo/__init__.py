"""The command `demo`: runs one requirement on servers of its own, and shows the result."""
