"""One module per step, each named after its revision."""
