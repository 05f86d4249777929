"""Drawn repositories, deeds of agents and kills: what must hold whatever comes together.

What is delivered is what a fresh clone shows and what was built; everything that an agent wrote is
in the delivered tree, in a kept ref, or named where its stage is red or told of; and the user's
checkout differs by the fast-forward alone.
"""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from adapters.git import Git, GitWorkspaces
from adapters.git.clone import CheckedOut, Clone, checked_out
from adapters.git.command import GitOutput
from adapters.git.prepared_files import note_prepared
from adapters.locks import Locks
from pipeline.model import Head, MergeResult
from tests.deeds import DEEDS, FEATURES, PREPARE, WAYS
from tests.fixtures_workspaces import NUMBER, GitProject, stage_request, store_of

T = TypeVar("T")


LAST = ("worktree of the user", "sparse checkout", "strange settings", "hooks")
"""Features that disturb whoever makes the next one, in an order in which they can be made."""


class Killed(BaseException):
    """The worker ended here."""


@dataclass(frozen=True)
class Scenario:
    """What is drawn: the repository, what two agents do, and at which git command we are killed."""

    way: str
    features: frozenset[str]
    deeds: tuple[tuple[str, ...], tuple[str, ...]]
    kills: tuple[int, ...]
    is_prepared: bool = False


SCENARIOS = st.builds(
    Scenario,
    st.sampled_from(sorted(WAYS)),
    st.frozensets(st.sampled_from(sorted(FEATURES)), max_size=4),
    st.tuples(*[st.lists(st.sampled_from(sorted(DEEDS)), min_size=1, max_size=3).map(tuple)] * 2),
    st.lists(st.integers(1, 60), max_size=3).map(tuple),
    st.booleans(),
)


@dataclass
class Stage:
    """One agent's part: what it wrote, and what became of it."""

    deeds: tuple[str, ...]
    tokens: dict[str, str] = field(default_factory=dict)
    result: MergeResult | None = None


