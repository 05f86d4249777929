import json
import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import NoticeRefused
from pipeline.notice import NOTICE_LIMIT, Notice, NoticeStatus, parse_notice
from pipeline.team import TEAM
from pipeline.verdicts import green_notice

NUMBER = "REQ-1"


def notice(
    agent: str = "roy", fields: Mapping[str, object] | None = None, **more: object
) -> dict[str, object]:
    return {**green_notice(TEAM[agent], NUMBER), **(fields or {}), **more}


def fenced(fields: Mapping[str, object] | str, fence: str = "```", info: str = "json") -> str:
    text = fields if isinstance(fields, str) else json.dumps(fields, indent=2)
    return f"{fence}{info}\n{text}\n{fence}\n"


def parse(output: str, agent: str = "roy") -> Notice:
    return parse_notice(output, agent=TEAM[agent], number=NUMBER)


def refusal(output: str, agent: str = "roy") -> str:
    with pytest.raises(NoticeRefused) as refused:
        parse(output, agent)
    return str(refused.value)


def without(key: str, agent: str = "roy") -> dict[str, object]:
    return {name: value for name, value in notice(agent).items() if name != key}


@pytest.mark.parametrize("agent", TEAM)
def test_each_agents_green_notice_is_accepted(agent: str) -> None:
    accepted = parse(fenced(notice(agent)), agent)

    assert accepted.agent == agent
    assert accepted.number == NUMBER
    assert accepted.status is NoticeStatus.COMPLETE
    assert accepted.raw == notice(agent)
    assert accepted.flags == ()


@pytest.mark.parametrize(
    "output",
    [
        fenced(notice(), info=""),
        fenced(notice(), info="JSON"),
        fenced(notice(), info=" json "),
        fenced(notice(), fence="~~~"),
        fenced(notice(), fence="`````"),
        fenced(notice()).replace("\n", "\r\n"),
        "".join(f"    {line}\n" for line in fenced(notice()).splitlines()),
        "\t" + fenced(notice()).replace("\n```", "\n\t```"),
        fenced(json.dumps(notice())),
        fenced("\n\n" + json.dumps(notice()) + "\n\n"),
        fenced(notice()).rstrip(),
        fenced(notice()).removesuffix("```\n"),
        "```\n" + fenced(notice()),
        "```markdown\n# Report\n" + fenced(notice()) + "```\n",
        "text ```json not at a line's start\n" + fenced(notice()),
        fenced(notice()) + "Done. `roy` REQ-1 ```inline```\n",
    ],
)
def test_a_fence_may_look_like_any_of_these(output: str) -> None:
    assert parse(output).raw == notice()


def test_a_string_may_hold_fences_and_braces() -> None:
    summary = "Wrote ```json {} ``` and } and\n```\nmore"

    assert parse(fenced(notice(summary=summary))).summary == summary


@pytest.mark.parametrize(
    "later",
    [
        fenced(notice("billy", summary="I tested what roy did for REQ-1.")),
        fenced(notice(req_number="REQ-2")),
        fenced({"status": "ok", "summary": "a program's answer"}),
        fenced({"status": "FAILED"}),
        fenced(notice(fields={"agent": "nobody"})),
        fenced("{}"),
        fenced("{ not json, but roy's REQ-1 }"),
        fenced('{"agent": "billy", "req_number": "REQ-1", "status"'),
        fenced('{"agent": "roy", "req_number": "REQ-2", "status"'),
        fenced("[1, 2]"),
        fenced(notice(summary="a program's text"), info="python"),
        json.dumps(notice(summary="not fenced")),
        "> " + fenced(notice(summary="quoted")).replace("\n", "\n> ") + "\n",
        "```json",
    ],
)
def test_what_is_not_the_agents_own_is_noise(later: str) -> None:
    assert parse(f"{later}\n{fenced(notice())}{later}\n").raw == notice()


