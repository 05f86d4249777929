"""A service for pull requests, on files, as the command of `[delivery]`. Standard library only.

`forge.py DIRECTORY create TITLE BODY_FILE BRANCH TARGET` makes one and prints its address,
`forge.py DIRECTORY find BRANCH` prints the address of one that is there. What a test steers:
`refuses` holds the words of a refusal, and with `held` a request is made before the command hangs.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

REQUESTS, CALLS = "requests", "calls"


def main(directory: Path, what: str, *arguments: str) -> int:
    _add(directory / CALLS, {"what": what, "pid": os.getpid(), "secret": os.environ.get("TOKEN")})
    sys.stderr.write(f"forge: {what}\n")
    if what == "find":
        (branch,) = arguments
        for request in requests(directory):
            if request["branch"] == branch:
                sys.stdout.write(f"{request['url']}\n")
        return 0
    refuses = directory / "refuses"
    if refuses.exists():
        sys.stderr.write(refuses.read_text())
        return 1
    title, body, branch, target = arguments
    url = f"http://forge.invalid/pull/{len(requests(directory)) + 1}"
    fields = {"url": url, "title": title, "branch": branch, "target": target}
    _add(directory / REQUESTS, {**fields, "body": Path(body).read_text(encoding="utf-8")})
    while (directory / "held").exists():
        time.sleep(0.02)
    sys.stdout.write(f"Creating …\n{url}\n")
    return 0


def requests(directory: Path) -> list[dict[str, Any]]:
    return _lines(directory / REQUESTS)


def calls(directory: Path) -> list[str]:
    return [str(call["what"]) for call in _lines(directory / CALLS)]


def settings(directory: Path, *, finds: bool = True) -> str:
    """The table `[delivery]` that leads here."""
    start = [sys.executable, str(Path(__file__)), str(directory)]
    create = [*start, "create", "{title}", "{body_file}", "{branch}", "{target}"]
    lines = ["[delivery]", 'mode = "pull-request"', f"command = {json.dumps(create)}"]
    if finds:
        lines.append(f"find = {json.dumps([*start, 'find', '{branch}'])}")
    return "\n".join(lines)


def _lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


def _add(path: Path, fields: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{json.dumps(fields)}\n")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
