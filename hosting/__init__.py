"""Parts of a host that both `worker.py` and the commands put together."""
