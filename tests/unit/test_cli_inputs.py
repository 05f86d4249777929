from pathlib import Path

import pytest

from adapters.user_files import find_agents, read_text
from cli.inputs import (
    DESCRIPTION_LENGTH,
    TITLE_LENGTH,
    Submission,
    check_submission,
    find_pipeline,
    number_and_title,
    number_of_file,
    read_backlog,
    read_requirement,
    read_task,
)
from cli.start import Intake
from pipeline.errors import RefusedInput
from pipeline.model import Priority
from pipeline.numbers import check_number


@pytest.mark.parametrize(
    ("submission", "reason"),
    [
        (Submission("../REQ-1", "t"), "not of the form"),
        (Submission("REQ-1;rm", "t"), "not of the form"),
        (Submission("REQ-1", ""), "title is empty"),
        (Submission("REQ-1", " \t"), "title is empty"),
        (Submission("REQ-1", "a\nb"), "line break"),
        (Submission("REQ-1", "a\x1b[31m"), "control character"),
        (Submission("REQ-1", "a\udc80"), "control character"),
        (Submission("REQ-1", "x" * (TITLE_LENGTH + 1)), "501 characters"),
        (Submission("REQ-1", "x" * 1_000_000), "1000000 characters"),
        (Submission("REQ-1", "t", "x" * (DESCRIPTION_LENGTH + 1)), "200001 characters"),
        (Submission("REQ-1", "t", "a\0b"), "not text"),
        (Submission("REQ-1", "t", "a\ud800"), "not text"),
    ],
)
def test_a_bad_requirement_is_refused_with_its_reason(submission: Submission, reason: str) -> None:
    with pytest.raises(RefusedInput, match=reason) as refusal:
        check_submission(submission)

    assert len(str(refusal.value)) < 300  # a title of 1 MB is not said again


def test_a_title_may_hold_whatever_is_one_line_of_text() -> None:
    submission = Submission("REQ-1", "Grüße 👩‍💻 \u202fund 日本", "two\nlines\tand a tab")

    assert check_submission(submission) is submission


def test_the_first_heading_is_the_title_and_the_rest_the_description() -> None:
    text = "intro\n```sh\n# a comment\n```\n## Greet *everybody* ##\n\nIn full.\n\n# Later\n"

    assert read_requirement(text, "f.md") == ("Greet *everybody*", "In full.\n\n# Later")


@pytest.mark.parametrize("text", ["", "no heading\n", "```\n# code\n```", "#hashtag\n"])
def test_a_text_without_a_heading_is_refused(text: str) -> None:
    with pytest.raises(RefusedInput, match=r"f\.md has no heading"):
        read_requirement(text, "f.md")


def test_a_backlog_line_is_a_requirement_with_the_options_as_keys() -> None:
    lines = (
        '{"req": "REQ-1", "title": "One"}\n\n'
        '{"req": "REQ-2", "title": "Two", "description": "d", "priority": "P0",'
        ' "pipeline": "critical-path", "sequential": true}\r\n'
    )

    assert read_backlog(lines, "b.jsonl", check_submission) == (
        Submission("REQ-1", "One"),
        Submission("REQ-2", "Two", "d", Priority.P0, "critical-path", sequential=True),
    )


def test_a_backlog_names_every_bad_line_with_its_reason() -> None:
    lines = "\n".join(
        [
            '{"req": "REQ-1", "title": "One"}',
            "not json",
            '["REQ-2"]',
            '{"req": "req-3", "title": "Three"}',
            '{"req": "REQ-4", "titel": "Four"}',
            '{"req": "REQ-5", "title": "Five", "sequential": "yes"}',
            '{"req": "REQ-6", "title": "Six", "priority": "P9"}',
            '{"req": "REQ-1", "title": "Again"}',
        ]
    )

    with pytest.raises(RefusedInput) as refusal:
        read_backlog(lines, "b.jsonl", check_submission)

    said = str(refusal.value).splitlines()
    assert said[0].startswith("b.jsonl")
    for place, reason in enumerate(
        ("JSON", "object", "not of the form", "titel", "sequential", "priority", "line 1"), start=2
    ):
        assert said[place - 1].startswith(f"line {place}: ")
        assert reason in said[place - 1]


