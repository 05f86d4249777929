import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.app import COMMANDS, app
from cli.events import since_time
from pipeline.errors import RefusedInput

runner = CliRunner()
ROOT = Path(__file__).parent.parent.parent
NARROW = {"COLUMNS": "78"}
"""Of 80 columns the parser of arguments leaves two free; the runner of commands does not."""

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_shows_an_example(name: str) -> None:
    said = runner.invoke(app, [name, "--help"])

    assert said.exit_code == 0, said.output
    assert f"python starter.py {name}" in said.output


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_is_copied_whole_from_a_narrow_terminal(name: str) -> None:
    examples = import_module(COMMANDS[name].module).EXAMPLES[name]
    shown = {
        line.strip()
        for line in runner.invoke(app, [name, "--help"], env=NARROW).output.splitlines()
    }

    assert {each.strip() for each in examples.splitlines() if "starter.py" in each} <= shown


def test_the_help_loads_no_driver_and_no_client() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from cli import app\n"
        "app._run(); print(*sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    loaded = {module.partition(".")[0] for module in said.stdout.split()}
    assert "Commands:" in said.stdout
    assert loaded.isdisjoint({"temporalio", "sqlalchemy", "psycopg", "nats", "alembic", "jinja2"})


def test_no_command_loads_the_template_engine_before_it_writes_a_page() -> None:
    modules = sorted({command.module for command in COMMANDS.values()})
    code = f"import sys, {', '.join(modules)}\nprint(*sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "jinja2" not in said.stdout.split()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--json", "--trace", "REQ-1"], "Give one of"),
        (["--html", "x.html", "--json"], "Give one of"),
        (["--trace"], "--trace is of one requirement"),
        (["REQ-1", "--since", "7d"], "are of all requirements"),
        (["REQ-1", "--compare"], "are of all requirements"),
        (["--since", "yesterday"], "--since yesterday: give a span"),
    ],
)
def test_a_report_refuses_what_does_not_fit_together(arguments: list[str], why: str) -> None:
    said = runner.invoke(app, ["report", *arguments])

    assert isinstance(said.exception, RefusedInput)
    assert why in str(said.exception)


def test_the_version_is_that_of_the_package() -> None:
    said = runner.invoke(app, ["--version"])

    assert said.exit_code == 0
    assert said.output == f"Agog Orchestrator {version('agog-orchestrator')}\n"


def test_the_help_names_every_command_and_what_it_does() -> None:
    said = runner.invoke(app, ["--help"], env=NARROW)

    assert said.exit_code == 0
    assert set(COMMANDS) <= set(said.output.split())
    assert not [line for line in said.output.splitlines()[1:] if line.endswith("...")]


@pytest.mark.parametrize("arguments", [["nope"], ["plan", "--nope"], ["plan", "--slots", "0"]])
def test_wrong_usage_has_exit_code_2(arguments: list[str]) -> None:
    assert runner.invoke(app, arguments).exit_code == 2


def test_a_word_that_is_no_choice_is_refused_in_our_own_words() -> None:
    said = runner.invoke(app, ["costs", "--by", "moon"])

    assert said.exit_code == 2
    assert "'--by': 'moon' is not one of 'requirement', 'stage'" in said.output


@pytest.mark.parametrize(
    ("arguments", "makespan", "saved"),
    [
        (["--sequential"], 420, 0.0),
        (["--pipeline", "standard"], 315, 25.0),
        (["--pipeline", "final-stages"], 300, 28.6),
        (["--pipeline", "critical-path"], 270, 35.7),
        (["--pipeline", "critical-path", "--flags", "needs_todd,needs_vic"], 330, 38.9),
        (["--slots", "1"], 420, 0.0),
    ],
)
def test_plan_gives_the_figures_of_the_guide(
    arguments: list[str], makespan: float, saved: float
) -> None:
    said = runner.invoke(app, ["plan", "--json", *arguments])

    document = json.loads(said.output)
    assert list(document) == [
        "schema_version", "pipeline", "mode", "sequential_minutes", "makespan_minutes",
        "critical_path_minutes", "saved_minutes", "percentage_saved", "critical_path", "stages",
            "expected",
    ]  # fmt: skip
    assert (document["makespan_minutes"], document["percentage_saved"]) == (makespan, saved)
    assert list(document["stages"][0]) == [
        "stage", "agent", "group", "start_minute", "end_minute", "needs",
    ]  # fmt: skip


def test_plan_takes_durations_from_a_file_and_compares_pipelines(tmp_path: Path) -> None:
    durations = tmp_path / "durations.toml"
    durations.write_text('"Research" = 145\n')

    said = runner.invoke(app, ["plan", "--all", "--json", "--durations", str(durations)])

    plans = {plan["pipeline"]: plan for plan in json.loads(said.output)["plans"]}
    assert {name: plan["makespan_minutes"] for name, plan in plans.items()} == {
        "critical-path": 370,
        "final-stages": 400,
        "monorepo": 310,
        "one-sided": 415,
        "one-sided-frontend": 415,
        "standard": 415,
    }


def test_a_plan_without_a_pipeline_is_the_usual_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGOG_PIPELINE", "one-sided")

    usual = json.loads(runner.invoke(app, ["plan", "--json"]).output)
    named = json.loads(runner.invoke(app, ["plan", "--json", "--pipeline", "standard"]).output)

    assert (usual["pipeline"], named["pipeline"]) == ("one-sided", "standard")
    assert "jen" not in {stage["agent"] for stage in usual["stages"]}


def test_plan_draws_when_each_stage_runs() -> None:
    said = runner.invoke(app, ["plan"])

    assert "Backend Implementation*" in said.output  # on the critical path
    assert "315 minutes instead of 420: 105 saved, 25.0%." in said.output
    assert "standard" in runner.invoke(app, ["plan", "--all"]).output


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("30m", NOW - timedelta(minutes=30)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-01-31T10:00:00Z", NOW - timedelta(hours=2)),
        ("2026-01-31T11:00:00+01:00", NOW - timedelta(hours=2)),
    ],
)
def test_since_is_an_age_or_a_time(text: str, time: datetime) -> None:
    assert since_time(text, NOW) == time


@pytest.mark.parametrize("text", ["", "yesterday", "5", "m", "-5m", "999999d"])
def test_since_refuses_what_is_no_time(text: str) -> None:
    with pytest.raises(RefusedInput, match="is not a time"):
        since_time(text, NOW)
