"""Fixtures of every area, by their modules."""

pytest_plugins = [
    "tests.leftovers",
    "tests.ordinary_user",
    "tests.fixtures_runs",
    "tests.fixtures_sdlc",
    "tests.fixtures_stack",
    "tests.fixtures_workspaces",
    "tests.e2e.outages",
    "tests.fixtures_orchestra",  # imports from others: pytest rewrites a module before its import
]
