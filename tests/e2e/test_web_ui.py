"""Temporal's Web UI, looked at and used in a headless Chromium: list, details, form, timeline.

It leaves its pictures in pytest's temporary directory; `make pictures` takes them to the docs.
"""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from adapters.local_stack import StackAddresses
from tests.chromium import Chromium, chromium
from tests.e2e.conftest import Cli, Host, until

ASKED, FAILED, CANCELLED = "REQ-WEB-1", "REQ-WEB-2", "REQ-WEB-3"
OURS = "ReqNumber STARTS_WITH 'REQ-WEB'"
TITLE = "Greet people in their own language"
DESCRIPTION = """The page follows the **language of the browser**.

- German, French and Danish
- see [the ticket](https://tickets.example.org/42)
"""
ESCALATE = {"critique_verdict": "ESCALATE", "reasons": ["Which <img src=x> languages | first?"]}
PLAN = """
name = "web"
[[groups]]
name = "Critique"
[[groups]]
name = "Implementation"
needs = ["Critique"]
[[stages]]
name = "Critique"
agent = "sylvia"
group = "Critique"
minutes = 500
[[stages]]
name = "Backend Implementation"
agent = "roy"
group = "Implementation"
minutes = 3000
[[stages]]
name = "Frontend Implementation"
agent = "jen"
group = "Implementation"
minutes = 3000
"""
"""A minute takes 2 ms."""


class WebUi:
    """The pages of one namespace in one tab."""

    def __init__(self, browser: Chromium, address: str) -> None:
        self.browser = browser
        self._address = address

    def show_list(self, query: str) -> None:
        """Show the workflows that a query finds."""
        path = f"/namespaces/default/workflows?query={quote(query)}"
        self.browser.visit(f"{self._address}{path}", width=2150, height=520)

    def show(self, number: str, tab: str, height: int = 1000) -> None:
        """Show a tab of a workflow."""
        api = f"{self._address}/api/v1/namespaces/default/workflows/{number}"
        with urllib.request.urlopen(api) as answer:
            run = json.load(answer)["workflowExecutionInfo"]["execution"]["runId"]
        path = f"/namespaces/default/workflows/{number}/{run}/{tab}"
        self.browser.visit(f"{self._address}{path}", height=height)

    def click(self, text: str, among: str = "button,li,a") -> None:
        """Click on what is seen with that text."""
        self.browser.click(f"{seen(among)}.filter(e => e.innerText.trim() === {text!r}).pop()")

    def numbers(self, *expected: str) -> None:
        """Wait until the list holds those workflows of the test and no others."""
        shown = "[...new Set(document.body.innerText.match(/REQ-WEB-\\d/g))].sort().join()"
        self.browser.until(f"{shown} === {','.join(sorted(expected))!r}")


def seen(selector: str) -> str:
    """The elements that are seen, as JavaScript."""
    return f"[...document.querySelectorAll({selector!r})].filter(e => e.offsetParent !== null)"


def frame(name: str) -> str:
    """The document of a part of User Metadata: `summary`, `details` or `currentDetails`."""
    return f"document.querySelector('iframe[id*={name}]').contentDocument"


@pytest.fixture
def web_ui(stack: StackAddresses, tmp_path: Path) -> Iterator[WebUi]:
    assert stack.web_ui
    with chromium(tmp_path / "profile") as browser:
        yield WebUi(browser, stack.web_ui)


@pytest.fixture
def requirements(cli: Cli, host: Host, tmp_path: Path) -> Iterator[None]:
    """One that asks, one that a human gave up, one that was cancelled."""
    plan, task = tmp_path / "web.toml", tmp_path / "task.md"
    plan.write_text(PLAN)
    task.write_text(f"# {TITLE}\n\n{DESCRIPTION}")
    host.restart({"sylvia": ESCALATE})
    for number in (ASKED, FAILED, CANCELLED):
        started = cli("start", number, "--file", str(task), "--pipeline", str(plan))
        assert started.code == 0, started.err
    for number in (ASKED, FAILED, CANCELLED):
        until(lambda n=number: "Asked since" in cli("status", n).out, f"{number} asks")  # type: ignore[misc] # bound per number
    assert cli("decide", FAILED, "abort", "--note", "Not now.").code == 0
    assert cli("cancel", CANCELLED).code == 0
    yield
    cli("cancel", ASKED)
    host.restart()


