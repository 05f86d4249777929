"""What the login of an agent on another machine may do on the NATS server."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.remote_work import ANSWER_PREFIX, ANSWER_STREAM, WORK_PREFIX, WORK_STREAM


@dataclass(frozen=True)
class Access:
    """Subjects of one agent: all that its host needs on the server, and nothing else.

    It has no right to make a consumer, or to read a stream by anything but these: the server sends
    what it answers to any subject that the question names.
    """

    agent: str

    @property
    def items(self) -> str:
        """Asks for the next work item; answered more than once."""
        return f"$JS.API.CONSUMER.MSG.NEXT.{WORK_STREAM}.{self.agent}"

    @property
    def others(self) -> tuple[str, ...]:
        """Publishes deliverables, acknowledges items, reads their files and its own claims."""
        direct = "$JS.API.DIRECT.GET"
        return (
            f"{ANSWER_PREFIX}.{self.agent}.>",
            f"$JS.ACK.{WORK_STREAM}.{self.agent}.>",
            f"{direct}.{WORK_STREAM}.{WORK_PREFIX}.{self.agent}.files.>",
            f"{direct}.{ANSWER_STREAM}.{ANSWER_PREFIX}.{self.agent}.claims.>",
        )


def server_accounts(agents: Sequence[str]) -> str:
    """The `accounts` of a NATS server's configuration: ours, and one for each of these agents.

    Every agent has an account of its own. Within one account, a program that may ask JetStream
    anything can let the answer be sent to any subject, and so into our streams; between accounts
    only what is exported passes. Passwords are variables of the server's environment.
    """
    accesses = [Access(agent) for agent in agents]
    lines = [
        "# Written by `starter.py agent-access`. Passwords are variables of the server's own",
        "# environment. It takes the place of `authorization`.",
        "accounts {",
        "  AGOG {",
        "    jetstream: enabled",
        "    users: [ { user: $NATS_USER, password: $NATS_PASSWORD } ]",
        "    exports: [",
        *(f"      {export}" for access in accesses for export in _exports(access)),
        "    ]",
        "  }",
        *(line for access in accesses for line in _account(access)),
        "}",
    ]
    return "\n".join((*lines, ""))


def password_variable(agent: str) -> str:
    """The variable of the server's environment that holds the password of the agent's host."""
    return f"AGOG_AGENT_{agent.upper().replace('-', '_')}_PASSWORD"


def _exports(access: Access) -> tuple[str, ...]:
    accounts = f"accounts: [{_account_name(access.agent)}]"
    return (
        f"{{ service: {_quoted(access.items)}, response_type: stream, {accounts} }}",
        *(f"{{ service: {_quoted(subject)}, {accounts} }}" for subject in access.others),
    )


def _account(access: Access) -> tuple[str, ...]:
    subjects = (access.items, *access.others)
    allowed = ", ".join(map(_quoted, subjects))
    imports = (
        f"      {{ service: {{ account: AGOG, subject: {_quoted(subject)} }} }}"
        for subject in subjects
    )
    return (
        f"  {_account_name(access.agent)} {{",
        "    users: [",
        f"      {{ user: {_quoted(access.agent)}, password: ${password_variable(access.agent)},",
        "        permissions: {",
        f"          publish: {{ allow: [{allowed}] }}",
        '          subscribe: { allow: ["_INBOX.>"] }',
        "        } }",
        "    ]",
        "    imports: [",
        *imports,
        "    ]",
        "  }",
    )


def _account_name(agent: str) -> str:
    return f"agent-{agent}"


def _quoted(text: str) -> str:
    return json.dumps(text)
