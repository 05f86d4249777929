"""The agent's words, whatever a terminal or a coding agent's program has made of them."""

import json
import time
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.notice import parse_notice
from pipeline.team import TEAM
from tests.unit.test_notice import NOTICES, fenced, notice, parse, refusal

Object = Mapping[str, object]
ROYS = {"session_id": "s", "uuid": "u"}
TIME = {"timestamp": "2026-01-01T00:00:00.000Z"}


def lines(*objects: Object | str) -> str:
    """A stream: objects as lines of compact JSON, strings as they are."""
    return "".join(
        f"{each if isinstance(each, str) else json.dumps(each, separators=(',', ':'))}\n"
        for each in objects
    )


def claude_says(text: str, **more: object) -> Object:
    message = {"role": "assistant", "content": [{"type": "text", "text": text}]}
    return {"type": "assistant", "message": message, "parent_tool_use_id": None, **ROYS, **more}


def claude_ends(result: str | None, **more: object) -> Object:
    said = {} if result is None else {"result": result}
    return {"type": "result", "subtype": "success", "is_error": False, **said, **ROYS, **more}


def codex_says(text: str) -> Object:
    return {"type": "item.completed", "item": {"id": "i", "type": "agent_message", "text": text}}


def gemini_says(text: str) -> Object:
    return {"type": "message", "role": "assistant", "content": text, "delta": True, **TIME}


CLAUDE_INIT = {"type": "system", "subtype": "init", "cwd": "/w", **ROYS}
CODEX_INIT = {"type": "thread.started", "thread_id": "t"}
GEMINI_INIT = {"type": "init", "session_id": "s", "model": "auto", **TIME}
CODEX_END = {"type": "turn.completed", "usage": {"output_tokens": 1}}
GEMINI_END = {"type": "result", "status": "success", "stats": {}, **TIME}


def as_text(text: str) -> str:
    return text


def claude_json(text: str) -> str:
    return lines(claude_ends(text))


def claude_array(text: str) -> str:
    return json.dumps([CLAUDE_INIT, claude_says("hm"), claude_ends(text)], separators=(",", ":"))


def claude_stream(text: str) -> str:
    killed = {"type": "system", "subtype": "task_updated", "patch": {"status": "killed"}, **ROYS}
    return lines(CLAUDE_INIT, claude_says(text), claude_ends(text), killed)


def codex_stream(text: str) -> str:
    return lines(CODEX_INIT, {"type": "turn.started"}, codex_says(text), CODEX_END)


def gemini_stream(text: str) -> str:
    parts = [gemini_says(text[at : at + 7]) for at in range(0, len(text), 7)]
    return lines(GEMINI_INIT, *parts, GEMINI_END)


def gemini_json(text: str) -> str:
    return json.dumps({"session_id": "s", "response": text, "stats": {}}, indent=2)


PROGRAMS = (
    as_text, claude_json, claude_array, claude_stream, codex_stream, gemini_stream, gemini_json
)  # fmt: skip

ONE_LINE = json.dumps(notice())


