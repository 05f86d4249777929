"""The project's own build commands, run on one exact commit.

Empty: the supervisor of a build is loaded from here, and must not load all of this room.
"""
