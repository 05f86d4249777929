"""`init` on small real repositories, with programs on PATH that answer its probes."""

import asyncio
import json
import os
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.agent_programs import find_program, probes
from adapters.processes import process_stat
from adapters.user_files import find_agents
from cli import app
from cli.doctor.host import host_probes
from cli.init import with_lines
from cli.inputs import find_pipeline, say_other_project
from pipeline.agent_programs import Permission, ProgramAgent
from pipeline.agents_file import AgentsFile, BuildCommand, check_plan
from pipeline.project_proposal import Login
from settings import HERE, Settings, load_settings
from tests.eventually import wait_until
from tests.fixtures_workspaces import GitProject

CLAUDE = """
case "$*" in
  --version) echo "2.1.197 (Claude Code)" ;;
  "auth status") echo '{"loggedIn":true,"authMethod":"claude.ai","apiProvider":"firstParty"}' ;;
  *) sleep 600 ;;
esac
"""
LOGGED_OUT = """
case "$*" in
  --version) echo "2.1.197 (Claude Code)" ;;
  "auth status") echo '{"loggedIn":false,"authMethod":"none"}'; exit 1 ;;
  *) sleep 600 ;;
esac
"""
CODEX = """
case "$*" in
  --version) echo "codex-cli 0.171.0" ;;
  "login status") echo "API key configured - sk-…" >&2 ;;
  "sandbox -- true") exit 0 ;;
  *) sleep 600 ;;
esac
"""
CODEX_OUT = CODEX.replace(
    'echo "API key configured - sk-…" >&2', 'echo "Not logged in" >&2; exit 1'
)
GEMINI = "echo 0.61.0\n"

TYPESCRIPT = {
    "package.json": '{"workspaces": ["apps/*"]}',
    "package-lock.json": "{}",
    "apps/api/package.json": '{"name": "api", "scripts": {"build": "tsc", "test": "node --test"}}',
    "apps/web/package.json": '{"name": "web", "scripts": {"build": "vite build"}}',
}
PYTHON = {
    "pyproject.toml": '[project]\nname = "lib"\n[dependency-groups]\ndev = ["pytest"]\n',
    "uv.lock": "version = 1\n",
    "src/lib/__init__.py": "",
    "tests/test_lib.py": "def test_it():\n    pass\n",
}
GO = {"go.mod": "module example.invalid/x\n\ngo 1.22\n", "main.go": "package main\n"}
SITE = {
    "package.json": '{"scripts": {"build": "vite build"}, "devDependencies": {"vite": "5"}}',
    "package-lock.json": "{}",
    "index.html": "<p>\n",
}
PAGES = {"index.html": '<a href="about.html">About</a>\n', "about.html": "<h1>About</h1>\n"}


@dataclass
class House:
    """A directory with a repository, an agents file and a `.env` of its own."""

    root: Path
    monkeypatch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    @property
    def agents(self) -> Path:
        return self.root / "agents.toml"

    @property
    def environment(self) -> Path:
        return self.root / ".env"

    @property
    def project(self) -> Path:
        return self.root / "project"

    def commit(self, files: Mapping[str, str]) -> None:
        project = GitProject(self.project)
        if not self.project.exists():
            project.init()
        project.commit(files)

    def program(self, name: str, script: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        self.monkeypatch.setattr(sys, "argv", ["starter.py", "init", *arguments])
        code = app._run()
        said = self.capture.readouterr()
        return code, said.out, said.err

    def read(self) -> AgentsFile:
        """The agents file as the worker reads it, with the pipeline as `start` finds it."""
        agents = find_agents(self.agents)
        check_plan(agents, find_pipeline(load_settings().pipeline))
        return agents


@pytest.fixture
def house(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> House:
    made = House(tmp_path, monkeypatch, capsys)
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.alias), raising=False)
    for name in list(os.environ):
        if name.startswith(("ANTHROPIC_", "CLAUDE_", "CODEX_", "OPENAI_", "GEMINI_", "GOOGLE_")):
            monkeypatch.delenv(name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "home").mkdir()
    system = [place for place in os.environ["PATH"].split(":") if not _has_agents(Path(place))]
    monkeypatch.setenv("PATH", ":".join([str(tmp_path / "bin"), *system]))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AGOG_AGENTS_FILE", str(made.agents))
    monkeypatch.setitem(Settings.model_config, "env_file", made.environment)
    made.program("claude", CLAUDE)
    return made


def _has_agents(directory: Path) -> bool:
    return any((directory / name).exists() for name in ("claude", "codex", "gemini"))


@pytest.fixture
def in_project(house: House) -> Callable[[Mapping[str, str]], House]:
    def committed(files: Mapping[str, str]) -> House:
        house.commit(files)
        house.monkeypatch.chdir(house.project)
        return house

    return committed


