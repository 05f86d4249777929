"""Our application beside bare Temporal and plain asyncio: `python -m bench`."""
