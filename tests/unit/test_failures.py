import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.failures import (
    BUILDS_FAILED,
    ERROR_LIMIT,
    REPORT_LIMIT,
    aggregate,
    cut,
    first_error_lines,
    headline,
)
from pipeline.model import (
    BlockedStage,
    Failure,
    FailureCollection,
    FailureKind,
    RequirementRef,
    Severity,
)
from tests.plans import a_stage

REF = RequirementRef("REQ-1", "run")


def broken_build(owner: str, side: str, error: str) -> Failure:
    return Failure(
        f"{side.title()} Implementation",
        FailureKind.BUILD,
        f"build {side}",
        (owner,),
        error,
        log_reference="build.log",
        commit="abc123",
    )


FAILED_RUN = Failure("Research", FailureKind.CRASH, "run Research", ("cynthia",), "exit code 1")
FAILURES = st.builds(
    Failure,
    stage=st.sampled_from(["A", "B", "C"]),
    kind=st.sampled_from(FailureKind),
    gate=st.text(min_size=1, max_size=20),
    owners=st.lists(st.sampled_from(["roy", "jen"]), unique=True).map(tuple),
    error=st.text(max_size=50),
    severity=st.sampled_from(Severity),
)


def test_broken_builds_are_reported_in_the_guides_words() -> None:
    backend = broken_build("roy", "backend", "a.ts(1,2): error TS2345: no")
    frontend = broken_build("jen", "frontend", "b.ts(3,4): error TS1: no")

    report = aggregate(FailureCollection(REF, 2, (backend, frontend)))

    assert report.number == "REQ-1"
    assert report.round == 2
    assert report.failures == (backend, frontend)
    assert report.text.splitlines() == [
        "REQ-1, round 2: 2 failures",
        BUILDS_FAILED,
        "❌ roy build failed:",
        "a.ts(1,2): error TS2345: no",
        "(build backend, after Backend Implementation)",
        "commit abc123",
        "log build.log",
        "❌ jen build failed:",
        "b.ts(3,4): error TS1: no",
        "(build frontend, after Frontend Implementation)",
        "commit abc123",
        "log build.log",
    ]
    assert BUILDS_FAILED == "❌ PARALLEL BUILD VERIFICATION FAILED"


def test_a_report_names_stage_gate_kind_and_owner_and_what_did_not_start() -> None:
    blocked = BlockedStage(a_stage("Critique", "sylvia"), 1, "Research failed")
    nobody = Failure("deliver", FailureKind.DELIVERY, "deliver", (), "")

    report = aggregate(FailureCollection(REF, 1, (FAILED_RUN, nobody), (blocked,)))

    assert report.text.splitlines() == [
        "REQ-1, round 1: 2 failures",
        "❌ Research: run Research is red (crash), owner cynthia:",
        "exit code 1",
        "❌ deliver: deliver is red (delivery), owner nobody:",
        "Critique (sylvia) did not start: Research failed",
    ]


def test_one_failure_is_a_failure() -> None:
    assert aggregate(FailureCollection(REF, 1, (FAILED_RUN,))).text.startswith(
        "REQ-1, round 1: 1 failure\n"
    )


def test_no_failure_is_still_an_error() -> None:
    assert aggregate(FailureCollection(REF, 1, ())).severity is Severity.ERROR


@given(st.lists(FAILURES, max_size=10))
def test_severity_never_falls_and_every_failure_is_named(failures: list[Failure]) -> None:
    report = aggregate(FailureCollection(REF, 1, tuple(failures)))

    assert report.severity == max((f.severity for f in failures), default=Severity.ERROR)
    assert sorted(report.failures, key=repr) == sorted(failures, key=repr)
    worst_first = [failure.severity for failure in report.failures]
    assert worst_first == sorted(worst_first, reverse=True)
    for severity in Severity:
        as_they_came = [f for f in failures if f.severity is severity]
        assert [f for f in report.failures if f.severity is severity] == as_they_came
    for failure in failures:
        assert failure.gate in report.text
        assert failure.error in report.text
        assert all(owner in report.text for owner in failure.owners)


def test_many_long_failures_share_the_space_of_a_report() -> None:
    many = tuple(broken_build("roy", f"side{n}", "x" * ERROR_LIMIT) for n in range(64))

    report = aggregate(FailureCollection(REF, 1, many))

    assert sum(len(failure.error) for failure in report.failures) <= REPORT_LIMIT
    assert all(f"build side{n}," in report.text for n in range(64))
    assert aggregate(FailureCollection(REF, 1, many[:2])).failures == many[:2]


@pytest.mark.parametrize(
    "line",
    [
        "src/a.ts(12,5): error TS2345: Argument of type 'string'",
        "src/a.ts(12,5): bad",
        "Error: Cannot find module 'x'",
        "  TypeError: x is not a function",
        "npm ERR! code ELIFECYCLE",
        "npm error Missing script",
        "main.c:3:1: error: expected ';'",
        "error[E0308]: mismatched types",
        "  12:5  error  'x' is not defined  no-undef",
        "ValueError: bad",
        "json.decoder.JSONDecodeError: Expecting value",
        "KeyError",
        "E       assert 1 == 2",
        "\x1b[31mERROR: failed\x1b[0m",
    ],
)
def test_error_lines_of_common_tools_are_found(line: str) -> None:
    found = first_error_lines(f"compiling\n\n{line}\n0 warnings\ndone in 3s")

    assert found == line.replace("\x1b[31m", "").replace("\x1b[0m", "")


def test_only_the_first_error_lines_are_shown_and_the_rest_counted() -> None:
    output = "\n".join(f"error TS1: {number}" for number in range(60))

    lines = first_error_lines(output).splitlines()

    assert lines[:50] == [f"error TS1: {number}" for number in range(50)]
    assert lines[50:] == ["… and 10 more"]


def test_without_an_error_line_the_end_is_shown() -> None:
    output = "\n".join(f"step {number}" for number in range(60))

    assert first_error_lines(output, 2) == "step 58\nstep 59"
    assert first_error_lines("") == ""
    assert first_error_lines("\n \n") == ""


def test_error_lines_are_bounded() -> None:
    errors = "\n".join("Error: " + "x" * 2_000 for _ in range(60))
    others = "\n".join("y" * 2_000 for _ in range(60)) + "z"

    assert len(first_error_lines(errors)) == ERROR_LIMIT
    assert first_error_lines(errors).endswith("…\n… and 10 more")
    assert len(first_error_lines(others)) == ERROR_LIMIT


@pytest.mark.parametrize(
    ("text", "limit", "result"), [("", 1, ""), ("abc", 3, "abc"), ("abcd", 3, "ab…")]
)
def test_a_cut_shows(text: str, limit: int, result: str) -> None:
    assert cut(text, limit) == result


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            'E     File "a.py", line 10\nE       def x(\nE   SyntaxError: invalid syntax',
            "SyntaxError: invalid syntax",
        ),
        ("E       assert 1 == 2\nThe build exited with 1.", "assert 1 == 2"),
        ("a.ts(3,1): error TS2304: Cannot find x\nb.ts", "a.ts(3,1): error TS2304: Cannot find x"),
        ("The build exited with 2.", "The build exited with 2."),
        ("", ""),
    ],
)
def test_one_line_of_an_error_says_what_is_wrong(error: str, line: str) -> None:
    assert headline(error) == line
