"""The command line's rooms, behind `starter.py`: parse, connect, start, print; decide nothing."""
