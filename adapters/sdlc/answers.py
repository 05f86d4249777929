"""What was said to a requirement that stood still: numbered, so that a repeat is recognised."""

from sqlalchemy import Update, select, update

from adapters.sdlc.writing import RequirementWrite
from adapters.sdlc_tables import EscalationRow, NoteRow


async def is_recorded(write: RequirementWrite, answer: int) -> bool:
    """Whether the answer of that number has been written before."""
    key = (NoteRow.number == write.number) & (NoteRow.answer == answer)
    return (await write.connection.execute(select(NoteRow.answer).where(key))).scalar() is not None


def note(
    write: RequirementWrite, answer: int, kind: str, stages: tuple[str, ...], who: str, why: str
) -> None:
    """Write the answer down, and the stages that it sets going again."""
    write.insert(
        NoteRow,
        answer=answer,
        round=write.row["round"],
        kind=kind,
        stages=list(stages),
        who=who,
        why=why,
        at=write.at,
    )


def close_escalations(write: RequirementWrite, answer: str, who: str, why: str) -> Update:
    """Open questions to a human are answered, or nobody asks them any more."""
    mine = (EscalationRow.number == write.number) & EscalationRow.answered_at.is_(None)
    return (
        update(EscalationRow)
        .where(mine)
        .values(answered_at=write.at, answer=answer, who=who, note=why)
    )