def test_an_empty_backlog_is_refused() -> None:
    with pytest.raises(RefusedInput, match="no requirement"):
        read_backlog("\n \n", "b.jsonl", check_submission)


@pytest.mark.parametrize("name", ["standard", "final-stages", "critical-path", "one-sided"])
def test_a_pipeline_is_found_by_its_name(name: str) -> None:
    assert find_pipeline(name).name == name


def test_a_submission_without_a_pipeline_takes_the_usual_one(tmp_path: Path) -> None:
    file = tmp_path / "agents.toml"
    file.write_text('[defaults]\nkind = "simulated"\n')
    intake = Intake(find_agents(file), "one-sided")

    intake.take(Submission("REQ-1", "One"))
    intake.take(Submission("REQ-2", "Two", pipeline="critical-path"))

    assert [each.pipeline.name for each in intake.launches] == ["one-sided", "critical-path"]


@pytest.mark.parametrize("name", ["nope", "", "../standard", "nope.toml", "x" * 5000, "a\0.toml"])
def test_an_unknown_pipeline_is_refused(name: str) -> None:
    with pytest.raises(RefusedInput):
        find_pipeline(name)


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")

    for path, reason in (
        (tmp_path / "absent", "No such file"),
        (tmp_path, "Is a directory"),
        (binary, "not UTF-8"),
    ):
        with pytest.raises(RefusedInput, match=reason):
            read_text(path, "File")
    binary.write_bytes(b"x" * 1025)
    with pytest.raises(RefusedInput, match="larger than 1 KiB"):
        read_text(binary, "File", limit=1024)


def test_a_missing_agents_file_names_the_variable_that_leads_to_it(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match="set AGOG_AGENTS_FILE"):
        find_agents(tmp_path / "agents.toml")


@pytest.mark.parametrize(
    "first", ["# Greet in French #", "Greet in French", "\n\n  Greet in French "]
)
def test_the_first_line_is_the_title_of_a_task_and_no_line_is_lost(first: str) -> None:
    text = f"{first}\n\nIn full.\n\n# Later\n"

    assert read_task(text, "f.md") == ("Greet in French", "In full.\n\n# Later")


def test_a_task_without_a_line_is_refused() -> None:
    with pytest.raises(RefusedInput, match=r"f\.md is empty"):
        read_task(" \n", "f.md")


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("requirement.md", "REQ-requirement"),
        ("Log in by e-mail.md", "REQ-log-in-by-e-mail"),
        ("req-101.md", "REQ-101"),
        ("REQ-101-FIX-2.md", "REQ-101-fix2"),
        ("日本.md", "REQ-requirement"),
        (f"{'x' * 59}-y.md", f"REQ-{'x' * 59}"),
    ],
)
def test_a_files_name_gives_a_number_that_is_accepted(name: str, number: str) -> None:
    assert check_number(number_of_file(Path(name))) == number


@pytest.mark.parametrize("heading", ["REQ-101: Greet in French", "REQ-101 Greet in French"])
@pytest.mark.parametrize("given", [None, "REQ-101"])
def test_a_heading_may_begin_with_the_number(given: str | None, heading: str) -> None:
    assert number_and_title(given, heading, "f.md") == ("REQ-101", "Greet in French")


@pytest.mark.parametrize("heading", ["Greet in French", "REQ-101", "Greet REQ-101"])
@pytest.mark.parametrize("given", [None, "REQ-7"])
def test_a_heading_need_not_begin_with_a_number(given: str | None, heading: str) -> None:
    assert number_and_title(given, heading, "f.md") == (given, heading)


def test_a_number_in_the_file_that_is_not_the_one_given_is_refused() -> None:
    with pytest.raises(RefusedInput, match=r"f\.md is REQ-101, by its heading, and not REQ-7:"):
        number_and_title("REQ-7", "REQ-101: Greet in French", "f.md")


def test_a_backlog_takes_the_number_under_the_name_that_we_print() -> None:
    line = '{"req_number": "REQ-1", "title": "T"}'

    assert read_backlog(line, "b.jsonl", check_submission)[0].number == "REQ-1"


def test_a_line_of_a_backlog_names_what_it_waits_for() -> None:
    line = '{"req": "REQ-2", "title": "Second", "blocked_by": ["REQ-1"]}'

    (submission,) = read_backlog(line, "b.jsonl", check_submission)

    assert submission.blocked_by == ("REQ-1",)
