"""The port `Sasha` on Temporal: one workflow that everybody may call."""

from temporalio.client import Client
from temporalio.service import RPCError

from pipeline.errors import DependencyUnavailable
from pipeline.installation import Installation
from pipeline.model import SashaCall, SashaState


class TemporalSasha:
    """Reaches Sasha. Names are strings: adapters know no workflows."""

    def __init__(self, client: Client, installation: Installation) -> None:
        self._client = client
        self._installation = installation
        self._queue = installation.queues.central

    async def call(self, call: SashaCall) -> None:
        """Signal her, with a start if she is not there. Raises: DependencyUnavailable."""
        try:
            await self._client.start_workflow(
                "SashaWorkflow",
                SashaState(),
                id=self._installation.sasha,
                task_queue=self._queue,
                start_signal="call",
                start_signal_args=[call],
                static_summary="Looks after the infrastructure",
            )
        except RPCError as error:
            address = self._client.service_client.config.target_host
            remedy = f"Sasha was not called: {error.message}"
            raise DependencyUnavailable("Temporal", address, remedy) from error