class Trial:
    """One scenario in a directory of its own."""

    def __init__(self, root: Path, scenario: Scenario) -> None:
        self.root = root
        self.home = root / "home"
        self.scenario = scenario
        self.project = GitProject(root / "project").init()
        self._kills = list(scenario.kills)
        self._calls = 0
        files = {"readme.md": "r\n", "shared.txt": "one\n", "docs/a.txt": "a\n"}
        self.project.commit({**files, ".gitignore": "node_modules/\n.env\n"})
        self.project.commit({"backend/app.py": "print()\n"})
        self._shell(WAYS[scenario.way], self.project.root, check=True)
        names = sorted(scenario.features - {*LAST})
        for feature in [*names, *(name for name in LAST if name in scenario.features)]:
            self._shell(FEATURES[feature], self.project.root, check=True)

    def _shell(self, script: str, place: Path, token: str = "", *, check: bool = False) -> bool:
        who = {f"GIT_{role}_{part}": "user" for role in ("AUTHOR", "COMMITTER")
               for part in ("NAME", "EMAIL")}  # fmt: skip
        ended = subprocess.run(
            ("sh", "-c", script),
            cwd=place,
            env={**os.environ, **who, "HOME": str(self.root), "T": token},
            capture_output=True,
            check=check,
        )
        return ended.returncode == 0

    async def run(self) -> None:
        """Two stages from one commit, then builds and the delivery; and all that must hold."""
        before = self._seen()
        head, target = await self._step(lambda w: w.open(NUMBER))
        stages = [Stage(deeds) for deeds in self.scenario.deeds]
        for n, stage in enumerate(stages):
            request = stage_request(head, f"Part {n}", agent=("roy", "jen")[n])
            place = Path(await self._step(lambda w, r=request: w.prepare(r)))  # type: ignore[misc]
            if self.scenario.is_prepared:
                self._shell(PREPARE, place)
                made, clone = self._made(place)
                await note_prepared(clone, made.commit, (("npm", "ci"),))
            self._do(stage, place, n)
            stage.result = await self._step(
                lambda w, r=request: w.integrate(r, "done")  # type: ignore[misc]
            )
        assert self._seen() == before, "the user's repository has changed before the delivery"
        tip = await self._step(lambda w: w.head(NUMBER))
        build = await self._step(
            lambda w: w.checkout_build(NUMBER, "backend", tip.commit, clean=True)
        )
        built = _texts(Path(build))
        await self._deliver(target, tip, before, built)
        self._check_nothing_lost(stages, tip)
        await self._step(lambda w: w.release(NUMBER))
        assert not (self.home / "clones" / NUMBER).exists()

    def _made(self, place: Path) -> tuple[CheckedOut, Clone]:
        found = checked_out(self.home.resolve(), place, Locks(self.home / "locks"))
        assert found
        return found

    async def _step(self, step: Callable[[GitWorkspaces], Awaitable[T]]) -> T:
        """Do it, as often as the worker is killed meanwhile, each time by another worker."""
        while True:
            try:
                with patch.object(Git, "_once", self._counted(Git._once)):
                    return await step(GitWorkspaces(self.project.root, self.home))
            except Killed:
                continue

    def _counted(
        self, once: Callable[..., Awaitable[GitOutput]]
    ) -> Callable[..., Awaitable[GitOutput]]:
        async def counted(git: Git, *arguments: object) -> GitOutput:
            self._calls += 1
            if self._kills and self._calls >= self._kills[0]:
                self._kills.pop(0)
                self._calls = 0
                raise Killed
            return await once(git, *arguments)

        return counted

    def _do(self, stage: Stage, place: Path, n: int) -> None:
        config = (place / ".git" / "config").read_bytes()
        for m, deed in enumerate(stage.deeds):
            token = f"tok{n}{m}x"
            needs_submodule = "the submodule" in deed
            if needs_submodule and not (place / "vendor").is_dir():
                continue
            done = self._shell(DEEDS[deed], place, token)
            # An earlier deed may have broken git: then this one has written its token, or not.
            if done or token.encode() in _all_texts(place):
                stage.tokens[token] = deed
        there = _all_texts(place) + _all_agent_objects(place, config)
        # What an agent itself has overwritten since, or thrown away for good, is not ours to keep.
        stage.tokens = {t: deed for t, deed in stage.tokens.items() if t.encode() in there}

    async def _deliver(
        self, target: str, tip: Head, before: object, built: dict[str, bytes]
    ) -> None:
        assert await self._step(lambda w: w.swap_target(NUMBER, target, tip.commit))
        assert self.project.git("rev-parse", target) == tip.commit
        assert self.project.git("status", "--porcelain", "--untracked-files=no",
                                "--ignore-submodules") == ""  # fmt: skip
        after, was = self._seen(), before
        assert isinstance(was, dict)
        assert {k: v for k, v in after.items() if k != "main"} == {
            k: v for k, v in was.items() if k != "main"
        }
        fresh = GitProject(self.root / "fresh")
        self.project.git("-c", "core.hooksPath=/dev/null", "clone", "--quiet", "--no-local",
                         str(self.project.root), str(fresh.root), at=self.root)  # fmt: skip
        cloned = _texts(fresh.root)
        ours = {k: v for k, v in built.items() if not k.startswith("vendor/")}
        assert {k: v for k, v in cloned.items() if not k.startswith("vendor/")} == ours
        assert fresh.git("fsck", "--no-dangling") == ""
        markers = [k for k, v in cloned.items() if v.startswith(b"<<<<<<<") or b"\n<<<<<<<" in v]
        assert not markers, f"conflict markers were delivered in {markers}"

    def _seen(self) -> dict[str, object]:
        """What a delivery alone may change of the user's repository, and only its `main`."""
        git = self.project.git
        lines = git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
        refs = dict(line.split(" ") for line in lines)
        refs = {name: tip for name, tip in refs.items() if not name.startswith("refs/agog/")}
        return {
            "main": refs.pop("refs/heads/main"),
            "refs": refs,
            "config": self.project.git("config", "--local", "--list"),
            "untracked": self.project.git(
                "ls-files", "--others", "--ignored", "--exclude-standard"
            ),
            "env": _read(self.project.root / ".env"),
        }

    def _check_nothing_lost(self, stages: list[Stage], tip: Head) -> None:
        """Each token is in a tree that a ref of ours holds, or its deed is told by name."""
        store = store_of(self.project, self.home)
        places = [store, *(GitProject(p) for p in (store.root / "modules").glob("*"))]
        kept = b"".join(_all_objects(place) for place in places)
        for stage in stages:
            assert stage.result is not None
            told = f"{stage.result.refusal}\n{' '.join(stage.result.remarks)}"
            for token, deed in stage.tokens.items():
                is_ignored = _is_told(deed, told)
                assert token.encode() in kept or is_ignored, f"lost: {deed} ({told})"
            if stage.result.refusal or stage.result.conflicts:
                continue
            merged = _all_objects(store, tip.commit)
            elsewhere = "back" in " ".join(stage.deeds) or "stash" in " ".join(stage.deeds)
            for token, deed in stage.tokens.items():
                is_told = "elsewhere" in told or "elsewhere" in deed or elsewhere
                is_ignored = _is_told(deed, told)
                is_apart = is_ignored or "the submodule" in deed
                assert token.encode() in merged or is_told or is_apart, f"not delivered: {deed}"


