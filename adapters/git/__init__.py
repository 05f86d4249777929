"""Git: our own bare repository of the project, clones for agents and builds, the delivery."""

from adapters.git.command import Git
from adapters.git.project import check_project
from adapters.git.workspaces import GitWorkspaces

__all__ = ["Git", "GitWorkspaces", "check_project"]
