"""Fixtures of every area, by their modules."""

from hypothesis import settings

# How long an example takes is the machine's matter, not the product's. What is drawn anew in each
# run stands behind the mark `slow`: whether a change lands must depend on the change alone.
settings.register_profile("agog", deadline=None, derandomize=True)
settings.load_profile("agog")

pytest_plugins = [
    "tests.leftovers",
    "tests.ordinary_user",
    "tests.agents.programs",
    "tests.fixtures_runs",
    "tests.fixtures_sdlc",
    "tests.fixtures_stack",
    "tests.fixtures_workspaces",
    "tests.e2e.outages",
    "tests.fixtures_orchestra",  # imports from others: pytest rewrites a module before its import
]
