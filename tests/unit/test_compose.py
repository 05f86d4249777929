import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from adapters.temporal.client import SEARCH_ATTRIBUTES
from settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
SECRETS = ("SDLC_DATABASE_PASSWORD", "TEMPORAL_DATABASE_PASSWORD", "NATS_USER", "NATS_PASSWORD")
FILLED = {**dict.fromkeys(SECRETS, "filled"), "PROJECT_ROOT": "/filled"}
SWITCH = "ENABLE_PARALLEL_EXECUTION"
ALIASES = {str(field.alias) for field in Settings.model_fields.values()}
VARIABLE = re.compile(r"\$\{(\w+)(:[-?])?([^}]*)\}")

TEXT = (REPOSITORY / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WORKER = SERVICES["orchestrator"]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def test_every_dependency_is_a_service_of_its_own() -> None:
    assert set(SERVICES) == {
        "database",
        "temporal-database",
        "temporal-schema",
        "temporal",
        "temporal-namespace",
        "web-ui",
        "nats",
        "orchestrator",
    }
    assert set(COMPOSE["volumes"]) == {"database", "temporal-database", "nats", "state"}


def test_images_are_pinned_to_a_version() -> None:
    images = [service["image"] for service in SERVICES.values()]
    images += re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    for image in images:
        assert re.search(r":\d+\.\d+(\.\d+)?(-[a-z-]+)?$", image), image
    assert version("temporal") == version("temporal-schema") == version("temporal-namespace")


def version(service: str) -> str:
    return str(SERVICES[service]["image"]).rpartition(":")[2]


def test_passwords_have_no_default() -> None:
    used = {name: (kind, default) for name, kind, default in VARIABLE.findall(TEXT)}
    assert {name for name, (kind, _) in used.items() if kind == ":?"} == set(FILLED)
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "PWD" in name:
                assert VARIABLE.fullmatch(value), name


def test_ports_are_those_of_the_settings_and_open_to_this_machine_alone() -> None:
    published = {name: s["ports"][0] for name, s in SERVICES.items() if "ports" in s}
    assert {port.partition(":")[0] for port in published.values()} == {"127.0.0.1"}
    defaults = Settings.model_fields
    nats = urlsplit(defaults["nats_url"].default).port
    database = urlsplit(defaults["database_url"].default.get_secret_value()).port
    assert published == {
        "database": f"127.0.0.1:{database}:5432",
        "temporal": "127.0.0.1:7233:7233",
        "web-ui": "127.0.0.1:8233:8080",
        "nats": f"127.0.0.1:{nats}:4223",
    }


def test_start_is_ordered_by_health() -> None:
    for service in SERVICES.values():
        for name, dependency in service.get("depends_on", {}).items():
            if dependency["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[name]
            else:
                assert dependency["condition"] == "service_completed_successfully"
                assert SERVICES[name]["restart"] == "on-failure"
    assert set(WORKER["depends_on"]) == {"database", "temporal-namespace", "nats"}


def test_worker_reads_every_variable_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(WORKER["environment"]) <= ALIASES
    for name in ALIASES:
        monkeypatch.delenv(name, raising=False)
    for name, value in WORKER["environment"].items():
        monkeypatch.setenv(name, VARIABLE.sub(filled, value))
    settings = Settings()
    assert urlsplit(settings.nats_url).hostname in SERVICES
    assert urlsplit(settings.nats_url).port == 4223
    assert urlsplit(settings.database_url.get_secret_value()).hostname in SERVICES
    assert str(settings.temporal_address).partition(":")[0] in SERVICES
    assert settings.host == "orchestrator"
    mounted = {volume.removesuffix(":ro").rpartition(":")[2] for volume in WORKER["volumes"]}
    assert mounted == {
        "/app/.env",
        str(settings.agents_file),
        str(settings.project_root),
        str(settings.home),
    }


def filled(match: re.Match[str]) -> str:
    name, kind, default = match.groups()
    return default if kind == ":-" else FILLED[name]


def test_switch_is_read_from_the_mounted_file_alone(tmp_path: Path) -> None:
    assert SWITCH not in WORKER["environment"]
    assert "env_file" not in WORKER
    assert SWITCH not in DOCKERFILE
    assert "./.env:/app/.env:ro" in WORKER["volumes"]
    assert "WORKDIR /app" in DOCKERFILE
    assert WORKER["command"] == ["python", "worker.py"]

    shutil.copy(REPOSITORY / "settings.py", tmp_path)
    answers = []
    for value in ("true", "False"):
        (tmp_path / ".env").write_text(f"{SWITCH}={value}\nSDLC_DATABASE_PASSWORD=x\n")
        answers.append(run_in(tmp_path, "print(settings.Settings().enable_parallel_execution)"))
    assert answers == ["True", "False"]


def run_in(directory: Path, program: str) -> str:
    environment = {name: VARIABLE.sub(filled, text) for name, text in WORKER["environment"].items()}
    return subprocess.run(
        (sys.executable, "-c", f"import settings; {program}"),
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def test_example_environment_names_every_setting_and_every_variable_of_compose() -> None:
    text = (REPOSITORY / ".env.example").read_text()
    named = dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", text, re.MULTILINE))
    assert set(named) == ALIASES | {name for name, _, _ in VARIABLE.findall(TEXT)}
    assert {name for name in SECRETS if named[name]} == {"NATS_USER"}


def test_image_is_unprivileged_checked_and_holds_every_package() -> None:
    assert re.search(r"^USER agog$", DOCKERFILE, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK", DOCKERFILE, re.MULTILINE)
    setuptools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    ours = {package.partition(".")[0] for package in setuptools["packages"]}
    ours |= {f"{module}.py" for module in setuptools["py-modules"]}
    copied = {
        line[1:]
        for line in (REPOSITORY / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert ours <= copied
    assert {name for name in copied if not (REPOSITORY / name).exists()} == set()


def test_namespace_script_registers_our_search_attributes() -> None:
    script = (REPOSITORY / "containers" / "temporal-namespace.sh").read_text()
    assert f"for name in {' '.join(SEARCH_ATTRIBUTES)}; do" in script


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="docker-compose is not installed")
def test_compose_itself_accepts_the_file_once_it_is_filled_in(tmp_path: Path) -> None:
    file = tmp_path / "filled.env"
    assert compose_config(file, "").returncode != 0
    accepted = compose_config(file, "\n".join(f"{name}={value}" for name, value in FILLED.items()))
    assert accepted.returncode == 0, accepted.stderr


def compose_config(file: Path, text: str) -> subprocess.CompletedProcess[str]:
    file.write_text(text)
    return subprocess.run(
        ("docker-compose", "--env-file", str(file), "config", "--quiet"),
        cwd=REPOSITORY,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
