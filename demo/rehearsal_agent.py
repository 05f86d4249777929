"""The agent of a rehearsal: writes a file that no build looks at, and prints its notice.

Standard library only: it runs as a program of its own, in its clone.
"""

import json
import os
from pathlib import Path

DIRECTORY = "agog-rehearsal"


def main() -> None:
    """Work as the agent that the environment names."""
    agent = os.environ["AGOG_AGENT"]
    file = Path(DIRECTORY, f"{agent}.txt")
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{agent} was here.\n", encoding="utf-8")
    notice = {
        "agent": agent,
        "req_number": os.environ["AGOG_REQUIREMENT"],
        "status": "COMPLETE",
        "summary": f"Wrote {file}",
        "changes": {},
        "deliverable": str(file),
    }
    print(f"```json\n{json.dumps(notice, indent=2)}\n```")


if __name__ == "__main__":
    main()
