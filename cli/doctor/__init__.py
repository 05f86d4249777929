"""The command `doctor`: checks everything that a requirement needs, and asks Sasha."""