def test_web_ui_shows_what_is_asked_takes_the_answer_and_draws_what_ran(
    requirements: None, web_ui: WebUi, cli: Cli, tmp_path: Path
) -> None:
    browser = web_ui.browser

    # the list: Temporal's own states are true, and our attributes are columns
    for query, numbers in (
        ('ExecutionStatus="Failed"', [FAILED]),
        ('ExecutionStatus="Canceled"', [CANCELLED]),
        ('DeliveryStatus="BLOCKED"', [ASKED]),
        ('WaitingFor="human" AND ExecutionStatus="Running"', [ASKED]),
        (OURS, [ASKED, FAILED, CANCELLED]),
    ):  # fmt: skip
        web_ui.show_list(query)
        web_ui.numbers(*numbers)
    browser.click(f"{seen('[data-testid=workflows-summary-table-configuration-button]')}.pop()")
    for attribute in ("DeliveryStatus", "WaitingFor"):
        row = f"{seen('li')}.filter(e => e.innerText.trim() === {attribute!r}).pop()"
        browser.click(f"{row}.querySelector('button')")
        browser.until(
            f"localStorage.getItem('namespace-workflow-table-columns')?.includes({attribute!r})"
        )
    web_ui.show_list(OURS)  # the browser has kept the columns
    browser.until(f"{seen('td')}.some(e => e.innerText.trim() === 'human')")
    browser.picture(tmp_path / "web-ui-list.png")

    # the details: nothing is cut off, nothing of an agent is markup, links lead out
    web_ui.show(ASKED, "user-metadata", height=1400)
    browser.until(f"{frame('current')}.body.innerText.includes('{ASKED} is BLOCKED')")
    shown = browser.until(f"{frame('current')}.body.innerText")
    for text in ("A human is asked", "decide REQ-WEB-1 approve", "waiting", "It was expected"):
        assert text in shown
    assert "<img" in shown
    assert browser.evaluate(f"{frame('current')}.querySelectorAll('img').length") == 0
    wide, room = browser.until(
        f"(d => [d.scrollWidth, d.clientWidth])({frame('current')}.documentElement)"
    )
    assert wide <= room
    cells = browser.evaluate(
        f"[...{frame('current')}.querySelectorAll('td')].slice(0, 2).map(e => e.innerText.trim())"
    )
    assert cells == ["Critique", "sylvia"]
    link = f"{frame('user-metadata-details')}.querySelector('a').href"
    assert browser.until(link) == "https://tickets.example.org/42"
    browser.picture(tmp_path / "web-ui-details.png")

    # the form: an answer that it sends takes effect
    web_ui.click("More Actions")
    web_ui.click("Send an Update")
    browser.click(f"{seen('[data-testid=update-select-button]')}.pop()")
    web_ui.click("decide")
    browser.click(f"{seen('.cm-content')}.pop()")
    browser.type('{"answer": "approve", "who": "ann", "note": "All three."}')
    browser.picture(tmp_path / "web-ui-update.png")
    web_ui.click("Submit")
    until(lambda: cli("status", ASKED).out.startswith(f"{ASKED} DELIVERED"), "the answer")
    told = cli("status", ASKED, "--json").document
    assert {stage["state"] for stage in told["stages"]} == {"completed"}

    # the timeline: sentences, and two bars side by side
    web_ui.show(ASKED, "timeline", height=1500)
    bars = []
    for sentence in ("roy works on Backend Implementation", "jen works on Frontend Implementation"):
        label = f"{seen('button.event span')}.find(e => e.innerText.includes({sentence!r}))"
        bar = f"[...{label}.closest('button').querySelectorAll('.tl-line')]"
        boxes = f"{bar}.map(e => e.getBoundingClientRect()).filter(box => box.width > 0)"
        ends = "[Math.min(...boxes.map(b => b.left)), Math.max(...boxes.map(b => b.right))]"
        bars.append(browser.until(f"(boxes => boxes.length && {ends})({boxes})"))
    (left, right), (other_left, other_right) = bars
    assert min(right, other_right) - max(left, other_left) > 0.5 * (right - left)
    browser.picture(tmp_path / "web-ui-timeline.png")