LATER = (
    (without("req_number"), "says req_number nothing, not 'REQ-1'"),
    (notice(req_number=None), "says req_number None"),
    (notice(req_number=""), "says req_number ''"),
    (notice(req_number=1), "says req_number 1"),
    (notice(req_number="req-1"), "says req_number 'req-1'"),
    (notice(req_number="REQ-1-FIX-2"), "says req_number 'REQ-1-FIX-2'"),
    (notice(req_number="REQ 1"), "says req_number 'REQ 1'"),
    ({"agent": "roy"}, "says req_number nothing"),
    ({"agent": "roy", "test_result": "FAIL"}, "says req_number nothing"),
    ({"agent": "roy", "reqNumber": "REQ-1", "status": "FAILED"}, "says req_number nothing"),
    (without("agent"), "says agent nothing, not 'roy'"),
    (notice(fields={"agent": None}), "says agent None"),
    (notice(fields={"agent": "Roy"}), "says agent 'Roy'"),
    ({"status": "FAILED", "summary": "tests fail"}, "says agent nothing"),
    ({"Status": "failed", "testResult": "FAIL"}, "says agent nothing"),
    (notice(status="PERHAPS"), "unknown status 'PERHAPS'"),
    (without("summary"), "summary is missing"),
    ('{"agent": "roy", "status": "FAILED",}', "is not valid JSON"),
    ('{"agent": "roy", "status": "FAILED" // it fails\n}', "is not valid JSON"),
    ("{'agent': 'roy', 'req_number': 'REQ-1', 'status': 'FAILED'}", "is not valid JSON"),
    ('{agent: "roy", req_number: "REQ-1", status: "FAILED"}', "is not valid JSON"),
    ("{agent: roy, req_number: REQ-1, status: FAILED}", "is not valid JSON"),
    ({"notice": notice(status="FAILED")}, "wraps its notice in 'notice'"),
    (notice(fields={"agent": "roy (backend)"}), "says agent 'roy (backend)'"),
    ('{"\\u0061gent": "roy", "status": "FAILED"', "is only half there"),
    ('{"req_number": "REQ-1", "status": "FAI', "is only half there"),
    ('{"status": "FAILED", "summary": "it', "is only half there"),
    ('{"agent": "roy", "req_number": "REQ-1", "status": "FAILED", "status": "COMPLETE"}', "twice"),
)


@pytest.mark.parametrize(("later", "reason"), LATER)
def test_a_later_block_of_the_agent_that_is_no_notice_leaves_doubt(
    later: dict[str, object] | str, reason: str
) -> None:
    for output in (
        fenced(notice()) + fenced(later),
        fenced(notice()) + fenced(later).removesuffix("```\n"),
        fenced(notice()) + "And:\n" + fenced(later, info="") + fenced(notice("billy")) + "Bye.\n",
    ):
        assert reason in refusal(output)
        assert parse(output + fenced(notice())).raw == notice()


@pytest.mark.parametrize("first", ["// final\n{}", "/* it\nfails */ {}", "[{}]", "[\n{}\n]"])
def test_a_later_block_that_is_called_json_and_begins_otherwise_leaves_doubt(first: str) -> None:
    later = fenced(first.replace("{}", json.dumps(notice(status="FAILED"))))

    assert "is n" in refusal(fenced(notice()) + later)


@pytest.mark.parametrize("info", ["jsonc", "json5"])
def test_notice_may_begin_with_a_comment_where_its_fence_allows_that(info: str) -> None:
    text = fenced(f"// final\n{json.dumps(notice())}", info=info)

    assert parse(text).raw == notice()


@pytest.mark.parametrize("length", range(1, 40))
def test_a_second_answer_that_is_cut_off_leaves_doubt(length: int) -> None:
    second = "```json\n" + json.dumps({"summary": "Wait: the tests fail", "agent": "roy"})[:length]

    assert "only half there" in refusal(fenced(notice()) + second)


@pytest.mark.parametrize(
    ("repeated", "key"),
    [
        ('"status": "FAILED", "status": "COMPLETE"', "'status' twice"),
        ('"status": "COMPLETE", "status": "COMPLETE"', "'status' twice"),
        ('"st\\u0061tus": "FAILED", "status": "COMPLETE"', "'status' twice"),
        ('"status": "COMPLETE", "agent": "roy"', "'agent' twice"),
        ('"status": "COMPLETE", "req_number": "REQ-2"', "'req_number' twice"),
        ('"status": "COMPLETE", "changes": {"a": 1, "a": 2}', "'a' twice"),
        ('"status": "COMPLETE", "failures": [{"b": [{"a": 1, "a": 1}]}]', "'a' twice"),
        ('"status": "COMPLETE", "Status": "FAILED"', "status and Status are the same field"),
        ('"status": "COMPLETE", "needsVic": true, "needs_vic": false', "needsVic and needs_vic"),
        ('"status": "COMPLETE", "test_result": "PASS", "Test-Result": "FAIL"', "the same field"),
        ('"status": "COMPLETE", "test_result": "PASS", "test result ": "FAIL"', "the same field"),
        ('"status": "COMPLETE", "status\u200b": "FAILED"', "the same field"),
        ('"status": "COMPLETE", "\uff53tatus": "FAILED"', "the same field"),
    ],
)
def test_a_repeated_key_is_refused(repeated: str, key: str) -> None:
    text = f'{{"agent": "roy", "req_number": "REQ-1", "summary": "s", {repeated}}}'

    assert key in refusal(fenced(text))
    assert key in refusal(fenced(notice()) + fenced(text))


