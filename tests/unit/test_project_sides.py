import json
from collections.abc import Mapping
from pathlib import PurePosixPath

import pytest

from pipeline.project_files import ProjectFiles, argv_of, wanted
from pipeline.project_sides import SideFound, Sides, find_sides
from pipeline.team import Side


def sides_of(files: Mapping[str, object]) -> Sides:
    texts = {path: e if isinstance(e, str) else json.dumps(e) for path, e in files.items()}
    read = wanted(list(texts))
    found = ProjectFiles(frozenset(texts), {path: texts[path] for path in read})
    return find_sides(found, site_check="python3 /check_site.py")


def only(files: Mapping[str, object]) -> SideFound:
    (side,) = sides_of(files).found
    return side


def shell(side: SideFound) -> str:
    return side.command[-1] if side.command[0] == "sh" else " ".join(side.command)


BUILD = {"scripts": {"build": "tsc", "test": "node --test"}}
MONOREPO = {
    "package.json": {"name": "shop", "workspaces": ["apps/*", "packages/*"]},
    "package-lock.json": "{}",
    "apps/api/package.json": {
        "name": "@shop/api", **BUILD, "dependencies": {"express": "4", "@shop/money": "*"},
    },
    "apps/web/package.json": {
        "name": "@shop/web",
        "scripts": {"build": "vite build", "test": "playwright test"},
        "dependencies": {"react": "18", "@shop/money": "*"},
    },
    "packages/money/package.json": {"name": "@shop/money", **BUILD, "dependencies": {}},
    "packages/mail/package.json": {"name": "@shop/mail", **BUILD},
    "examples/demo/package.json": {"name": "demo", **BUILD, "dependencies": {"vue": "3"}},
}  # fmt: skip


def test_workspaces_are_two_sides_with_what_they_need_built_before() -> None:
    backend, frontend = sides_of(MONOREPO).found

    assert (backend.side, frontend.side) == (Side.BACKEND, Side.FRONTEND)
    assert backend.directory == frontend.directory == "."
    assert backend.prepare == frontend.prepare == ("npm", "ci")
    assert shell(frontend) == (
        "npm run build --workspace=packages/money && npm run build --workspace=apps/web"
    )
    built, _, tested = shell(backend).partition(" && npm run test")
    assert built.index("packages/money") < built.index("apps/api")
    assert "packages/mail" in built  # nobody's else, so it is built and tested with the backend
    assert all(name in tested for name in ("apps/api", "packages/money", "packages/mail"))


def test_a_test_that_needs_a_browser_is_no_gate_and_is_named() -> None:
    (note,) = sides_of(MONOREPO).notes

    assert note == "apps/web/package.json: script test needs a browser, so it is no gate"


@pytest.mark.parametrize(
    ("lock", "prepare", "command"),
    [
        ("package-lock.json", "npm ci", "npm run build && npm run test"),
        ("pnpm-lock.yaml", "pnpm install --frozen-lockfile", "pnpm run build && pnpm run test"),
        ("yarn.lock", "yarn install --frozen-lockfile", "yarn run build && yarn run test"),
        ("bun.lock", "bun install --frozen-lockfile", "bun run build && bun run test"),
        ("README.md", "npm install", "npm run build && npm run test"),
    ],
)
def test_the_lock_file_tells_the_package_manager(lock: str, prepare: str, command: str) -> None:
    side = only({"package.json": BUILD, lock: ""})

    assert " ".join(side.prepare) == prepare
    assert shell(side) == command
    assert lock in side.prepare_reason or "no lock file" in side.prepare_reason


def test_a_modern_yarn_has_another_word_for_a_frozen_lock_file() -> None:
    side = only({"package.json": {**BUILD, "packageManager": "yarn@4.1.0"}, "yarn.lock": ""})

    assert side.prepare == ("yarn", "install", "--immutable")


@pytest.mark.parametrize(
    ("lock", "build"),
    [
        ("pnpm-lock.yaml", "pnpm --filter ./apps/web run build"),
        ("yarn.lock", "yarn workspace @shop/web run build"),
        ("bun.lockb", "bun run --cwd apps/web build"),
    ],
)
def test_each_package_manager_builds_a_workspace_in_its_own_words(lock: str, build: str) -> None:
    files = {**MONOREPO, lock: ""}
    del files["package-lock.json"]

    assert shell(sides_of(files).found[1]).endswith(build)


def test_workspaces_of_pnpm_stand_in_a_file_of_their_own() -> None:
    files = {
        "package.json": {"name": "shop", "private": True},
        "pnpm-workspace.yaml": "packages:\n  # ours\n  - 'apps/*'\n  - '!apps/old'\n",
        "pnpm-lock.yaml": "",
        "apps/web/package.json": {"name": "web", **BUILD},
        "apps/old/package.json": {"name": "old"},
    }

    assert shell(only(files)).startswith("pnpm --filter ./apps/web run build")


