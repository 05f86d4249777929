"""The shape of a JetStream stream: what it must be, what is amiss with it, how it is repaired."""

from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, BadRequestError, NotFoundError, ServerError

from pipeline.errors import NotRepairable
from pipeline.events import RETENTION, Stream

_NAME_IN_USE = 10058
"""JetStream's code for a stream that exists with another configuration."""
_NOT_UPDATABLE = 10052
"""JetStream's code for a configuration that an existing stream cannot get."""

_SHAPE = (
    "storage",
    "retention",
    "discard",
    "discard_new_per_subject",
    "max_msgs",
    "max_msgs_per_subject",
    "max_bytes",
    "max_msg_size",
    "max_age",
    "duplicate_window",
    "no_ack",
    "sealed",
)
"""What decides, beside the subjects, whether an event is kept, and a repeat of it dropped."""


def configuration(stream: Stream) -> StreamConfig:
    """What the stream must be (design, section 6, "Subjects")."""
    seconds = RETENTION.total_seconds()
    return StreamConfig(
        name=stream.name,
        subjects=list(stream.subjects),
        storage=StorageType.FILE,
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        max_msgs=-1,
        max_bytes=-1,
        max_age=seconds,
        duplicate_window=seconds,
    )


async def find_flaw(jetstream: JetStreamContext, stream: Stream) -> str:
    """What is amiss with the stream on that server, in a phrase; nothing if it is as it must be."""
    try:
        found = (await jetstream.stream_info(stream.name)).config
    except NotFoundError:
        return "is missing"
    wanted = configuration(stream)
    flaws = [
        f"has {name} {_plain(getattr(found, name))} instead of {_plain(getattr(wanted, name))}"
        for name in _SHAPE
        if getattr(found, name) != getattr(wanted, name)
    ]
    if sorted(found.subjects or ()) != sorted(stream.subjects):
        flaws.append("takes other subjects")
    return ", ".join(flaws)


async def ensure_stream(jetstream: JetStreamContext, stream: Stream) -> None:
    """Create the stream, or bring it to what it must be. Raises: NotRepairable."""
    config = configuration(stream)
    try:
        await jetstream.add_stream(config)
    except BadRequestError as error:
        if error.err_code != _NAME_IN_USE:
            raise _refusal(stream, "cannot be created", error) from error
        await _update(jetstream, stream, config)


async def _update(jetstream: JetStreamContext, stream: Stream, config: StreamConfig) -> None:
    try:
        await jetstream.update_stream(config)
    except (BadRequestError, ServerError) as error:
        if error.err_code != _NOT_UPDATABLE:
            raise
        flaw = await find_flaw(jetstream, stream)
        raise _refusal(stream, f"{flaw}, and cannot be changed", error) from error


def _refusal(stream: Stream, problem: str, error: APIError) -> NotRepairable:
    return NotRepairable(
        f"Stream {stream.name} {problem}: NATS says {error.description!r}. Copy what it holds and"
        " remove what is in the way (`nats stream ls`); it is then created anew."
    )


def _plain(value: object) -> str:
    return str(getattr(value, "value", value))