def test_other_keys_may_look_alike() -> None:
    changes = {"a.py": 1, "A.py": 2}

    assert parse(fenced(notice(changes=changes, my_note="a", myNote="b"))).raw["myNote"] == "b"
    assert parse(fenced(notice("billy", testResult="PASS")), "billy").test_result == "PASS"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("It is there already.", "It is there already."),
        ("  kept \n", "kept"),
        ("", ""),
        (" . ", ""),
        ("N/A", ""),
        ("None.", ""),
        (None, ""),
        (True, ""),
        (False, ""),
        (["why"], ""),
    ],
)
def test_a_reason_for_no_changes_is_one_in_words(said: object, reason: str) -> None:
    assert parse(fenced(notice(no_changes_needed=said))).no_changes_needed == reason


def test_the_last_own_notice_wins() -> None:
    older = fenced(notice(summary="older"))

    assert parse(older + fenced(notice(summary="newer"))).summary == "newer"
    assert parse(older + fenced(notice(status="FAILED"))).status is NoticeStatus.FAILED


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (
            '{"agent": "roy", "req_number": "REQ-1", "status": "COMP',
            "only half there: Unterminated",
        ),
        ('{"agent": "roy", "req_number": "REQ-1", "status":', "only half there: Expecting value"),
        ('{"agent": "roy", "status": "COMPLETE",', "only half there"),
        ('{"agent": "roy", "req_number": "REQ-1", }', "not valid JSON: "),
        ('{"agent": "roy", "req_number": "REQ-1", "a": NaN}', "NaN is no JSON number"),
        ('{"agent": "roy", "req_number": "REQ-1", "a": -Infinity}', "-Infinity is no JSON number"),
        ('{"agent": "roy", "req_number": "REQ-1", "a": ' + "9" * 5000 + "}", "not valid JSON"),
        ('{"agent": "roy", "req_number": "REQ-1"} Done.', "not valid JSON: Extra data"),
        ('{"agent": "roy", "req_number": "REQ-1", "a": "\t"}', "Invalid control character"),
        (
            '{"agent": "roy", "req_number": "REQ-1", "a": ' + "[" * 100_000 + "]" * 100_000 + "}",
            "nested too deeply",
        ),
    ],
)
def test_an_earlier_notice_does_not_stand_in_for_a_broken_one(broken: str, reason: str) -> None:
    message = refusal(fenced(notice()) + fenced(broken))

    assert message.startswith("The agent's notice ")
    assert reason in message


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "the output holds no fenced JSON object; it is empty"),
        ("I am done, roy, REQ-1.", "the output holds no fenced JSON object"),
        (json.dumps(notice()), "the output holds no fenced JSON object"),
        (fenced("[]"), "the output holds no fenced JSON object"),
        (fenced(notice("billy")), "says agent 'billy', not 'roy'"),
        (fenced(notice(req_number="REQ-2")), "says req_number 'REQ-2', not 'REQ-1'"),
        (fenced(notice(fields={"agent": "Roy"})), "says agent 'Roy', not 'roy'"),
        (fenced(without("agent")), "says agent nothing, not 'roy'"),
        (fenced(without("req_number")), "says req_number nothing, not 'REQ-1'"),
        (fenced(notice(fields={"agent": ["roy"]})), "says agent ['roy'], not 'roy'"),
        (fenced('{"status": "COMPLETE", '), "is only half there"),
        (fenced("{'agent': 'roy'}"), "is not valid JSON"),
    ],
)
def test_without_an_own_notice_the_reason_says_why(output: str, reason: str) -> None:
    message = refusal(output)

    assert message.startswith("No notice of roy: ")
    assert reason in message
    assert len(message) < 400


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (without("status"), "status is missing"),
        (notice(status=""), "status is missing"),
        (notice(status="DONE"), "unknown status 'DONE'; known are COMPLETE, BLOCKED, FAILED"),
        (notice(status="ERROR"), "unknown status 'ERROR'"),
        (notice(status=True), "status must be a string"),
        (without("summary"), "summary is missing"),
        (notice(summary=" \n"), "summary is missing"),
        (notice(summary=["a"]), "summary must be a string"),
        (notice(needs_vic="true"), "needs_vic must be true or false"),
        (notice(needs_todd=1), "needs_todd must be true or false"),
        (notice(needs_todd=None), "needs_todd must be true or false"),
        (notice(failures="one"), "failures must be a list of strings"),
        (notice(failures={"a": 1}), "failures must be a list of strings"),
        (notice(required_fixes=[1]), "required_fixes must be a list of strings"),
        (notice(reasons=[["a"]]), "reasons must be a list of strings"),
        (notice(owner=1), "owner must be a string"),
        (notice(summary="a\0b"), "holds a null character"),
        (notice(changes={"a\0b": 1}), "holds a null character"),
        (notice(deliverable=["\ud800"]), "holds half a surrogate pair"),
    ],
)
def test_an_own_notice_is_refused_for_its_fields(fields: dict[str, object], reason: str) -> None:
    message = refusal(fenced(fields))

    assert message.startswith("The notice is not acceptable: ")
    assert reason in message


