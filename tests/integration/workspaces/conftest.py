"""The fixtures of this area, where its tests are run alone."""

from tests.fixtures_workspaces import git_project, state_home, workspaces

__all__ = ["git_project", "state_home", "workspaces"]
