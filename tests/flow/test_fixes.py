from pipeline.model import RequirementState
from tests.house import REPAIR, House

ROY, JEN, QA = "Backend Implementation", "Frontend Implementation", "Backend QA"
FIX_BACKEND = "Fix build backend"


async def test_broken_build_is_repaired_and_the_flow_goes_on(house: House) -> None:
    await house.open(builds={"backend": [2, 0]})
    handle = await house.start(bounds=REPAIR)
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED
    started = house.runs.started()
    assert started.count(FIX_BACKEND) == 1
    assert [started.count(name) for name in ("Research", "Critique", ROY, JEN)] == [1, 1, 1, 1]
    assert started.index(FIX_BACKEND) < started.index(QA)
    types = await house.types()
    assert types.count("workflow.blocked") == types.count("workflow.resumed") == 1
    fix = await house.types(f"{house.number}-FIX-1")
    assert fix[0] == "workflow.started"
    assert "workflow.completed" in fix