@pytest.mark.parametrize(
    ("agent", "fields", "reason"),
    [
        ("sylvia", {"critique_verdict": "FINE"}, "unknown critique_verdict 'FINE'; known are"),
        ("sylvia", {"critique_verdict": True}, "critique_verdict must be a string"),
        ("billy", {"test_result": "PASSED"}, "unknown test_result 'PASSED'; known are PASS, FAIL"),
        ("liz", {"test_result": True}, "test_result must be a string"),
        ("todd", {"testResult": "ok"}, "unknown testResult 'ok'"),
        ("vic", {"testResult": "FAIL"}, "test_result and testResult contradict each other"),
        ("priya", {"overall": "GOOD"}, "unknown overall 'GOOD'"),
    ],
)
def test_an_unknown_verdict_is_refused(agent: str, fields: dict[str, object], reason: str) -> None:
    assert reason in refusal(fenced(notice(agent, fields)), agent)


@pytest.mark.parametrize(
    ("agent", "fields", "field", "value"),
    [
        ("roy", {"status": "complete"}, "status", "COMPLETE"),
        ("roy", {"status": " Failed "}, "status", "FAILED"),
        ("sylvia", {"critique_verdict": "rejected"}, "critique_verdict", "REQUEST_CHANGES"),
        ("sylvia", {"critique_verdict": "Escalate"}, "critique_verdict", "ESCALATE"),
        ("sylvia", {"critique_verdict": ""}, "critique_verdict", ""),
        ("sylvia", {"critique_verdict": None}, "critique_verdict", ""),
        ("billy", {"test_result": "fail"}, "test_result", "FAIL"),
        ("billy", {"testResult": "pass"}, "test_result", "PASS"),
        ("billy", {"test_result": None, "testResult": "FAIL"}, "test_result", "FAIL"),
        ("priya", {"overall": "Fail"}, "overall", "FAIL"),
        ("priya", {"failures": None}, "failures", ()),
        ("priya", {"owner": " frontend "}, "owner", "frontend"),
        ("liz", {"failures": ["a", {"b": "ü"}]}, "failures", ("a", '{"b": "ü"}')),
        ("liz", {"needs_vic": True}, "flags", ("needs_vic",)),
        ("liz", {"needs_vic": True, "needs_todd": True}, "flags", ("needs_todd", "needs_vic")),
        ("liz", {"needs_bob": "maybe"}, "flags", ()),
        ("sylvia", {"required_fixes": ["x", "y"]}, "required_fixes", ("x", "y")),
        ("sylvia", {"reasons": ["x"]}, "reasons", ("x",)),
    ],
)
def test_fields_are_normalised(
    agent: str, fields: dict[str, object], field: str, value: object
) -> None:
    assert getattr(parse(fenced(notice(agent, fields)), agent), field) == value


def test_verdicts_and_flags_of_other_roles_are_not_read() -> None:
    stray = notice(test_result="excellent", overall=5, critique_verdict="?", needs_vic=True)

    accepted = parse(fenced(stray))

    assert (accepted.test_result, accepted.overall, accepted.critique_verdict) == ("", "", "")
    assert accepted.flags == ()
    assert accepted.raw["test_result"] == "excellent"


def test_numbers_that_no_reader_downstream_takes_are_refused() -> None:
    text = json.dumps(notice(changes={"lines": 0})).replace('"lines": 0', '"lines": 1e999')

    assert "holds a number that is not finite" in refusal(fenced(text))


def test_nesting_is_bounded() -> None:
    def nested(depth: int) -> dict[str, object]:
        value: object = []
        for _ in range(depth):
            value = [value]
        return notice(changes=value)

    assert parse(fenced(nested(60))).agent == "roy"
    assert "nested deeper than 64 levels" in refusal(fenced(nested(70)))


