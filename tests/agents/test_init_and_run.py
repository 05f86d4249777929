"""A newcomer's first hour: a copy of the orchestrator, a project, an installed `claude`."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.runs import records
from pipeline.team import TEAM
from tests.agents.programs import installed
from tests.agents.scenarios import environment, notice_of
from tests.agents.stand_ins import Answer, Run, StandIn, Turn, Write, stand_in
from tests.agents.test_real_teams import told
from tests.eventually import wait_until
from tests.fixtures_workspaces import GitProject
from tests.ports import own_port
from tests.stack_usage import keep_own_ports, processes_naming

pytestmark = pytest.mark.agents

ROOT = Path(__file__).parent.parent.parent
NOT_COPIED = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "tests", "bench", "build", "agents.toml"
)
_TESTS = re.compile(r"Our tests: `([^`]+)`")
"""What the requirement says of them."""
BUILDERS = ("roy", "jen")
"""Whose clones are prepared: they run the project's own tests before they answer."""

CORE = "exports.total = (prices) => prices.reduce((sum, each) => sum + each, 0);\n"
TESTED = """
const { total } = require("@shop/core");
require("node:test")("the total", () => require("node:assert").equal(total([1, 2]), 3));
"""
MONOREPO: Mapping[str, str] = {
    ".gitignore": "node_modules\n",
    "package.json": json.dumps(
        {
            "name": "shop",
            "private": True,
            "workspaces": ["packages/*", "apps/*"],
            "scripts": {"test": "npm test --workspaces --if-present"},
        }
    ),
    "packages/core/package.json": '{"name": "@shop/core", "version": "1.0.0", "main": "core.js"}',
    "packages/core/core.js": CORE,
    **{
        f"apps/{name}/{file}": text
        for name, script in (("api", "start"), ("web", "dev"))
        for file, text in {
            "package.json": json.dumps(
                {
                    "name": f"@shop/{name}",
                    "version": "1.0.0",
                    "dependencies": {"@shop/core": "1.0.0"},
                    "scripts": {
                        script: "node .",
                        "build": "node --check *.js",
                        "test": "node --test",
                    },
                }
            ),
            f"{name}.test.js": TESTED,
        }.items()
    },
}


PYTHON: Mapping[str, str] = {
    "pyproject.toml": """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "prices"
version = "1.0.0"
[project.optional-dependencies]
dev = ["pytest"]
""",
    "src/prices/__init__.py": "def total(prices):\n    return sum(prices)\n",
    "tests/test_prices.py": (
        "from prices import total\n\ndef test_total():\n    assert total([1, 2]) == 3\n"
    ),
}
GO: Mapping[str, str] = {
    "go.mod": "module example.invalid/shop\n\ngo 1.19\n",
    "main.go": """package main

import "net/http"

func total(prices []int) (sum int) {
	for _, price := range prices {
		sum += price
	}
	return
}

func main() {
	_ = http.ListenAndServe("127.0.0.1:8080", http.NotFoundHandler())
}
""",
    "main_test.go": """package main

import "testing"

func TestTotal(t *testing.T) {
	if total([]int{1, 2}) != 3 {
		t.Fatal("wrong total")
	}
}
""",
}
SITE: Mapping[str, str] = {
    "index.html": (
        '<!doctype html><link rel="stylesheet" href="style.css"><a href="team.html">Us</a>'
    ),
    "team.html": '<!doctype html><a href="/">Home</a>',
    "style.css": "a { color: teal }\n",
}


def work(n: int, prompt: str) -> Turn:
    """Write a file; the builders then test, as the project's README would say."""
    number, agent = told(prompt)
    if n == 0:
        return Write(f"work/{agent}.md", f"{agent} was here\n")
    if n == 1 and agent in BUILDERS:
        found = _TESTS.search(prompt)
        assert found, prompt[:500]
        return Run(found[1])
    return Answer(notice_of(agent, number))


@dataclass(frozen=True)
class Newcomer:
    """A copy of our tree with its usual state directory, and commands in the user's project."""

    tree: Path
    project: GitProject
    environment: Mapping[str, str]

    @property
    def home(self) -> Path:
        return self.tree / ".agog"

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, str(self.tree / "starter.py"), *arguments]

    def __call__(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.argv(*arguments),
            cwd=self.project.root,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )

    def costs(self, number: str) -> Any:
        """The document of `costs` by run, from servers that are started for it."""
        argv = self.argv("up")
        with subprocess.Popen(argv, cwd=self.tree, env=dict(self.environment)) as up:
            try:
                wait_until(lambda: self("costs", number).returncode == 0, "the servers")
                return json.loads(self("costs", number, "--by", "run", "--json").stdout)
            finally:
                up.terminate()