def test_scripts_of_the_root_build_workspaces_of_one_side() -> None:
    files = {
        "package.json": {"workspaces": ["packages/*"], "scripts": {"build": "turbo build"}},
        "packages/a/package.json": {"name": "a", **BUILD},
    }

    assert only(files).command == ("npm", "run", "build")


@pytest.mark.parametrize(
    "script", ['echo "Error: no test specified" && exit 1', "jest --watch", "ng test"]
)
def test_a_script_that_cannot_be_a_gate_is_left_out(script: str) -> None:
    side = only({"package.json": {"scripts": {"build": "tsc", "test": script}}})

    assert side.command == ("npm", "run", "build")


def test_a_site_without_a_backend_is_a_frontend() -> None:
    files = {
        "package.json": {
            "scripts": {"build": "eleventy"},
            "devDependencies": {"@11ty/eleventy": "3"},
        },
        "package-lock.json": "{}",
        "src/index.md": "",
    }

    assert only(files).side is Side.FRONTEND


def test_client_and_server_beside_each_other_are_two_sides() -> None:
    found = sides_of({"client/package.json": BUILD, "server/package.json": BUILD}).found

    assert [(each.side, each.directory) for each in found] == [
        (Side.BACKEND, "server"),
        (Side.FRONTEND, "client"),
    ]


def test_a_package_of_a_site_beside_a_python_service_is_its_frontend() -> None:
    files = {
        "pyproject.toml": '[project]\nname = "x"\n',
        "uv.lock": "",
        "x/__init__.py": "",
        "tests/test_x.py": "",
        "web/package.json": BUILD,
    }

    backend, frontend = sides_of(files).found

    assert (backend.directory, frontend.directory) == (".", "web")


PYTEST = '[project]\nname = "lib"\n[dependency-groups]\ndev = ["pytest>=8"]\n'
PYTHON = {"src/lib/__init__.py": "", "tests/test_lib.py": ""}


@pytest.mark.parametrize(
    ("files", "prepare", "command"),
    [
        (
            {"pyproject.toml": PYTEST, "uv.lock": ""},
            "uv sync --locked",
            "uv run --no-sync python -m pytest",
        ),
        (
            {
                "pyproject.toml": PYTEST.replace("[dep", "[tool.uv]\n[dep").replace(
                    "dev =", "test ="
                )
            },
            "uv sync --group test",
            "uv run --no-sync python -m pytest",
        ),
        (
            {"pyproject.toml": '[tool.poetry]\nname = "lib"\n[tool.pytest.ini_options]\n'},
            "poetry install --all-extras && poetry run pip install pytest",
            "poetry run python -m pytest",
        ),
        (
            {
                "pyproject.toml": '[project]\nname = "lib"\n'
                '[project.optional-dependencies]\ntest = ["pytest"]\n'
            },
            "python3 -m venv .venv && .venv/bin/pip install '-e.[test]'",
            ".venv/bin/python -m pytest",
        ),
        (
            {"requirements.txt": "flask\n", "requirements-dev.txt": "-r requirements.txt\npytest"},
            "python3 -m venv .venv && .venv/bin/pip install"
            " -r requirements-dev.txt -r requirements.txt",
            ".venv/bin/python -m pytest",
        ),
        (
            {"requirements.txt": "flask\n"},
            "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt",
            ".venv/bin/python -m unittest discover",
        ),
        (
            {"requirements.txt": "django\n", "manage.py": ""},
            "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt",
            ".venv/bin/python manage.py test",
        ),
    ],
)
def test_python_is_prepared_and_tested_by_its_own_tool(
    files: Mapping[str, str], prepare: str, command: str
) -> None:
    side = only({**PYTHON, **files})

    said = side.prepare[-1] if side.prepare[0] == "sh" else " ".join(side.prepare)
    assert said == prepare
    assert " ".join(side.command) == command
    assert side.side is Side.BACKEND
    may_call_pytest = ".venv/bin/pytest" in side.programs
    assert may_call_pytest == (command == ".venv/bin/python -m pytest")


def test_settings_of_python_tools_alone_are_no_project() -> None:
    files = {"pyproject.toml": "[tool.ruff]\n", "package.json": BUILD, "scripts/release.py": ""}

    assert only(files).command[-1] == "npm run build && npm run test"


def test_python_without_tests_counts_only_where_nothing_else_is_found() -> None:
    python = {"requirements.txt": "requests\n", "tool.py": ""}

    alone = only(python)
    beside = sides_of({**python, "go.mod": "module x\n"})

    assert "compileall" in alone.command
    assert "no tests" in alone.command_reason
    assert [each.command[-1] for each in beside.found] == [
        "go build ./... && go vet ./... && go test ./..."
    ]
    assert beside.notes == ("no tests in .: left out",)


