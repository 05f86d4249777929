"""A container engine of the test's own: Debian's, without a registry and without a bridge.

Everything of it stays below one directory and in namespaces of its own: when its first process
ends, the kernel ends all others and unmounts what they have mounted. No engine of the machine is
asked or changed.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest

from tests.eventually import wait_until

ROOT = Path(__file__).resolve().parents[2]
CACHE = "AGOG_BASE_IMAGE_CACHE"
"""Names a directory that keeps the root file system of the base image from one run to the next."""
LONGEST_SECONDS = 1200.0
"""Only ends what hangs: a build installs packages on a machine that others use, too."""

_PACKAGES = {
    "debootstrap": "debootstrap",
    "docker": "docker.io",
    "docker-compose": "docker-compose",
    "docker-init": "docker.io",
    "dockerd": "docker.io",
    "tini": "tini",
    "unshare": "util-linux",
}
"""Programs, and the packages of Debian that have them."""

# Both hide an engine of the machine's own: ours would use its containerd.
_START = """
for directory in /run/containerd /run/docker; do
    mkdir -p $directory && mount -t tmpfs tmpfs $directory || exit 1
done
exec dockerd "$@"
"""

_DPKG = """
force-unsafe-io
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/man/*
path-exclude /usr/share/locale/*
"""
"""As in the real base image: no manuals, no translations; a build need not survive a power cut."""


def missing() -> list[str]:
    """What this machine lacks to run an engine."""
    packages = {package for name, package in _PACKAGES.items() if not shutil.which(name)}
    lacks = [f"the packages {' '.join(sorted(packages))}"] if packages else []
    return lacks if os.geteuid() == 0 else [*lacks, "the rights of root"]


class Engine:
    """A running engine. What is built and started in it ends with it."""

    def __init__(self, directory: Path) -> None:
        self._socket = directory / "socket"
        self._log = directory / "dockerd.log"
        self._options = (
            *("--iptables=false", "--bridge=none", "--storage-driver=vfs"),
            f"--data-root={directory / 'data'}",
            f"--exec-root={directory / 'exec'}",
            f"--pidfile={directory / 'pid'}",
            f"--host=unix://{self._socket}",
        )

    @contextmanager
    def running(self) -> Iterator["Engine"]:
        """Run it for the length of the block."""
        namespaces = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                (*namespaces, "tini", "--", "sh", "-c", _START, "dockerd", *self._options),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until(lambda: process.poll() is not None or self._answers(), "an engine")
            if process.poll() is not None:
                pytest.fail(f"No engine can run here:\n{self._log.read_text()}", pytrace=False)
            yield self
        finally:
            # To the group: unshare alone would leave the others a moment to live.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def docker(self, *arguments: str) -> str:
        """What `docker` prints."""
        return run("docker", *arguments, environment=self.environment)

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of commands that mean this engine. BuildKit is a package of its own."""
        variables = ("PATH", "HOME", "TMPDIR")
        ours = {name: os.environ[name] for name in variables if name in os.environ}
        builder = {"DOCKER_BUILDKIT": "0", "COMPOSE_DOCKER_CLI_BUILD": "0"}
        return {**ours, **builder, "DOCKER_HOST": f"unix://{self._socket}"}

    def image_bytes(self, image: str) -> int:
        """The size of an image, all its layers together."""
        return int(self.docker("image", "inspect", "--format", "{{.Size}}", image))

    def _answers(self) -> bool:
        asked = subprocess.run(
            ("docker", "version"), env=self.environment, capture_output=True, check=False
        )
        return asked.returncode == 0


def run(
    *command: str, environment: Mapping[str, str] | None = None, directory: Path | None = None
) -> str:
    """Run a program to its end; what it prints."""
    done = subprocess.run(
        command,
        env=environment,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


# --- the base image -------------------------------------------------------------------------------


@contextmanager
def base_image(engine: Engine, loopback: str) -> Iterator[str]:
    """Import the image that the Dockerfile builds on, made from Debian's packages; its name.

    Within the block its pip installs from a server of ours what pip of this machine has downloaded:
    however that is configured, no build needs to know.
    """
    name = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1]
    parts = re.fullmatch(r"python:(\d+\.\d+)\S*-(\w+)", name)
    assert parts, name
    python, release = parts.groups()
    with TemporaryDirectory() as directory:
        packages = Path(directory, "packages")
        _download_packages(packages, python)
        archive = Path(os.environ.get(CACHE) or directory, f"{release}.tar")
        if not archive.exists():
            _make_root(archive, release)
        with _served(packages, loopback) as address:
            variables = f"ENV PIP_NO_INDEX=1 PIP_FIND_LINKS={address}"
            engine.docker("import", "--change", variables, str(archive), name)
            yield name


def _download_packages(directory: Path, python: str) -> None:
    """The wheels of what the worker needs, and of what builds it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = (*project["project"]["dependencies"], *project["build-system"]["requires"])
    options = (f"--python-version={python}", "--only-binary=:all:", f"--dest={directory}")
    pip = (sys.executable, "-m", "pip", "download", "--quiet")
    run(*pip, *options, f"--constraint={ROOT / 'constraints.txt'}", *wanted)


def _make_root(archive: Path, release: str) -> None:
    """Debian with its own Python; complete, or not there."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as directory:
        root = Path(directory, "root")
        packages = "--include=python3,python3-venv,ca-certificates"
        run("debootstrap", "--variant=minbase", packages, release, str(root))
        (root / "etc/dpkg/dpkg.cfg.d/container").write_text(_DPKG)
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        for unneeded in (
            *("var/cache/apt", "var/lib/apt/lists", "var/log"),
            *("usr/share/doc", "usr/share/man", "usr/share/locale"),
        ):
            shutil.rmtree(root / unneeded)
            (root / unneeded).mkdir()
        draft = archive.with_suffix(f".{os.getpid()}")
        run("tar", "--directory", str(root), "--create", "--file", str(draft), ".")
        draft.replace(archive)


@contextmanager
def _served(directory: Path, loopback: str) -> Iterator[str]:
    """Serve files within the block; the address."""
    handler = partial(_Quiet, directory=str(directory))
    with ThreadingHTTPServer((loopback, 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{loopback}:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
