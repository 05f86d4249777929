"""A scripted agent: reads its prompt, works for a while, edits real files, prints its notice.

Standard library only: it runs as a program of its own, in its clone.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_POLL_SECONDS = 0.05

Extra = dict[str, object]
"""The fields that a role adds to its notice."""


@dataclass(frozen=True)
class Task:
    """An agent's prompt, and the mistakes that it must make first."""

    prompt: str
    mishaps: tuple[str, ...]


def main() -> None:
    """Work as the agent named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("agent", choices=sorted(WORK))
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--until", type=Path, help="work until this file is there")
    parser.add_argument("--mishap", action="append", default=[])
    arguments = parser.parse_args()
    task = Task(sys.stdin.read(), tuple(arguments.mishap))
    print(f"{arguments.agent} read a prompt of {len(task.prompt)} characters.", flush=True)
    time.sleep(arguments.seconds)
    until = arguments.until
    while until and until.parent.exists() and not until.exists():
        time.sleep(_POLL_SECONDS)
    _print_notice(arguments.agent, WORK[arguments.agent](task))


def _print_notice(agent: str, extra: Extra) -> None:
    notice = {
        "agent": agent,
        "req_number": os.environ["AGOG_REQUIREMENT"],
        "status": "COMPLETE",
        "summary": f"{os.environ['AGOG_STAGE']} done",
        **extra,
    }
    print(f"```json\n{json.dumps(notice, indent=2)}\n```")


def _research(task: Task) -> Extra:
    title = re.search(r"^# (.*)$", task.prompt, re.MULTILINE)
    answer = f"\nAn {_QUESTION} is greeted as `you`.\n" if _QUESTION in task.prompt else ""
    _write("docs/research.md", f"# Research\n\n{title.group(1) if title else ''}\n{answer}")
    return {"summary": "One function and one line of the page have to change"}


def _critique(task: Task) -> Extra:
    if "request-changes" in task.mishaps and _QUESTION not in Path("docs/research.md").read_text():
        return {
            "critique_verdict": "REQUEST_CHANGES",
            "reasons": [f"The research does not say how an {_QUESTION} is greeted"],
            "summary": "The research leaves a question open",
        }
    _write("docs/critique.md", "# Critique\n\nSound, with one condition: test the empty name.\n")
    return {
        "critique_verdict": "APPROVED_WITH_CONDITIONS",
        "required_fixes": ["Greet an empty name as `you`"],
        "summary": "Approved, with one condition",
    }


def _backend(task: Task) -> Extra:
    if "conflict" in task.mishaps:
        _reword("A backend that greets and", "A backend that greets in three languages and")
    if "break-build" in task.mishaps and not _repairs("build"):
        _write("backend/app.py", "def greet(name:\n    return name\n")
        return {"summary": "greet() knows three languages"}
    fix = " or 'you'" if "Greet an empty name" in task.prompt else ""
    _write(
        "backend/app.py",
        '"""The greeter."""\n\nGREETINGS = {"en": "Hello", "de": "Hallo", "fr": "Bonjour"}\n\n\n'
        'def greet(name: str, language: str = "en") -> str:\n'
        '    """Greet somebody in their language."""\n'
        f'    return f"{{GREETINGS[language]}}, {{name{fix}}}!"\n',
    )
    return {"summary": f"greet() knows three languages{_after_repair()}"}


def _frontend(task: Task) -> Extra:
    if "conflict" in task.mishaps:
        _reword("a page that shows it", "a page in the language of the browser")
    page = Path("frontend/index.html")
    page.write_text(page.read_text().replace("Hello!", '<span lang="de">Hallo!</span>'))
    _write("frontend/app.js", "document.documentElement.lang = navigator.language.slice(0, 2);\n")
    return {"summary": f"The page follows the browser's language{_after_repair()}"}


def _repairs(gate: str) -> bool:
    """Whether this run is a fix of that gate."""
    return os.environ["AGOG_STAGE"].startswith(f"Fix {gate}")


def _after_repair() -> str:
    if _repairs("build"):
        return ", and compiles"
    return ", README says what both sides do" if _repairs("merge") else ""


def _reword(before: str, after: str) -> None:
    """Change one side's part of a README line; the other side changes the rest of it."""
    readme = Path("README.md")
    readme.write_text(readme.read_text().replace(before, after))


def _test_backend(_: Task) -> Extra:
    _write(
        "backend/test_app.py",
        "import unittest\n\nfrom app import greet\n\n\n"
        "class GreetTest(unittest.TestCase):\n"
        "    def test_language(self) -> None:\n"
        '        self.assertEqual("Hallo, Ada!", greet("Ada", "de"))\n\n'
        "    def test_empty_name(self) -> None:\n"
        '        self.assertEqual("Hello, you!", greet(""))\n',
    )
    tests = subprocess.run([sys.executable, "-m", "unittest"], cwd="backend", check=False)
    passed = tests.returncode == 0
    return {"test_result": "PASS" if passed else "FAIL", "summary": "2 tests of the backend run"}


def _test_frontend(_: Task) -> Extra:
    passed = "Hallo!" in Path("frontend/index.html").read_text()
    _write("docs/frontend-tests.md", f"# Frontend tests\n\nThe page greets: {passed}\n")
    return {
        "test_result": "PASS" if passed else "FAIL",
        "needs_vic": True,
        "summary": "The page greets; it reads the browser's language, so vic should look",
    }


def _test_performance(_: Task) -> Extra:
    _write("docs/performance.md", "# Performance\n\nOne dictionary look-up per greeting.\n")
    return {"test_result": "PASS", "summary": "No loop over users anywhere"}


def _test_security(_: Task) -> Extra:
    scripts = [path.read_text() for path in Path("frontend").glob("*.js")]
    passed = not any("innerHTML" in script for script in scripts)
    _write("docs/security.md", f"# Security\n\nNo script writes HTML: {passed}\n")
    return {"test_result": "PASS" if passed else "FAIL", "summary": "No script writes HTML"}


def _statistics(_: Task) -> Extra:
    lines = sum(len(path.read_text().splitlines()) for path in Path().rglob("*.py"))
    _write("docs/statistics.md", f"# Statistics\n\nLines of Python: {lines}\n")
    return {"overall": "PASS", "summary": f"{lines} lines of Python, all tested"}


def _deploy(_: Task) -> Extra:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    _write("docs/deployment.md", f"# Deployment\n\nStaging runs {commit}\n")
    return {"summary": f"Staging runs {commit[:10]}"}


def _document(_: Task) -> Extra:
    readme = Path("README.md")
    readme.write_text(readme.read_text() + "\nIt greets in English, German and French.\n")
    return {"summary": "README names the languages"}


def _write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


_QUESTION = "empty name"
"""What the critique finds missing when it requests changes."""

WORK: dict[str, Callable[[Task], Extra]] = {
    "cynthia": _research,
    "sylvia": _critique,
    "roy": _backend,
    "jen": _frontend,
    "billy": _test_backend,
    "liz": _test_frontend,
    "todd": _test_performance,
    "vic": _test_security,
    "priya": _statistics,
    "berry": _deploy,
    "tim": _document,
}

if __name__ == "__main__":
    main()