@pytest.mark.parametrize(
    ("files", "pipeline", "builds"),
    [
        (TYPESCRIPT, "standard", {"backend": ("npm", "ci"), "frontend": ("npm", "ci")}),
        (PYTHON, "one-sided", {"backend": ("uv", "sync", "--locked")}),
        (GO, "one-sided", {"backend": ()}),
        (SITE, "one-sided-frontend", {"frontend": ("npm", "ci")}),
        (PAGES, "one-sided-frontend", {"frontend": ()}),
    ],
    ids=["typescript", "python", "go", "site", "pages"],
)
def test_what_init_writes_is_what_every_command_reads(
    in_project: Callable[[Mapping[str, str]], House],
    files: Mapping[str, str],
    pipeline: str,
    builds: Mapping[str, tuple[str, ...]],
) -> None:
    house = in_project(files)

    code, out, err = house()

    assert code == 0, err
    settings, agents = load_settings(), house.read()
    assert (settings.project_root, settings.pipeline) == (house.project, pipeline)
    assert {agent.kind for agent in agents.agents.values() if isinstance(agent, ProgramAgent)} == {
        "claude-code"
    }
    assert len(agents.agents) == 11
    for name, prepare in builds.items():
        build = agents.builds[name]
        assert isinstance(build, BuildCommand)
        assert build.prepare == prepare
    assert out.splitlines()[-1] == f"  python {HERE / 'starter.py'} run requirement.md"
    assert stat.S_IMODE(house.environment.stat().st_mode) == 0o600


def test_each_choice_stands_with_its_reason(
    in_project: Callable[[Mapping[str, str]], House],
) -> None:
    house = in_project(TYPESCRIPT)

    _, out, _ = house()

    written = house.agents.read_text()
    assert "claude 2.1.197, logged in: the only agent's program on PATH" in out
    assert "# claude 2.1.197, logged in: the only agent's program on PATH\nkind" in written
    assert "# from package-lock.json\nprepare" in written
    assert "# Pipeline: standard, because the project has a backend and a frontend." in written


def test_a_remote_and_several_parts_are_offered_what_they_need_and_nothing_more(
    in_project: Callable[[Mapping[str, str]], House],
) -> None:
    two = {"orders/go.mod": "module x\n", "mail/go.mod": "module y\n"}
    house = in_project(two)
    GitProject(house.project).git("remote", "add", "forge", "/nowhere.git")

    _, _, err = house()

    written, said = house.agents.read_text(), " ".join(err.split())
    assert "One agent works on all parts of the backend: mail and orders. For a team" in said
    assert "pipelines/monorepo.toml" in written
    assert "pushed to forge, and a pull request (for which gh" in said
    assert '# [delivery]\n# mode = "branch"  # or "pull-request"\n# remote = "forge"\n' in written
    house.agents.write_text(written.replace("# [delivery]\n# mode", "[delivery]\nmode"))
    assert house.read().delivery.mode == "branch"
    house.program("gh", "exit 0\n")
    assert json.loads(house("--json")[1])["delivery"]["remotes"] == ["forge"]
    house("--force")
    assert '# mode = "pull-request"  # or "branch"' in house.agents.read_text()


def test_without_remote_and_parts_nothing_is_offered(
    in_project: Callable[[Mapping[str, str]], House],
) -> None:
    house = in_project(GO)

    house()

    assert "[delivery]" not in house.agents.read_text()
    assert "monorepo" not in house.agents.read_text()


def test_agents_may_run_what_builds_and_tests_the_project(
    in_project: Callable[[Mapping[str, str]], House],
) -> None:
    house = in_project(PYTHON)
    house()

    roy = house.read().agents["roy"]

    assert isinstance(roy, ProgramAgent)
    assert roy.permission is Permission.RUN
    assert {"uv", "python"} <= set(roy.commands)


def test_a_second_init_says_the_same_and_changes_nothing(
    in_project: Callable[[Mapping[str, str]], House],
) -> None:
    house = in_project(GO)
    house()
    before = (house.agents.read_text(), house.environment.read_text())

    code, _, _ = house()

    assert code == 0
    assert (house.agents.read_text(), house.environment.read_text()) == before