@pytest.mark.parametrize(
    "output",
    [
        pytest.param("\x1b[32m```json\x1b[0m\n" + ONE_LINE + "\n```", id="colour"),
        pytest.param("\x1b]8;;http://x\x07\x1b[1m" + fenced(notice()), id="link"),
        pytest.param("Working\x1b[2K\x1b[1G" + fenced(notice()), id="erased line"),
        pytest.param("\x1b[?25l\x1b(B\x1b7" + fenced(notice()) + "\x1b[?25h", id="cursor"),
        pytest.param(
            "```json\n" + ONE_LINE.replace('"status"', '\x1b[34;1m"status"\x1b[m') + "\n```",
            id="coloured JSON",
        ),
        pytest.param("\ufeff" + fenced(notice()), id="byte order mark"),
        pytest.param("```json\n\ufeff" + ONE_LINE + "\n```", id="mark before the object"),
        pytest.param("10 %\r90 %\rdone\r" + fenced(notice()), id="progress"),
        pytest.param("|\b/\b-\b" + fenced(notice()), id="spinner"),
        pytest.param(fenced(notice()).replace("\n", "\r\r\n"), id="doubled returns"),
        pytest.param("\u00a0\u00a0" + fenced(notice()), id="hard spaces"),
        pytest.param(fenced(notice(), info="jsonc"), id="jsonc"),
        pytest.param(fenced(notice(), info="json5"), id="json5"),
        pytest.param(fenced(notice(), info='json title="notice"'), id="title"),
        pytest.param(fenced(notice(), info="{.json}"), id="attributes"),
        pytest.param(
            "```jsonc\n{ // my answer\n" + ONE_LINE[1:-1] + ", /* the end */\n}\n```",
            id="comments",
        ),
        pytest.param(f"```json {ONE_LINE}```", id="one line"),
        pytest.param(f"``` json {ONE_LINE} ```\nDone.", id="one line with spaces"),
        pytest.param(f"```json {ONE_LINE}\n```", id="first line"),
        pytest.param(f"```{ONE_LINE}```", id="one line without a word"),
        pytest.param(f"~~~json {ONE_LINE}~~~\n", id="one line of tildes"),
        pytest.param("```json {\n" + ONE_LINE[1:] + "\n```", id="brace on the first line"),
    ],
)
def test_what_a_terminal_or_an_editor_makes_of_a_notice_is_undone(output: str) -> None:
    assert parse(output).raw == notice()
    assert parse(f"{fenced(notice(summary='older'))}{output}\n\nDone.\n").raw == notice()


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("text", [fenced(notice()), f"Done.\n\n{fenced(notice())}\nBye."])
def test_a_notice_is_found_in_what_a_coding_agents_program_prints(
    program: Callable[[str], str], text: str
) -> None:
    assert parse(program(text)).raw == notice()
    assert parse(f"starting\n{program(text)}\n").raw == notice()


@given(
    st.text(alphabet=st.characters(exclude_characters="`~", codec="utf-8")),
    NOTICES,
    st.sampled_from(PROGRAMS),
    st.sampled_from(["", "  ", "\t", "\x1b[0m", "\ufeff", "busy\r", "-\b"]),
)
def test_any_notice_is_found_in_any_program(
    before: str, fields: Object, program: Callable[[str], str], lead: str
) -> None:
    output = program(f"{before}\n{lead}{fenced(notice(fields=fields))}")

    assert parse(output).raw == notice(fields=fields)


@pytest.mark.parametrize(
    "output",
    [
        lines(claude_ends(ONE_LINE, structured_output=notice())),
        lines(claude_ends("Done.", structured_output=notice())),
        lines(CODEX_INIT, codex_says(ONE_LINE), CODEX_END),
        lines(claude_ends(json.dumps(notice(), indent=2))),
        json.dumps({"result": fenced(notice())}),
    ],
)
def test_structured_output_is_a_notice_without_a_fence(output: str) -> None:
    assert parse(output).raw == notice()


