"""The demo's git project: a backend and a frontend whose builds need nothing but Python."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_FILES = {
    "README.md": "# Greeter\n\nA backend that greets and a page that shows it.\n",
    "backend/app.py": (
        '"""The greeter."""\n\n\n'
        "def greet(name: str) -> str:\n"
        '    """Greet somebody."""\n'
        '    return f"Hello, {name}!"\n'
    ),
    "backend/build.py": (
        '"""The backend\'s build: every module must compile, every test must pass."""\n\n'
        "import compileall\nimport subprocess\nimport sys\n\n"
        'if not compileall.compile_dir(".", quiet=1, force=True):\n'
        "    sys.exit(1)\n"
        'print("Error: is only a word here, the exit code decides.")\n'
        "tests = subprocess.run("
        '[sys.executable, "-m", "unittest", "discover", "-p", "test_*.py"], check=False)\n'
        "sys.exit(0 if tests.returncode in (0, 5) else tests.returncode)\n"
    ),
    "frontend/index.html": (
        "<!doctype html>\n<title>Greeter</title>\n<main>Hello!</main>\n"
        '<script src="app.js"></script>\n'
    ),
    "frontend/app.js": 'document.querySelector("main").dataset.ready = "yes";\n',
    "frontend/build.py": (
        '"""The frontend\'s build: every script that the page names is copied to dist."""\n\n'
        "import pathlib\nimport re\nimport shutil\nimport sys\n\n"
        'page = pathlib.Path("index.html").read_text()\n'
        'scripts = re.findall(r\'src="([^"]+)"\', page)\n'
        "missing = [name for name in scripts if not pathlib.Path(name).is_file()]\n"
        "for name in missing:\n"
        '    print(f"Error: index.html names {name}, which does not exist")\n'
        "if missing:\n"
        "    sys.exit(1)\n"
        'dist = pathlib.Path("dist")\n'
        "dist.mkdir(exist_ok=True)\n"
        'for name in ("index.html", *scripts):\n'
        "    shutil.copy(name, dist / name)\n"
        'print(f"Built {len(scripts) + 1} files.")\n'
    ),
    ".gitignore": "dist/\n__pycache__/\n",
}

_IDENTITY = ("-c", "user.name=Demo", "-c", "user.email=demo@agog.invalid")


def make_project(directory: Path, environment: Mapping[str, str] | None = None) -> Path:
    """Create the project as a git repository with one commit; returns its root.

    `environment` replaces git's whole environment, since ours may name another repository.
    """
    for name, text in _FILES.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for arguments in (
        ("init", "--quiet", "--initial-branch=main"),
        ("add", "--all"),
        (*_IDENTITY, "commit", "--quiet", "--message=The greeter as it stands"),
    ):
        subprocess.run(["git", *arguments], cwd=directory, env=environment, check=True)
    return directory


def agents_file(
    mishaps: Sequence[str], minute_seconds: float, lasting: Mapping[str, Path] | None = None
) -> str:
    """The agents file of the demo as TOML: eleven scripted programs and two real builds.

    `mishaps` name the mistakes that agents make first: break-build, conflict, request-changes.
    `lasting` agents work until their file is there.
    """
    agent = Path(__file__).with_name("agent.py")
    wrong = [argument for mishap in mishaps for argument in ("--mishap", mishap)]
    lines = ["[defaults]", 'kind = "command"', ""]
    for name, minutes in _MINUTES.items():
        argv = [sys.executable, str(agent), name, "--seconds", f"{minutes * minute_seconds:.2f}"]
        until = ["--until", str(lasting[name])] if lasting and name in lasting else []
        lines += [f"[agents.{name}]", f"command = {_toml([*argv, *until, *wrong])}", ""]
    for side in ("backend", "frontend"):
        lines += [f"[builds.{side}]", f"command = {_toml([sys.executable, 'build.py'])}", ""]
    return "\n".join(lines)


_MINUTES = {
    "cynthia": 45,
    "sylvia": 30,
    "roy": 60,
    "jen": 60,
    "billy": 45,
    "liz": 45,
    "todd": 60,
    "vic": 60,
    "priya": 90,
    "berry": 15,
    "tim": 30,
}
"""How long each agent works, in minutes of the guide."""


def _toml(argv: list[str]) -> str:
    quoted = (arg.replace("\\", "\\\\").replace('"', '\\"') for arg in argv)
    return "[" + ", ".join(f'"{arg}"' for arg in quoted) + "]"