@pytest.mark.parametrize(
    ("files", "prepare", "command"),
    [
        (
            {"go.mod": "module x\n", "go.sum": ""},
            ("go", "mod", "download"),
            "go build ./... && go vet ./... && go test ./...",
        ),
        (
            {"Cargo.toml": "[workspace]\n", "Cargo.lock": "", "crates/a/Cargo.toml": "[package]"},
            ("cargo", "fetch", "--locked"),
            "cargo build --workspace --all-targets --locked && cargo test --workspace --locked",
        ),
        (
            {"pom.xml": "<project/>", "core/pom.xml": "<project/>", "mvnw": ""},
            (),
            "./mvnw --batch-mode --no-transfer-progress verify",
        ),
        ({"build.gradle.kts": ""}, (), "gradle --no-daemon build"),
        (
            {"settings.gradle": "", "app/build.gradle": "", "gradlew": ""},
            (),
            "./gradlew --no-daemon build",
        ),
        ({"Makefile": "all: x\nCC := cc\ntest:\n\tcc\n.PHONY: all\n"}, (), "make all test"),
    ],
)  # fmt: skip
def test_other_tools_build_the_whole_project_from_its_root(
    files: Mapping[str, str], prepare: tuple[str, ...], command: str
) -> None:
    side = only(files)

    assert (side.directory, side.prepare, shell(side)) == (".", prepare, command)


def test_a_makefile_counts_only_where_nothing_else_tells() -> None:
    assert only({"Makefile": "build:\n", "go.mod": "module x\n"}).command[-1].startswith("go ")


def test_parts_of_one_side_are_built_together_each_in_its_directory() -> None:
    side = only({"go.mod": "module x\n", "job's/Cargo.toml": "[package]\n"})

    assert side.directory == "."
    assert shell(side).startswith("(go build")
    assert """(cd './job'"'"'s' && cargo build""" in shell(side)


def test_a_hostile_name_stays_one_word_on_one_line() -> None:
    files = {
        "package.json": {"workspaces": ["*"], "name": "x"},
        "$(id)\nweb/package.json": {"name": "a", **BUILD},
        "a\nb/go.mod": "module x\n",
    }

    found = sides_of(files)

    (side,) = found.found
    assert "'$(id)\nweb'" in shell(side) or "--workspace='$(id)" in shell(side)
    assert "\n" not in f"{side.directory_reason}{side.prepare_reason}{side.command_reason}"


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"package.json": "{"},
        {"package.json": "[]"},
        {"package.json": {"scripts": {"start": "node ."}}},
        {"package.json": {"scripts": ["build"], "workspaces": {"packages": 1}}},
        {"pyproject.toml": "= no", "x.py": ""},
        {"Makefile": "deploy:\n"},
        {"node_modules/x/package.json": BUILD, "tests/fixtures/y/go.mod": ""},
        {"a/b/c/d/e/package.json": BUILD},
    ],
)
def test_where_nothing_tells_how_it_is_built_there_is_no_side(files: Mapping[str, object]) -> None:
    assert sides_of(files).found == ()


def test_a_command_of_one_program_needs_no_shell() -> None:
    assert argv_of(["npm run build"]) == ("npm", "run", "build")
    assert argv_of(["a", "b"]) == ("sh", "-c", "a && b")
    assert argv_of(["CI=1 a"]) == ("sh", "-c", "CI=1 a")
    assert argv_of([]) == ()


def test_only_manifests_are_read_the_highest_first() -> None:
    paths = ["z/package.json", "README.md", "package.json", ".hidden/go.mod"]

    assert wanted(paths) == ("package.json", "z/package.json")
    assert all(PurePosixPath(path).name == "package.json" for path in wanted(paths))


@pytest.mark.parametrize(
    ("files", "directory"),
    [
        ({"index.html": "", "blog/index.html": "", "style.css": ""}, "."),
        ({"public/index.html": "", "README.md": ""}, "public"),
        ({"about.html": "", "package.json": {"name": "shop"}}, "."),
    ],
)
def test_pages_without_any_build_are_a_frontend_whose_links_are_checked(
    files: Mapping[str, object], directory: str
) -> None:
    side = only(files)

    assert (side.side, side.directory, side.prepare) == (Side.FRONTEND, directory, ())
    assert side.command == ("python3", "/check_site.py")
    assert side.programs == ("python3 /check_site.py",)


@pytest.mark.parametrize(
    "files",
    [
        {"go.mod": "module x\n", "index.html": ""},
        {"package.json": BUILD, "public/index.html": ""},
    ],
)
def test_pages_of_a_project_with_a_build_are_no_side_of_their_own(
    files: Mapping[str, object],
) -> None:
    assert "check_site" not in shell(only(files))


def test_pages_of_documentation_alone_are_no_site() -> None:
    assert sides_of({"docs/index.html": "", "README.md": ""}).found == ()
