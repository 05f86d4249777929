"""A host put together: settings -> adapters -> ports, for `worker.py` and for who looks at it."""
