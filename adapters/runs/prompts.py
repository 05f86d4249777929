"""What an agent of this host is told, and the documents that are laid beside it to read.

The templates lie in `prompts/`; what others lay over them comes from the agents file, and from the
project as the commit holds it that the stage starts at.
"""

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.agent_programs import PROGRAMS
from adapters.agent_programs.program import AgentProgram
from adapters.files import make_private_directory
from adapters.git import GitWorkspaces
from adapters.git.agent_files import remove_tree
from adapters.runs.directory import RECORDS, RunDirectory
from adapters.runs.handover import hand_log, hand_over
from adapters.user_files import read_text
from pipeline.agent_programs import ProgramAgent
from pipeline.agents_file import BuildCommand, CommandAgent, CurrentAgents, SimulatedAgent
from pipeline.handover import Document, Handover, safe_name
from pipeline.model import HandingRun, StageContext, StageRequest
from pipeline.numbers import slug
from pipeline.prompt import (
    NOTICE_LIMIT,
    Place,
    ProjectText,
    Prompt,
    Templates,
    result_text,
    stage_prompt,
)

TEMPLATE_BYTES = 256 * 1024
INSTRUCTIONS_BYTES = 64 * 1024
"""Of a file that is laid over a prompt: it stands in the prompt whole."""

PROJECT_PROMPTS = ".agog/prompts"
"""Folder of a project with what it asks of single agents, each in a file of its name."""

_LOGS = "logs"


def read_templates(folder: Path) -> Templates:
    """The templates of a folder. Raises: RefusedInput naming the one that is wrong, and why."""
    return Templates(
        {
            path.stem: read_text(path, "Prompt template", TEMPLATE_BYTES)
            for path in sorted(folder.glob("*.md"))
        }
    )


