"""`events`: the events that JetStream holds, and those that follow. Needs NATS alone."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from adapters.nats import events as nats_events
from adapters.nats.events import NatsEventPublisher
from cli import output
from cli.running import ExitCode, load_settings, run
from pipeline.errors import RefusedInput
from settings import Settings

EXAMPLES = {
    "events": """
Examples:

  python starter.py events REQ-101

  python starter.py events --follow --since 30m --json
"""
}

_AGE = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_ENVELOPE = ("eventType", "reqNumber", "timestamp", "eventId")


def events(
    req: Annotated[str | None, typer.Argument(help="Only this requirement's.")] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Continue with new events.")
    ] = False,
    since: Annotated[
        str | None, typer.Option("--since", help="An age like 30m, 2h, 7d, or an ISO time.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Print the orchestration events in order, oldest first."""
    start = since_time(since, datetime.now(UTC)) if since else None
    try:
        run(_events(load_settings(), req, start, follow=follow, as_json=as_json))
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def since_time(text: str, now: datetime) -> datetime:
    """The time that an age or an ISO time stands for. Raises: RefusedInput."""
    try:
        if age := _AGE.fullmatch(text):
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise RefusedInput(
            f"{text[:40]!r} is not a time: give an age like 30m, 2h or 7d,"
            " or a time like 2026-01-31T12:00Z."
        ) from error


async def events_client(settings: Settings) -> NatsEventPublisher:
    """A connection to NATS, for the caller to close. Raises: DependencyUnavailable."""
    password = settings.nats_password
    return await nats_events.connect(
        settings.nats_url, settings.nats_user, password.get_secret_value() if password else None
    )


async def _events(
    settings: Settings, number: str | None, since: datetime | None, *, follow: bool, as_json: bool
) -> None:
    client = await events_client(settings)
    try:
        async for event in client.events(since=since, follow=follow):
            if number not in (None, event["reqNumber"]):
                continue
            if as_json:
                output.write_json_line(event)
            else:
                output.write(_line(event))
    finally:
        await client.close()


def _line(event: Mapping[str, object]) -> str:
    at = output.clock(datetime.fromisoformat(str(event["timestamp"])))
    fields = " ".join(
        f"{name}={value}"
        for name, value in event.items()
        if name not in _ENVELOPE and value not in ("", None)
    )
    return output.plain(f"{at} {event['reqNumber']} {event['eventType']} {fields}").rstrip()
