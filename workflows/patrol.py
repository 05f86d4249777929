"""The patrol: a schedule starts it, and it asks Sasha for a look."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.sasha import SashaActivities
    from pipeline.model import SashaCall
    from workflows import options


@workflow.defn
class PatrolWorkflow:
    """Calls Sasha to the house and to one host.

    Workflow ID: `patrol-<installation>-<host>` with the time, which Temporal adds. Ends at once.
    """

    @workflow.run
    async def run(self, host: str) -> None:
        """Call her."""
        await workflow.execute_activity_method(
            SashaActivities.call_sasha, SashaCall(host), **options.central("Call Sasha")
        )
