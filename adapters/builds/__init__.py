"""The project's own build commands, run on one exact commit."""

from adapters.builds.project_builds import ProjectBuilds

__all__ = ["ProjectBuilds"]