def test_nothing_is_overwritten_without_force(
    in_project: Callable[[Mapping[str, str]], House],
) -> None:
    house = in_project(GO)
    house.agents.write_text("# mine\n")
    house.environment.write_text("MAX_PARALLEL_STAGES=2\nAGOG_PIPELINE=critical-path\n")

    code, out, err = house()

    assert (code, out) == (2, "")
    assert f"{house.agents} is there already" in err
    assert "sets AGOG_PIPELINE to critical-path, which would be one-sided" in err
    assert house.agents.read_text() == "# mine\n"

    assert house("--force")[0] == 0
    lines = house.environment.read_text().splitlines()
    assert lines[:2] == ["MAX_PARALLEL_STAGES=2", "AGOG_PIPELINE=one-sided"]
    assert load_settings().max_parallel_stages == 2
    house.read()


def test_json_prints_the_proposal_and_writes_nothing(
    in_project: Callable[[Mapping[str, str]], House],
) -> None:
    house = in_project(SITE)
    house.agents.write_text("# mine\n")

    code, out, _ = house("--json")

    document = json.loads(out)
    assert code == 0
    assert document["schema_version"] == 1
    assert document["pipeline"]["name"] == "one-sided-frontend"
    assert document["builds"]["frontend"]["prepare"] == ["npm", "ci"]
    assert document["programs"][0]["version"] == "2.1.197"
    assert house.agents.read_text() == "# mine\n"
    assert not house.environment.exists()


def test_a_repository_is_named_by_project_root_too(house: House) -> None:
    house.commit(GO)
    house.monkeypatch.setenv("PROJECT_ROOT", str(house.project))

    assert house()[0] == 0


def test_a_second_repository_is_the_one_that_you_are_in(house: House) -> None:
    house.commit(GO)
    house.monkeypatch.chdir(house.project)
    assert house()[0] == 0
    second = GitProject(house.root / "second").init()
    second.commit(PYTHON)
    house.monkeypatch.chdir(second.root / "tests")

    code, _, err = house()

    assert code == 2
    assert f"PROJECT_ROOT to {house.project}, which would be {second.root}" in err
    say_other_project(load_settings())
    assert f"The project is {house.project}, " in house.capture.readouterr().err
    house.monkeypatch.chdir(house.root)
    assert json.loads(house("--json")[1])["project"] == str(house.project)
    house.monkeypatch.chdir(house.project)
    say_other_project(load_settings())
    assert house.capture.readouterr().err == ""


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda house: house.project.mkdir(), "git"),
        (lambda house: GitProject(house.project).init(), "no commit yet"),
        (lambda house: house.commit({"README.md": "hello\n"}), "how it is built or tested"),
        (lambda house: (house.commit(GO), (house.root / "bin" / "claude").unlink()), "on PATH"),
        (lambda house: (house.commit(GO), house.monkeypatch.setenv("PROJECT_ROOT", "/absent")),
         "not a directory"),
    ],
    ids=["no-repository", "no-commit", "no-build", "no-program", "no-directory"],
)  # fmt: skip
def test_where_something_is_missing_init_says_what_and_leaves_nothing_behind(
    house: House, prepare: Callable[[House], object], reason: str
) -> None:
    prepare(house)
    house.monkeypatch.chdir(house.project)

    code, out, err = house()

    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert reason in err
    assert not house.agents.exists()
    assert not house.environment.exists()


def test_the_orchestrators_own_directory_is_not_taken_for_a_project(house: House) -> None:
    house.monkeypatch.chdir(HERE)

    code, _, err = house()

    assert code == 2
    assert "Run init in your repository" in err


def test_a_file_that_cannot_be_written_leaves_nothing_behind(
    in_project: Callable[[Mapping[str, str]], House],
) -> None:
    house = in_project(GO)
    house.environment.mkdir()

    code, _, err = house("--force")

    assert code == 2
    assert "Nothing was written" in err
    assert not house.agents.exists()


def test_doctor_misses_the_program_that_init_has_chosen(
    in_project: Callable[[Mapping[str, str]], House],
) -> None:
    house = in_project(GO)
    house()
    (probe,) = (each for each in host_probes(load_settings()) if each.name == "Agents file")

    there = asyncio.run(probe.check())
    (house.root / "bin" / "claude").unlink()
    gone = asyncio.run(probe.check())

    assert (there.ok, there.detail) == (True, "11 programs, 0 simulated")
    assert "the program claude is not found" in gone.advice


# --- the programs ---------------------------------------------------------------------------------


def test_a_program_that_is_logged_in_goes_before_one_that_is_not(
    in_project: Callable[[Mapping[str, str]], House],
) -> None:
    house = in_project(GO)
    house.program("claude", LOGGED_OUT)
    house.program("codex", CODEX)

    code, out, _ = house()

    roy = house.read().agents["roy"]
    assert code == 0
    assert isinstance(roy, ProgramAgent)
    assert (roy.kind, roy.permission) == ("codex", Permission.EDIT)
    assert "the only one that is ready" in out