@pytest.mark.parametrize(
    "other",
    [
        {"type": "user", "message": {"content": [{"type": "tool_result", "content": "TEXT"}]}},
        {"type": "message", "role": "user", "content": "TEXT", **TIME},
        {"type": "tool_result", "tool_id": "1", "output": "TEXT", **TIME},
        {
            "type": "item.completed",
            "item": {"type": "command_execution", "aggregated_output": "TEXT"},
        },
        claude_says("TEXT", parent_tool_use_id="toolu_1"),
    ],
)
def test_what_a_tool_or_a_sub_agent_prints_is_no_answer(other: Object) -> None:
    quoted = json.dumps(other).replace("TEXT", json.dumps(fenced(notice(summary="theirs")))[1:-1])

    for ending in (claude_ends("Done."), CODEX_END, GEMINI_END):
        assert "no fenced JSON object" in refusal(lines(quoted, ending))
        assert parse(lines(claude_says(fenced(notice())), quoted, ending)).raw == notice()


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (
            lines(
                claude_says(fenced(notice())),
                claude_ends(None, subtype="error_during_execution", is_error=True),
            ),
            "ended with an error: error_during_execution",
        ),
        (
            lines(claude_ends(fenced(notice()), is_error=True)),
            "ended with an error",
        ),
        (
            lines(codex_says(fenced(notice())), {"type": "turn.failed", "error": {"message": "x"}}),
            "ended with an error: x",
        ),
        (
            lines(
                gemini_says(fenced(notice())),
                {"type": "result", "status": "error", "error": {"message": "quota"}, "stats": {}},
            ),
            "ended with an error: error quota",
        ),
        (lines(CLAUDE_INIT, claude_says(fenced(notice()))), "stop without their end"),
        (lines(CODEX_INIT, codex_says(fenced(notice()))), "stop without their end"),
        (lines(GEMINI_INIT, gemini_says(fenced(notice()))), "stop without their end"),
        (lines(claude_ends(None, structured_output={**notice(), "status": "?"})), "unknown status"),
    ],
)
def test_an_answer_of_a_program_that_failed_or_stopped_does_not_count(
    output: str, reason: str
) -> None:
    assert reason in refusal(output)
    later = fenced(notice(summary="printed by the program around it"))
    assert "around it" in parse(output + later).summary


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "it is empty"),
        ("All done, trust me.", "it ends with 'All done, trust me.'"),
        (ONE_LINE, "something outside of a fence names roy"),
        (f"Here: ```json\n{ONE_LINE}", "must stand at the beginning of a line"),
        (f"> ```json\n> {ONE_LINE}\n> ```", "must stand at the beginning of a line"),
        (f"```yaml\n{ONE_LINE}\n```", "must stand at the beginning of a line and say json"),
        (json.dumps({"log": fenced(notice())}), "must stand at the beginning of a line"),
    ],
)
def test_a_refusal_tells_what_was_seen_and_what_to_do(output: str, reason: str) -> None:
    message = refusal(output)

    assert reason in message
    assert message.endswith("the object, and a line of three backticks.")


def test_foreign_json_lines_are_noise() -> None:
    logs = lines(
        {"level": "info", "message": fenced(notice(summary="logged"))},
        {"type": "result", "status": "ok"},
        {"type": "message", "text": fenced(notice(summary="a chat"))},
        '{"type": "result", "result": ',
    )

    assert parse(logs + fenced(notice()) + logs).raw == notice()


def test_a_quoted_program_line_stays_inside_its_fence() -> None:
    quoted = f"```json\n{lines(claude_ends('broken', is_error=True))}```\n"

    assert parse(fenced(notice()) + quoted).raw == notice()


def test_the_end_of_a_long_array_is_read_although_its_beginning_is_cut() -> None:
    output = claude_array(fenced(notice()))

    assert parse(output[len(output) // 4 :]).raw == notice()


@pytest.mark.parametrize(
    "noise",
    [
        "\x1b[" * 1_000_000,
        "\x1b]8;;" * 500_000,
        "\x1b[2K" * 700_000,
        "\r" * 2_000_000,
        '{"type": ' * 400_000,
        '{"type": 1}\n' * 100_000,
        "{\n" * 500_000,
        "{\n}\n" * 200_000,
        '```json {"' + "`" * 3_000_000 + "x",
        "```jsonc\n{" + "/*" * 1_000_000,
        "```jsonc\n{" + '\\"' * 1_000_000,
        "}]" * 1_500_000 + "x",
        lines(claude_says("hm")) * 10_000 + lines(claude_ends("hm")),
    ],
    ids=range(13),
)
def test_megabytes_of_terminal_noise_cost_seconds_at_most(noise: str) -> None:
    output = f"{noise}\n```\n{fenced(notice())}"
    begun = time.process_time()

    assert parse_notice(output, agent=TEAM["roy"], number="REQ-1").raw == notice()
    assert time.process_time() - begun < 5