def test_a_large_notice_is_refused_with_its_size() -> None:
    almost = notice(summary="x" * (NOTICE_LIMIT - 300))
    large = notice(summary="ä" * (NOTICE_LIMIT // 2))

    assert len(parse(fenced(almost)).summary) == NOTICE_LIMIT - 300
    message = refusal(fenced(json.dumps(large, ensure_ascii=False)))
    assert f"bytes, at most {NOTICE_LIMIT}" in message


@pytest.mark.parametrize(
    "noise",
    [
        "`" * 4_000_000,
        "```\n" * 500_000,
        "```json\n{" * 500_000,
        "```\n{\n" * 200_000,
        "{" * 4_000_000,
        "```json\n" + "{" * 4_000_000,
        "```json\n" + '{"roy REQ-1":' * 300_000,
        '```\n{"agent": "roy", "req_number": "REQ-1"\n' * 50_000,
        '```\n{"agent": "roy"' + " " * 4_000_000,
        '```\n{"' + "\\u0041" * 600_000,
        " " * 4_000_000,
        "\t" * 2_000_000 + "```",
        '"agent":' * 500_000,
        "~" * 1_000_000 + "\n" + "`~" * 1_000_000,
    ],
    ids=range(14),
)
def test_megabytes_of_noise_cost_seconds_at_most(noise: str) -> None:
    output = noise + "\n" + fenced(notice())
    begun = time.process_time()

    accepted = parse(output)

    assert accepted.raw == notice()
    assert time.process_time() - begun < 5


NOISE = st.lists(
    st.one_of(
        st.text(),
        st.sampled_from(
            [
                "```",
                "~~~~",
                "```json",
                "```python\nroy = {}",
                "{",
                "}",
                '{"agent": "roy"',
                fenced(notice(summary="an older one")),
                fenced(notice("billy")),
                fenced(notice(req_number="REQ-2")),
                "> ```json",
            ]
        ),
    ).map(lambda text: text + "\n")
).map("".join)
OTHERS = st.lists(
    st.one_of(
        st.text(alphabet=st.characters(exclude_characters="`~{")),
        st.sampled_from([fenced(notice("billy")), fenced({"a": 1}), "```", "~~~", "{}", "```json"]),
    ).map(lambda text: text + "\n")
).map("".join)
NOTICES = st.fixed_dictionaries(
    {"summary": st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)},
    optional={
        "changes": st.dictionaries(st.sampled_from("ab"), st.lists(st.integers())),
        "failures": st.lists(st.sampled_from(["```", "{", "~~~\n"])),
    },
).filter(lambda fields: str(fields["summary"]).strip())


@given(NOISE, NOTICES, OTHERS, st.sampled_from(["```", "~~~", "`````"]), st.booleans())
def test_a_valid_notice_is_found_in_any_noise(
    before: str, fields: dict[str, object], after: str, fence: str, windows: bool
) -> None:
    output = before + "\n" + fenced(notice(fields=fields), fence) + after

    accepted = parse(output.replace("\n", "\r\n") if windows else output)

    assert accepted.raw == notice(fields=fields)


@given(st.text())
def test_any_output_is_refused_with_a_reason(output: str) -> None:
    assert refusal(output).startswith("No notice of roy: ")


@given(st.integers(0, len(fenced(notice())) - 8))
def test_a_truncated_notice_is_never_accepted(length: int) -> None:
    assert refusal(fenced(notice())[:length])


FAIL = {"test_result": "FAIL"}


@pytest.mark.parametrize(
    "later",
    [
        json.dumps(notice("billy", FAIL)),
        json.dumps(notice("billy", FAIL), indent=1),
        fenced(notice("billy", FAIL), info="js"),
        fenced(notice("billy", FAIL), info="text"),
        "* " + fenced(notice("billy", FAIL)).replace("\n", "\n  "),
        f"```yaml\nagent: billy\nreq_number: {NUMBER}\ntest_result: fail\n```\n",
        "<result>" + json.dumps(notice("billy", {"testResult": "FAIL"})) + "</result>",
        "agent: billy, status: BLOCKED",
    ],
)
def test_later_word_of_the_agent_that_says_otherwise_is_a_doubt(later: str) -> None:
    said = refusal(fenced(notice("billy")) + later, "billy")

    assert "followed by text of billy that says" in said


@pytest.mark.parametrize(
    "later",
    [
        json.dumps(notice("billy")),
        json.dumps(notice("liz", FAIL)),
        json.dumps({**notice("billy", FAIL), "req_number": "REQ-2"}),
        "billy has found that test_result: FAIL is what the other one says",
    ],
)
def test_later_word_of_somebody_else_or_of_the_same_meaning_is_none(later: str) -> None:
    assert parse(fenced(notice("billy")) + later, "billy").test_result == "PASS"
