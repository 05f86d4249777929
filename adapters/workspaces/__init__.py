"""The project's git repository: worktrees, merges and the delivery, by the `git` binary."""

from adapters.workspaces.project import check_project
from adapters.workspaces.workspaces import GitWorkspaces

__all__ = ["GitWorkspaces", "check_project"]