def _is_told(deed: str, told: str) -> bool:
    """Whether what the project ignores was named."""
    is_ignored = "ignored file" in deed or deed == "writes among packages"
    return is_ignored and "node_modules/" in told


def _texts(root: Path) -> dict[str, bytes]:
    found = {}
    for folder, _, names in os.walk(bytes(root)):
        for name in names:
            path = os.path.join(folder, name)
            key = os.path.relpath(path, bytes(root)).decode("utf-8", "surrogateescape")
            if key == ".git" or key.startswith(".git/"):
                continue
            if os.path.islink(path):
                found[key] = os.readlink(path)
            elif os.path.isfile(path):
                with suppress(PermissionError), open(path, "rb") as file:
                    found[key] = file.read()
    return found


def _all_texts(root: Path) -> bytes:
    return b"\n".join(_texts(root).values())


def _all_agent_objects(place: Path, config: bytes) -> bytes:
    """Every object that the agent's repositories hold by a ref, a reflog or an index.

    `config` is from before its deeds: with it the agent's repository is read once more, since one
    whose configuration it broke still holds its work.
    """
    everything = ("--all", "--reflog", "--indexed-objects")
    found = [_all_objects(GitProject(p.parent), *everything) for p in place.rglob(".git")]
    with tempfile.TemporaryDirectory() as scratch:
        if (place / ".git").is_dir():
            copy = shutil.copytree(place / ".git", Path(scratch, ".git"), symlinks=True)
            (copy / "config").write_bytes(config)
            found.append(_all_objects(GitProject(copy.parent), *everything))
    return b"".join(found)


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _all_objects(place: GitProject, *revisions: str) -> bytes:
    """Every object that those revisions, or all refs, hold: contents, and names in trees."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "out")
        what = " ".join(revisions) or "--all"
        place.shell(
            f"git rev-list --objects {what} > '{out}.names';"
            f" git rev-list --objects --no-object-names {what} |"
            f" git cat-file --batch > '{out}'; cat '{out}.names' >> '{out}'"
        )
        return out.read_bytes()


def play(scenario: Scenario) -> None:
    root = Path(tempfile.mkdtemp(prefix="any-repository-"))
    try:
        asyncio.run(Trial(root, scenario).run())
    finally:
        shutil.rmtree(root, ignore_errors=True)


CHECKS = settings(
    phases=[Phase.generate],  # an example takes seconds: it is printed as it was drawn
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


@given(SCENARIOS)
@settings(CHECKS, max_examples=12)
def test_whatever_agents_do_nothing_is_lost_and_what_is_delivered_was_built(
    scenario: Scenario,
) -> None:
    play(scenario)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@given(SCENARIOS)
@settings(CHECKS, max_examples=400, derandomize=False)
def test_whatever_agents_do_nothing_is_lost_at_length(scenario: Scenario) -> None:
    play(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("deed", sorted(DEEDS))
@pytest.mark.parametrize("feature", ["", "submodule"])
def test_each_deed_by_itself(deed: str, feature: str) -> None:
    features = frozenset({feature} if feature else ())
    play(Scenario("made here", features, ((deed,), ("writes a file",)), ()))


@pytest.mark.slow
@pytest.mark.ordinary_user
@pytest.mark.parametrize("deed", [deed for deed in sorted(DEEDS) if deed.startswith("closes")])
def test_each_deed_that_closes_nothing_to_root(deed: str) -> None:
    play(Scenario("made here", frozenset(), ((deed,), ("writes a file",)), ()))


@pytest.mark.slow
@pytest.mark.parametrize("way", sorted(WAYS))
@pytest.mark.parametrize("feature", sorted(FEATURES))
def test_each_way_with_each_feature(way: str, feature: str) -> None:
    deeds = ("edits a tracked file", "commits"), ("writes below a new folder",)
    play(Scenario(way, frozenset({feature}), deeds, ()))
