"""What the orchestrator's commits say."""

from pipeline.model import StageRequest

SUBJECT_LENGTH = 72
BODY_LENGTH = 4000


def stage_message(request: StageRequest, summary: str) -> str:
    """A stage's work in the agent's words: subject, the whole summary if longer, trailers."""
    lines = _clean(summary).splitlines()
    subject = f"{request.stage.name}: {lines[0] if lines else 'changes'}"
    is_told = len(lines) <= 1 and len(subject) <= SUBJECT_LENGTH
    body = "" if is_told else "\n".join(lines)[:BODY_LENGTH].strip() + "\n\n"
    return f"{_cut(subject)}\n\n{body}{_trailers(request)}"


def merge_message(request: StageRequest) -> str:
    """The merge of a stage into the integration branch."""
    subject = f"Merge {request.stage.name} into {request.ref.number}"
    return f"{_cut(subject)}\n\n{_trailers(request)}"


def _trailers(request: StageRequest) -> str:
    agent = request.stage.agent
    return (
        f"Co-authored-by: {agent.capitalize()} <{agent}@agents.agog.invalid>\n"
        f"Agog-Run: {request.run_id}\n"
    )


def _clean(text: str) -> str:
    """Without control characters, which git refuses (NUL) or a terminal obeys."""
    return "".join(mark for mark in text if mark == "\n" or mark.isprintable()).strip()


def _cut(subject: str) -> str:
    return subject if len(subject) <= SUBJECT_LENGTH else subject[: SUBJECT_LENGTH - 1] + "…"
