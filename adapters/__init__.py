"""The outside world, behind `pipeline.ports`."""
