"""The only client factory: every process talks to Temporal through it."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
)
from temporalio.envconfig import ClientConfig
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError, RPCStatusCode

from pipeline.errors import DependencyUnavailable

DEFAULT_ADDRESS = "localhost:7233"
CONNECT_SECONDS = 5.0
"""A command refuses within this time (design, section 2, rule 1)."""

REMEDY = "Start it with: python starter.py up"
_UNREACHED = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.RESOURCE_EXHAUSTED,
)

SEARCH_ATTRIBUTES = ("ReqNumber", "Priority", "DeliveryStatus", "WaitingFor")
"""Our search attributes, all keywords: users search for exact values."""


async def connect(address: str | None) -> Client:
    """Connect by Temporal's own settings; `address` is the fallback if they name none.

    Raises: DependencyUnavailable within 5 seconds.
    """
    config = ClientConfig.load_client_connect_config()
    config.setdefault("target_host", address or DEFAULT_ADDRESS)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await Client.connect(**config, data_converter=DATA_CONVERTER)
    except (RuntimeError, TimeoutError, RPCError) as error:
        raise DependencyUnavailable("Temporal", config["target_host"], REMEDY) from error


@contextmanager
def reaching_temporal(client: Client) -> Iterator[None]:
    """Translate the errors of a server that is down into DependencyUnavailable."""
    try:
        yield
    except RPCError as error:
        if error.status not in _UNREACHED:
            raise
        address = client.service_client.config.target_host
        raise DependencyUnavailable("Temporal", address, REMEDY) from error


def refusal_reason(refusal: WorkflowUpdateFailedError) -> str:
    """Why an update was refused, in the words of the workflow or activity that refused it."""
    cause = refusal.cause
    while isinstance(cause, ActivityError) and cause.cause:
        cause = cause.cause
    return cause.message if isinstance(cause, ApplicationError) else str(cause)


async def known_search_attributes(client: Client) -> tuple[str, ...]:
    """Which of our search attributes the server has, with the type that we set."""
    response = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=client.namespace)
    )
    registered = response.custom_attributes
    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    return tuple(name for name in SEARCH_ATTRIBUTES if registered.get(name) == keyword)


def quiet_runtime(forward_to: str) -> Runtime:
    """A runtime whose core logs go to the Python logger of that name, never to stdout."""
    forwarding = LogForwardingConfig(logger=logging.getLogger(forward_to))
    filter_ = "temporalio_sdk_core=WARN,temporalio_client=ERROR"
    return Runtime(
        telemetry=TelemetryConfig(logging=LoggingConfig(filter=filter_, forwarding=forwarding))
    )


# The SDK makes a converter for every workflow, and its own one would compile every type anew each
# time: 16 ms for an order, 2 to 5 ms for an outcome, in the workflow's thread and on its path.
_JSON = PydanticJSONPlainPayloadConverter()


class SharedPayloadConverter(CompositePayloadConverter):
    """As `temporalio.contrib.pydantic.PydanticPayloadConverter`, with one cache per process."""

    def __init__(self) -> None:
        super().__init__(
            *(
                _JSON if isinstance(converter, JSONPlainPayloadConverter) else converter
                for converter in DefaultPayloadConverter.default_encoding_payload_converters
            )
        )


DATA_CONVERTER = DataConverter(payload_converter_class=SharedPayloadConverter)
"""For every client, worker and replayer."""
