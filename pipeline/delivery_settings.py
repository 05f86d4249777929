"""How finished work is handed over: the table `[delivery]` of the agents file.

It stands there and not in a pipeline: it names programs of this host, and a running requirement,
which keeps the pipeline that it was started with, must take an edit that mends them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import PurePath

from pipeline.numbers import slug
from pipeline.toml_table import Table, resolved


class DeliveryMode(StrEnum):
    """What a delivery changes: the target, or a branch of its own, with a request to merge it."""

    FAST_FORWARD = "fast-forward"
    BRANCH = "branch"
    PULL_REQUEST = "pull-request"


CREATE = (
    *("gh", "pr", "create", "--title", "{title}", "--body-file", "{body_file}"),
    *("--head", "{branch}", "--base", "{target}"),
)
FIND = (
    *("gh", "pr", "list", "--head", "{branch}", "--base", "{target}", "--state", "open"),
    *("--json", "url", "--jq", ".[].url"),
)
"""It prints the open pull request of the branch, or nothing."""
GH_VARIABLES = (
    *("GH_TOKEN", "GITHUB_TOKEN", "GH_HOST", "GH_ENTERPRISE_TOKEN", "GH_CONFIG_DIR"),
    *("XDG_CONFIG_HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("http_proxy", "https_proxy", "no_proxy"),
)
"""Its login and its way to the service (`gh help environment`)."""

COMMAND_TIMEOUT = timedelta(seconds=120)
SECONDS_LIMIT = 600
"""Nobody else delivers to that branch meanwhile, and `cancel` may have to wait for it."""
BRANCH_LENGTH = 60
"""Of what follows the number in the name of a branch."""

_KEYS = (
    *("mode", "remote", "command", "find", "environment", "timeout_seconds"),
    *("merge_commit", "author"),
)
_AUTHOR = re.compile(r"([^<>]*\w[^<>]*?) <([^<>\s]+)>")
_FIELD = re.compile(r"\{(title|body_file|branch|target|number|remote)\}")


@dataclass(frozen=True)
class DeliverySettings:
    """How this host delivers. `remote` is empty for the one that the target is pushed to.

    `command` makes a pull request; `find`, if it is not empty, prints one that is there already.
    """

    mode: DeliveryMode = DeliveryMode.FAST_FORWARD
    remote: str = ""
    command: tuple[str, ...] = CREATE
    find: tuple[str, ...] = FIND
    environment: tuple[str, ...] = GH_VARIABLES
    timeout: timedelta = COMMAND_TIMEOUT
    merge_commit: bool = False
    """Whether the target gets one merge commit for the requirement, and not its bare commits."""
    author: tuple[str, str] | None = None
    """Name and address of who commits; None for the repository's own identity."""


def read_delivery(table: Table, directory: PurePath) -> DeliverySettings:
    """The settings of a table; a relative program starts from `directory`."""
    table.allow(_KEYS)
    mode = table.string("mode", DeliveryMode.FAST_FORWARD)
    if mode not in list(DeliveryMode):
        table.refuse("mode", f"unknown mode {mode!r}; known are {', '.join(DeliveryMode)}")
    merge_commit = table.boolean("merge_commit", default=False)
    if merge_commit and mode != DeliveryMode.FAST_FORWARD:
        table.refuse("merge_commit", f"is for mode fast-forward: with {mode} no target is moved")
    remote = table.string("remote") if "remote" in table.values else ""
    if remote.startswith("-"):
        table.refuse("remote", f"{remote!r} is not the name of a remote")
    is_own = "command" in table.values
    create = table.program("command", CREATE)
    # Another program's requests are not found by ours.
    find = table.program("find") if "find" in table.values else () if is_own else FIND
    return DeliverySettings(
        DeliveryMode(mode),
        remote,
        resolved(create, directory),
        resolved(find, directory) if find else (),
        table.variables("environment", () if is_own else GH_VARIABLES),
        timedelta(
            seconds=table.number(
                "timeout_seconds", COMMAND_TIMEOUT.total_seconds(), most=SECONDS_LIMIT
            )
        ),
        merge_commit,
        _author(table),
    )


def _author(table: Table) -> tuple[str, str] | None:
    if "author" not in table.values:
        return None
    said = table.string("author")
    found = _AUTHOR.fullmatch(said)
    if not found or not said.isprintable():
        table.refuse("author", f"{said[:80]!r} is not of the form Name <address>")
    return found[1], found[2]


def delivery_branch(number: str, title: str) -> str:
    """The branch of a delivered requirement: `agog/REQ-103-greet-in-french`."""
    words = slug(title)[:BRANCH_LENGTH].strip("-")
    return f"agog/{'-'.join(filter(None, (number, words)))}"


def filled(argv: tuple[str, ...], values: Mapping[str, str]) -> tuple[str, ...]:
    """The command with its fields filled in; what is filled in is read as it stands."""
    return tuple(_FIELD.sub(lambda found: values[found[1]], part) for part in argv)
