"""The pure domain: what this program knows. Standard library only; no I/O, no clock."""
