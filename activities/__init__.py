"""One effect each, through one port."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from activities.builds import BuildActivities
from activities.delivery import DeliveryActivities
from activities.fixes import FixActivities
from activities.opening import OpeningActivities
from activities.records import RecordActivities
from activities.sasha import HostCareActivities, SashaActivities
from activities.stages import RunActivities, StageActivities
from pipeline.ports import HostPorts

Activities = Sequence[Callable[..., Any]]


@dataclass(frozen=True)
class ActivityLists:
    """Every activity of the cluster, by the queue that serves it."""

    central: Activities
    opening: Activities
    agents: Activities
    waiting: Activities
    host: Activities
    tools: Activities


def all_activities(ports: HostPorts) -> ActivityLists:
    """The only list of activities."""
    records, delivery = RecordActivities(ports), DeliveryActivities(ports)
    opening, fixes = OpeningActivities(ports), FixActivities(ports)
    stages = StageActivities(ports)
    sasha, care, runs = SashaActivities(ports), HostCareActivities(ports), RunActivities(ports)
    return ActivityLists(
        central=(
            records.record_skips,
            records.record_reopening,
            records.close_requirement,
            records.remind,
            records.record_hold,
            records.pre_empt,
            delivery.leave_line,
            sasha.call_sasha,
            sasha.look_at_cluster,
            sasha.watch_cluster,
            sasha.act_on_cluster,
            sasha.tell_repaired,
            sasha.record_incident,
            sasha.last_infrastructure,
            sasha.open_infrastructure,
            sasha.close_infrastructure,
            fixes.open_fixes,
            fixes.apply_fixes,
            records.aggregate_failures,
            records.publish_performance,
        ),
        opening=(opening.open_requirement,),
        agents=(stages.run_stage,),
        waiting=(stages.wait_for_slot,),
        host=(
            runs.apply_preemption,
            runs.extend_run,
            delivery.release,
            care.look_at_host,
            care.watch_host,
            care.act_on_host,
        ),
        tools=(
            BuildActivities(ports).verify_build,
            opening.open_fix,
            fixes.merge_fix,
            fixes.read_traces,
            delivery.take_turn,
            delivery.deliver,
            delivery.merge_target,
        ),
    )