def test_a_second_program_is_offered_for_a_second_pair_of_eyes(
    in_project: Callable[[Mapping[str, str]], House],
) -> None:
    house = in_project(GO)
    house.program("codex", CODEX)
    house()

    head, mark, offered = house.agents.read_text().partition("# [agents.sylvia]")
    offer, *rest = (mark + offered).split("\n\n")
    house.agents.write_text("\n\n".join([head + offer.replace("# ", ""), *rest]))

    sylvia = house.read().agents["sylvia"]
    assert isinstance(sylvia, ProgramAgent)
    assert sylvia.kind == "codex"


def test_where_nobody_is_logged_in_init_says_what_to_do_first(
    in_project: Callable[[Mapping[str, str]], House],
) -> None:
    house = in_project(GO)
    house.program("claude", LOGGED_OUT)

    code, _, err = house()

    assert code == 0
    assert "Before the first requirement: claude: it is not logged in" in err


@pytest.mark.parametrize(
    ("kind", "script", "variables", "login", "flaw"),
    [
        ("claude-code", CLAUDE, {}, Login.LOGGED_IN, ""),
        ("claude-code", CLAUDE.replace('"}\'', '","apiKeySource":"ANTHROPIC_API_KEY"}\''), {},
         Login.KEY, ""),
        ("claude-code", LOGGED_OUT, {}, Login.NONE, "run claude and /login"),
        ("claude-code", LOGGED_OUT, {"CLAUDE_CODE_OAUTH_TOKEN": "t"}, Login.KEY, ""),
        ("codex", CODEX, {}, Login.KEY, ""),
        ("codex", CODEX_OUT, {"CODEX_API_KEY": "k"}, Login.KEY, ""),
        ("codex", CODEX_OUT, {"OPENAI_API_KEY": "k"}, Login.NONE, "OPENAI_API_KEY alone is not"),
        ("codex", CODEX.replace("exit 0", "exit 1"), {}, Login.KEY, "user namespaces"),
        ("gemini", GEMINI, {"GEMINI_API_KEY": "k"}, Login.KEY, ""),
        ("gemini", GEMINI, {}, Login.NONE, "export GEMINI_API_KEY"),
        ("gemini", "exit 3\n", {}, Login.UNKNOWN, "exit code 3"),
    ],
)  # fmt: skip
def test_a_program_is_asked_by_its_own_probes(
    house: House, kind: str, script: str, variables: Mapping[str, str], login: Login, flaw: str
) -> None:
    name = {"claude-code": "claude"}.get(kind, kind)
    house.program(name, script)

    found = find_program(kind, {"PATH": os.environ["PATH"], **variables})

    assert found
    assert found.login is login
    assert flaw in found.flaw
    assert bool(flaw) == bool(found.flaw)
    assert "k" not in found.flaw.split() and "sk-" not in found.flaw  # noqa: PT018


def test_a_program_that_does_not_answer_is_ended_and_named(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PROBE_SECONDS", 2.0)  # what it starts is there by then
    started = house.root / "started"
    house.program("gemini", f"sleep 600 & echo $! > {started}; wait\n")

    found = find_program("gemini", {"PATH": os.environ["PATH"]})

    assert found
    assert "no answer" in found.flaw
    pid = int(started.read_text())
    wait_until(lambda: not is_living(pid), "the end of what it had started")


def is_living(pid: int) -> bool:
    found = process_stat(pid)
    return found is not None and found.is_living


def test_a_program_that_is_not_on_path_is_not_found(house: House) -> None:
    assert find_program("gemini", {"PATH": str(house.root / "bin")}) is None
    assert find_program("claude-code", {}) is None


# --- .env -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "PROJECT_ROOT=/shop\n"),
        ("A=1", "A=1\nPROJECT_ROOT=/shop\n"),
        ("# PROJECT_ROOT=/x\nPROJECT_ROOT=\nB=2\n", "# PROJECT_ROOT=/x\nPROJECT_ROOT=/shop\nB=2\n"),
        ("export PROJECT_ROOT = '/old'\n", "PROJECT_ROOT=/shop\n"),
    ],
)
def test_a_setting_is_set_and_every_other_line_stays(before: str, after: str) -> None:
    assert with_lines(before, {"PROJECT_ROOT": "/shop"}) == after


@pytest.mark.parametrize("value", ["/a b", "/it's", "/a#b", "/$HOME", "/a\\b", "/ä"])
def test_any_path_survives_the_settings_file(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text(with_lines("", {"PROJECT_ROOT": value}))
    monkeypatch.delenv("PROJECT_ROOT", raising=False)
    monkeypatch.setitem(Settings.model_config, "env_file", file)

    assert load_settings().project_root == Path(value)
