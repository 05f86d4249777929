"""Deliveries that move no target: a branch, pushed to a real remote, and a pull request."""

import asyncio
from pathlib import Path

import pytest

from pipeline.delivery_settings import delivery_branch
from pipeline.model import FailureKind, RequirementState
from pipeline.plan_rules import DELIVER
from tests import forge
from tests.e2e.conftest import Cli
from tests.eventually import eventually, eventually_async
from tests.fixtures_workspaces import GitProject
from tests.orchestra import Orchestra
from tests.orchestra_plans import SOLO

ROY = {"backend/roy.txt": "roy\n"}


@pytest.fixture
def service(tmp_path: Path) -> Path:
    place = tmp_path / "forge"
    place.mkdir()
    return place


@pytest.fixture
def branch(orchestra: Orchestra) -> str:
    return delivery_branch(orchestra.number, "Greet in the user's language")


def configure(orchestra: Orchestra, table: str) -> None:
    file = orchestra.puppets.directory / "agents.toml"
    file.write_text(f"{file.read_text()}\n{table}\n")


def with_remote(orchestra: Orchestra, tmp_path: Path) -> GitProject:
    remote = tmp_path / "remote.git"
    orchestra.project.git("init", "--quiet", "--bare", str(remote))
    orchestra.project.git("remote", "add", "origin", str(remote))
    return GitProject(remote)


async def test_a_worker_killed_while_a_pull_request_is_made_makes_no_second_one(
    orchestra: Orchestra, service: Path, branch: str, tmp_path: Path
) -> None:
    project, remote = orchestra.project, with_remote(orchestra, tmp_path)
    configure(orchestra, forge.settings(service))
    orchestra.puppets.task("roy", files=ROY, notice={"summary": "Greets @everybody"})
    (service / "held").touch()
    before = project.state()
    await orchestra.worker.start()
    handle = await orchestra.start(SOLO)
    await eventually(lambda: len(forge.requests(service)) == 1, "a pull request")

    orchestra.worker.kill()
    (service / "held").unlink()
    await orchestra.worker.start()
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED, report
    (request,) = forge.requests(service)
    assert forge.calls(service) == ["find", "create", "find"]
    assert request["title"] == f"{orchestra.number}: Greet in the user's language"
    assert (request["branch"], request["target"]) == (branch, "main")
    assert "| Backend Implementation | roy | Greets @\u2060everybody |" in request["body"]
    assert f"build backend: green on `{report.commit[:10]}`, which is delivered" in request["body"]
    for place in (project, remote):
        assert place.git("rev-parse", branch) == report.commit
    assert project.state() == before
    status = await asyncio.to_thread(
        Cli(orchestra.environment, tmp_path), "status", orchestra.number
    )
    said = f"Delivered as the branch {branch}, pushed to origin. Pull request: {request['url']}"
    assert said in " ".join(status.out.split())
    assert f"{branch} " in status.out


async def test_a_requirement_is_one_merge_commit_of_the_files_that_were_built(
    orchestra: Orchestra,
) -> None:
    configure(orchestra, "[delivery]\nmerge_commit = true")
    orchestra.puppets.task("roy", files=ROY)
    project, before = orchestra.project, orchestra.project.git("rev-parse", "main")
    await orchestra.worker.start()

    report = await (await orchestra.start(SOLO)).result()

    assert project.git("rev-parse", "main") == report.commit
    first, work = project.git("log", "-1", "--format=%P", "main").split()
    assert first == before
    subject = project.git("log", "-1", "--format=%s", "main")
    assert subject == f"{orchestra.number}: Greet in the user's language"
    assert project.git("diff", work, "main") == ""
    view = await orchestra.view()
    assert {gate.commit for gate in view.gates if gate.gate == "build backend"} == {work}
    assert view.delivery
    assert (view.delivery.before, view.delivery.commit) == (before, report.commit)


async def test_what_stands_in_the_way_is_asked_about_until_it_is_gone(
    orchestra: Orchestra, service: Path, branch: str, tmp_path: Path
) -> None:
    configure(orchestra, forge.settings(service, finds=False))
    (service / "refuses").write_text("HTTP 422: main is protected\n")
    orchestra.puppets.task("roy", files=ROY)
    await orchestra.worker.start()
    handle = await orchestra.start(SOLO)

    view = await orchestra.until_state(RequirementState.BLOCKED)
    (alone,) = view.failures
    remote = with_remote(orchestra, tmp_path)
    await orchestra.retry(handle, DELIVER)

    async def is_refused() -> bool:
        return any("HTTP 422" in each.error for each in (await orchestra.view()).failures)

    await eventually_async(is_refused, "the refusal")
    (refused,) = (await orchestra.until_state(RequirementState.BLOCKED)).failures
    assert forge.requests(service) == []
    (service / "refuses").unlink()
    await orchestra.retry(handle, DELIVER)
    report = await handle.result()

    assert (alone.stage, alone.kind) == (DELIVER, FailureKind.DELIVERY)
    assert f"the branch {branch} of {orchestra.project.root}" in alone.error
    assert "there is no remote" in alone.error
    assert f"the branch {branch}, pushed to origin" in refused.error
    assert "HTTP 422: main is protected" in refused.error
    assert report.state is RequirementState.DELIVERED
    assert remote.git("rev-parse", branch) == report.commit
    assert len(forge.requests(service)) == 1


async def test_work_on_branches_of_its_own_waits_for_nobody(
    orchestra: Orchestra, tmp_path: Path
) -> None:
    """Both deliver to main, and the first one is still building what it would deliver."""
    configure(orchestra, '[delivery]\nmode = "branch"')
    puppets, numbers = orchestra.puppets, (orchestra.number, f"{orchestra.number}-2")
    puppets.task("roy", files=ROY)
    puppets.hold(f"{numbers[0]}.backend")
    await orchestra.worker.start()
    first = await orchestra.start(SOLO)
    await eventually(lambda: puppets.starts("backend", numbers[0]) == 1, "the first one's build")

    second = await orchestra.start(SOLO, number=numbers[1])
    report = await second.result()
    puppets.release(f"{numbers[0]}.backend")
    other = await first.result()

    title = "Greet in the user's language"
    for number, each in zip(numbers, (other, report), strict=True):
        commit = orchestra.project.git("rev-parse", delivery_branch(number, title))
        assert (each.state, each.commit) == (RequirementState.DELIVERED, commit)
    view = await orchestra.view()
    assert view.reason.endswith("not pushed: there is no remote.")
    assert view.delivery
    assert view.delivery.before == orchestra.project.git("rev-parse", "main")