@pytest.fixture
def api() -> Iterator[StandIn]:
    with stand_in(work) as served:
        yield served


@pytest.fixture
def newcomer(tmp_path: Path, api: StandIn) -> Newcomer:
    """With a project that has no commit yet."""
    tree = tmp_path / "agog"
    shutil.copytree(ROOT, tree, ignore=NOT_COPIED)
    keep_own_ports(tree / ".agog")
    given = environment({}, api, tmp_path)
    given["PATH"] = f"{installed()}:{given['PATH']}"
    given["AGOG_USUAL_PORTS"] = "false"
    given["AGOG_HEALTH_PORT"] = str(own_port())
    given["npm_config_update_notifier"] = "false"
    return Newcomer(tree, GitProject(tmp_path / "shop").init(), given)


def results_of(api: StandIn, agent: str) -> list[str]:
    """What the tools of that agent have answered to its model."""
    return [
        json.dumps(block)
        for request in api.requests
        if told(json.dumps(request.body["messages"][0]))[1] == agent
        for message in request.body["messages"]
        if message["role"] == "user" and isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]


def told_costs(home: Path) -> list[float]:
    """What the programs themselves have said that their runs cost."""
    lines = [
        path.read_text().splitlines() for path in home.rglob(f"run-records/**/{records.STDOUT}")
    ]
    return [json.loads(each[-1])["total_cost_usd"] for each in lines]


def test_a_monorepo_is_delivered_without_a_file_edited_by_hand(
    newcomer: Newcomer, api: StandIn, tmp_path: Path
) -> None:
    newcomer.project.commit(MONOREPO)
    newcomer.project.shell("npm install --offline --no-audit --no-fund")
    newcomer.project.commit({})
    (tmp_path / "total.md").write_text("# Total of a cart\n\nWith tax. Our tests: `npm test`\n")

    proposed = newcomer("init")
    ran = newcomer("run", str(tmp_path / "total.md"))

    assert proposed.returncode == 0, proposed.stderr
    assert f"Wrote {newcomer.tree}/agents.toml." in proposed.stderr
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.endswith("REQ-total DELIVERED\n")
    files = newcomer.project.files("main")
    assert {f"work/{agent}.md" for agent in TEAM} - {"work/todd.md", "work/vic.md"} <= set(files)
    assert not [name for name in files if "node_modules" in name]
    for agent in BUILDERS:
        assert any("# pass 1" in each and "# fail 0" in each for each in results_of(api, agent))
    costs = newcomer.costs("REQ-total")
    shown = sorted(row["usd"] for row in costs["costs"])
    assert len(shown) == len(TEAM) - 2
    assert shown == pytest.approx(sorted(told_costs(newcomer.home)), abs=1e-9)
    assert processes_naming(str(tmp_path)) == []


@pytest.mark.slow  # a minute and a half each: servers, eleven programs, builds
@pytest.mark.parametrize(
    ("files", "builder", "tests", "green"),
    [
        pytest.param(PYTHON, "roy", ".venv/bin/pytest -q", "1 passed", id="python library"),
        pytest.param(GO, "roy", "go test ./...", "ok", id="go service"),
        pytest.param(SITE, "jen", "{check_site}", "Checked 2 pages.", id="plain site"),
    ],
)
def test_a_project_of_one_side_is_delivered_without_a_file_edited_by_hand(
    newcomer: Newcomer,
    api: StandIn,
    tmp_path: Path,
    files: Mapping[str, str],
    builder: str,
    tests: str,
    green: str,
) -> None:
    newcomer.project.commit(files)
    check_site = (sys.executable, str(newcomer.tree / "adapters/builds/check_site.py"))
    tests = tests.format(check_site=shlex.join(check_site))
    (tmp_path / "total.md").write_text(f"# Total of a cart\n\nOur tests: `{tests}`\n")

    proposed = newcomer("init")
    rehearsed = newcomer("rehearse")
    ran = newcomer("run", str(tmp_path / "total.md"))

    assert proposed.returncode == 0, proposed.stderr
    assert rehearsed.returncode == 0, rehearsed.stdout + rehearsed.stderr
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.endswith("REQ-total DELIVERED\n")
    added = set(newcomer.project.files("main")) - set(files)
    assert f"work/{builder}.md" in added
    assert {name for name in added if not name.startswith("work/")} == set()
    assert any(green in each for each in results_of(api, builder)), results_of(api, builder)
    assert processes_naming(str(tmp_path)) == []
