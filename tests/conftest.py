"""Fixtures of every area, by their modules, and which tests are scenarios."""

from collections.abc import Sequence
from pathlib import Path

import pytest
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

HERE = Path(__file__).parent
SCENARIOS = (
    *("e2e", "flow/test_abandoned_rows.py", "flow/test_accounts.py", "flow/test_any_outcome.py"),
    "flow/test_cancellation.py",
    *("flow/test_delivery_turns.py", "flow/test_evidence.py", "flow/test_extension_messages.py"),
    *("flow/test_fix_bounds.py", "flow/test_fix_commits.py", "flow/test_fixes.py"),
    *("flow/test_hosts.py", "flow/test_humans.py", "flow/test_infrastructure.py"),
    *("flow/test_long_lives.py", "flow/test_lost_hosts.py", "flow/test_no_changes.py"),
    "flow/test_outages.py",
    *("flow/test_p0_gate.py", "flow/test_pre_emption.py", "flow/test_project.py"),
    *("flow/test_retries.py", "flow/test_stale_verdicts.py", "flow/test_upgrade.py"),
    *("integration/git/test_any_repository.py", "integration/git/test_git_checkout.py"),
    *("integration/git/test_git_crashes.py", "integration/git/test_git_damage.py"),
    *("integration/git/test_git_isolation.py", "integration/git/test_git_odd_work.py"),
    *("integration/git/test_git_prepared_files.py", "integration/git/test_git_submodules.py"),
    *("integration/git/test_git_takeover.py", "integration/sdlc/test_cancelled_connects.py"),
    *("integration/sdlc/test_sdlc_gate_races.py", "integration/suite/test_interrupted_suite.py"),
    *("integration/stack/test_stack_crashes.py", "integration/stack/test_stack_restarts.py"),
)
"""Folders and files that take three quarters of the time: `make test-scenarios`."""
NO_SCENARIOS = (
    *("e2e/test_durability.py", "e2e/test_worker_health.py", "e2e/test_cli_report.py"),
    *("e2e/test_cli_accounts.py", "e2e/test_cli_asking.py", "e2e/test_cli_budgets.py"),
    *("e2e/test_cli_doctor.py", "e2e/test_cli_fixes.py", "e2e/test_cli_gc.py"),
    *("e2e/test_cli_holds.py", "e2e/test_cli_incidents.py", "e2e/test_cli_line.py"),
    *("e2e/test_cli_outage.py", "e2e/test_cli_refusals.py", "e2e/test_cli_requirement.py"),
    *("e2e/test_cli_run.py", "e2e/test_cli_stack.py"),
)
"""What a user does with each command, and that a killed worker loses nothing."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark the scenarios, before tests are selected by their marks."""
    for item in items:
        if _is_in(item.path, SCENARIOS) and not _is_in(item.path, NO_SCENARIOS):
            item.add_marker(pytest.mark.scenario)


def _is_in(path: Path, places: Sequence[str]) -> bool:
    return any(path.is_relative_to(HERE / place) for place in places)
