from pipeline.model import RunEnd
from tests.fixtures_runs import Bench


async def test_a_run_gets_its_prompt_and_returns_what_it_printed(runs: Bench) -> None:
    result = await runs.run("cat; echo trouble >&2; exit 3", prompt="Häagen\n")

    assert result.end is RunEnd.EXITED
    assert (result.exit_code, result.output, result.error_output) == (3, "Häagen\n", "trouble\n")
    assert result.starts == 1
