"""Care of one host: its disk, its load, the runs on it, and what they left behind."""
