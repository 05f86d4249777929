"""How many agents may live at once on this host: configured, set by a human, lowered for a while.

Two files in the state directory, so that neither of two writers undoes what the other one wrote.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adapters.runs.records import write_atomically
from pipeline.errors import RefusedInput

SLOTS, LOWERED = "slots.json", "slots-lowered.json"

MOST_SLOTS = 1_000
"""As many stages as a worker takes at once; see `worker.py`."""


LEAST_LOWERED = 2
"""Nobody lowers a limit below this: one long agent would hold up every other stage."""


@dataclass(frozen=True)
class Lowered:
    """A limit for as long as its reason lasts."""

    to: int
    why: str


class SlotLimit:
    """The limit of one host. Whoever changes it, its worker follows. Every method may block."""

    def __init__(self, home: Path, configured: int) -> None:
        self._home = home
        self.configured = configured
        self._is_closed = False

    def close(self) -> None:
        """Let nobody start any more in this process; who lives goes on."""
        self._is_closed = True

    def current(self) -> int:
        """The limit of this moment: what was set, or else configured, unless lowered.

        Once closed, 0.

        Raises: RefusedInput if a file says something else than a limit.
        """
        if self._is_closed:
            return 0
        wanted, lowered = self.chosen() or self.configured, self.lowered()
        return min(wanted, max(LEAST_LOWERED, lowered.to)) if lowered else wanted

    def chosen(self) -> int | None:
        """What a human has set, if anything. Raises: RefusedInput for a file that says no limit."""
        fields = self._read(SLOTS)
        return None if fields is None else _limit(fields, self._home / SLOTS)

    def lowered(self) -> Lowered | None:
        """The limit of the while, with its reason. Raises: RefusedInput as `chosen`."""
        fields = self._read(LOWERED)
        if fields is None:
            return None
        return Lowered(_limit(fields, self._home / LOWERED), str(fields.get("why", "")))

    def why(self) -> str:
        """Why it is another limit than the configured one; empty if it is not."""
        if self._is_closed:
            return "closed: the worker ends with its servers"
        wanted, lowered = self.chosen() or self.configured, self.lowered()
        if lowered and self.current() < wanted:
            return f"lowered: {lowered.why}"
        return "" if wanted == self.configured else "set by `starter.py slots`"

    def set(self, slots: int) -> None:
        """Let that many agents live at once. Raises: RefusedInput for no number of 1 to 1000."""
        self._write(SLOTS, {"to": check_slots(slots)})

    def reset(self) -> None:
        """Go back to what is configured."""
        (self._home / SLOTS).unlink(missing_ok=True)

    def lower(self, to: int, why: str) -> None:
        """Let no more than that many live, but two at least, until `restore`."""
        self._write(LOWERED, asdict(Lowered(max(LEAST_LOWERED, to), why)))

    def restore(self) -> None:
        """Take the lowered limit away."""
        (self._home / LOWERED).unlink(missing_ok=True)

    def _read(self, name: str) -> Any:
        path = self._home / name
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RefusedInput(f"{path} is not JSON: {error}. Remove it.") from error

    def _write(self, name: str, fields: dict[str, Any]) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        write_atomically(str(self._home / name), json.dumps(fields))


def check_slots(slots: int) -> int:
    """The number, unchanged. Raises: RefusedInput unless it is 1 to 1000."""
    if not 1 <= slots <= MOST_SLOTS:
        raise RefusedInput(f"{slots} slots: 1 to {MOST_SLOTS} agents can live at once.")
    return slots


def _limit(fields: Any, path: Path) -> int:
    limit = fields.get("to") if isinstance(fields, dict) else None
    if type(limit) is not int or not 1 <= limit <= MOST_SLOTS:
        raise RefusedInput(f"{path} says no number of slots, 1 to {MOST_SLOTS}. Remove it.")
    return limit