class HostPrompts:
    """Implements `pipeline.ports.Prompts`."""

    def __init__(
        self,
        templates: Templates,
        agents: CurrentAgents,
        home: Path,
        host: str,
        workspaces: GitWorkspaces | None,
        environment: Mapping[str, str],
    ) -> None:
        """`environment` is the worker's: agents have its `PATH`."""
        self._templates = templates
        self._agents = agents
        self._home = home.absolute()
        self._host = host
        self._workspaces = workspaces
        self._path = environment.get("PATH")

    async def prepare(self, request: StageRequest, context: StageContext, worktree: str) -> Prompt:
        """The prompt, once the documents that it names lie in the agent's directory.

        Repeated, it lays them there again; those of an agent that was started stay as they are.
        Raises: RefusedInput if a file of instructions cannot be read; GitFailed.
        """
        is_simulated = isinstance(self._agents().agent(request.stage.agent), SimulatedAgent)
        writes = not context.started_at and not is_simulated
        return await self._prompt(request, context, worktree, writes=writes)

    async def preview(self, request: StageRequest, context: StageContext) -> Prompt:
        """The prompt as it would be now; nothing is written. Raises: as `prepare`."""
        place = self._workspaces.place(request) if self._workspaces and request.head else ""
        return await self._prompt(request, context, place, writes=False)

    async def _prompt(
        self, request: StageRequest, context: StageContext, worktree: str, *, writes: bool
    ) -> Prompt:
        run = RunDirectory.of(self._home, request.run_id)
        handing = _Handing(self._home, self._host, run, writes)
        handed, logs, results = await asyncio.to_thread(handing.everything, context)
        programs, missing = self._programs(request.stage.agent, context)
        place = Place(
            worktree=worktree,
            outbox=str(run.outbox),
            builds=self._builds(),
            programs=programs,
            missing=missing,
            project=await self._project(request, context),
            instructions=await asyncio.to_thread(self._instructions, request.stage.agent),
            handed=handed,
            logs=logs,
            results=results,
        )
        return stage_prompt(self._templates, request, context, place)

    async def _project(self, request: StageRequest, context: StageContext) -> ProjectText:
        if not (self._workspaces and request.head):
            return ProjectText()
        file = f"{PROJECT_PROMPTS}/{request.stage.agent}.md"
        # A fix begins on its requirement's work: what people approved is older.
        root, commit = context.repairs or request.ref.number, request.head.commit
        return await self._workspaces.text_at(root, commit, file, INSTRUCTIONS_BYTES)

    def _builds(self) -> Mapping[str, BuildCommand]:
        found = self._agents().builds.items()
        return {name: build for name, build in found if isinstance(build, BuildCommand)}

    def _programs(
        self, name: str, context: StageContext
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Programs that the plan's builds call by name, and git: those that are here or not.

        Nothing is known of the host of an agent that works elsewhere.
        """
        agent = self._agents().agent(name)
        if isinstance(agent, ProgramAgent) and agent.is_remote:
            return (), ()
        builds = self._builds()
        named = [builds[name] for name in context.owners if name in builds]
        argvs = [argv for build in named for argv in (build.prepare, build.command) if argv]
        names = dict.fromkeys(argv[0] for argv in argvs if "/" not in argv[0])
        if not names:
            return (), ()
        wanted = dict.fromkeys(("git", *names))
        here = tuple(name for name in wanted if shutil.which(name, path=self._path))
        return here, tuple(name for name in wanted if name not in here)

    def _instructions(self, name: str) -> tuple[str, ...]:
        """What the agents file lays over the prompt. Raises: RefusedInput."""
        agent = self._agents().agent(name)
        if not isinstance(agent, CommandAgent | ProgramAgent):
            return ()
        file = agent.prompt_file
        text = read_text(Path(file), "prompt_file", INSTRUCTIONS_BYTES) if file else ""
        return text, agent.instructions


@dataclass(frozen=True)
class _Handing:
    """Hands the documents of other runs, and logs, to one run. Blocks."""

    home: Path
    host: str
    run: RunDirectory
    writes: bool

    def everything(
        self, context: StageContext
    ) -> tuple[Mapping[str, Handover], Handover, Mapping[str, str]]:
        """The documents by run, the logs, and the results that are too long for a prompt."""
        inbox = self.run.inbox
        if self.writes and inbox.exists():  # of a start that a crash has cut short
            remove_tree(inbox)
        handed = {each.run_id: self._from_run(each) for each in context.handed}
        logs = tuple(self._logs(context))
        results = {}
        for each in context.deliverables:
            told = result_text(each.notice)
            if len(told) > NOTICE_LIMIT:
                path = inbox / f"result-{slug(each.stage)}.md"
                if self.writes:
                    make_private_directory(inbox)
                    path.write_text(told, encoding="utf-8", errors="replace")
                results[each.stage] = str(path)
        return handed, _together(logs), results

    def _from_run(self, source: HandingRun) -> Handover:
        if source.host not in ("", self.host):
            return Handover(remarks=(f"They lie on host {source.host}; this is {self.host}.",))
        run = RunDirectory.of(self.home, source.run_id)
        if not run.path.exists():
            return Handover(remarks=("Its directory is gone, with whatever it has handed on.",))
        number = source.run_id.partition("/")[0]
        is_own = number == self.run.run_id.partition("/")[0]
        folder = run.path.name if is_own else f"{number}-{run.path.name}"
        return hand_over(run.outbox, self.run.inbox / folder, writes=self.writes)

    def _logs(self, context: StageContext) -> Iterator[Handover]:
        names: set[str] = set()
        for log in context.logs:
            name = f"{safe_name(slug(log.gate) or 'failure')}.log"
            while name in names:
                name = f"again-{name}"
            names.add(name)
            target = self.run.inbox / _LOGS / name
            path = Path(log.path)
            program = self._program(path)
            yield hand_log(path, target, log.gate, program, writes=self.writes)

    def _program(self, log: Path) -> AgentProgram | None:
        """The known program that has printed the log; None for any other one."""
        place = self.home / RECORDS
        run = RunDirectory.at(log.parent) if log.is_relative_to(place) else None
        record = run.order() if run else None
        return PROGRAMS.get(record.kind) if record else None


def _together(parts: tuple[Handover, ...]) -> Handover:
    documents: tuple[Document, ...] = sum((part.documents for part in parts), ())
    remarks: tuple[str, ...] = sum((part.remarks for part in parts), ())
    return Handover(documents, remarks)
