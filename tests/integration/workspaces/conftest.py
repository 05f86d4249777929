pytest_plugins = ("tests.fixtures_workspaces",)
