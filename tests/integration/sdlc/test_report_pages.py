"""A report in every state of a requirement: document, text, Markdown, a page in a browser."""

import json
import re
from pathlib import Path

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from cli import output, report_many
from cli.report import document, read_report, text
from cli.report_page import page_of_many, page_of_one
from cli.trace import markdown
from pipeline.model import Priority, RequirementState
from settings import Settings
from tests.chromium import Chromium, chromium
from tests.sdlc_factory import (
    BACKEND,
    CRITIQUE,
    FRONTEND,
    RESEARCH,
    Requirement,
    a_failure,
    accept,
    an_order,
    begin,
    begin_fix,
)

HOSTILE = (
    "</pre></title><script>document.title='owned'</script><img src=x onerror=alert(1)> `` {{ 7*7 }}"
)
"""In HTML a script and an image, in Markdown a fence, in a template a field."""
UNBROKEN = "x" * 300
LONG = f"{HOSTILE}\n```\n````\n# {UNBROKEN}"


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(DATABASE_URL=database_url, AGOG_HOME=str(tmp_path / "home"), AGOG_HOST="host-1")


async def hostile(store: PostgresSdlcStore, number: str = "REQ-1") -> Requirement:
    """Repaired, asked and answered; whatever can be text of others is hostile."""
    requirement = Requirement(store, number)
    await store.accept(an_order(number, HOSTILE), LONG)
    await requirement.open()
    await requirement.run(RESEARCH)
    said = {"summary": HOSTILE, "deliverable": LONG}
    await requirement.open_stage(CRITIQUE)
    await requirement.close_stage(CRITIQUE, start=30, notice=said)
    await requirement.open_stage(FRONTEND)
    await requirement.build(passed=False)
    fix = await begin_fix(requirement)
    await fix.run(BACKEND)
    await fix.close()
    failure = a_failure(BACKEND, f"run {BACKEND}", error=LONG)
    await requirement.block(await requirement.fail(BACKEND, failure=failure))
    await requirement.reopen(BACKEND, why=HOSTILE)
    return requirement


async def in_every_state(store: PostgresSdlcStore) -> None:
    """REQ-1 delivered, and one each that is accepted, running, held, asked, failed, cancelled."""
    await (await hostile(store)).close()
    await accept(store, "REQ-ACCEPTED")
    running = await begin(store, "REQ-RUNNING")
    await running.run(RESEARCH)
    await running.open_stage(CRITIQUE)
    for number, state in (
        ("REQ-FAILED", RequirementState.FAILED),
        ("REQ-CANCELLED", RequirementState.CANCELLED),
    ):
        ended = await begin(store, number)
        await ended.open_stage(RESEARCH)
        await ended.close(state)
    asked = await begin(store, "REQ-ASKED")
    await asked.block(await asked.fail(RESEARCH))
    held = await begin(store, "REQ-HELD")
    await begin(store, "REQ-P0", Priority.P0)
    await held.try_stage(RESEARCH)


STATES = {
    "REQ-1": "DELIVERED",
    "REQ-ACCEPTED": "ACCEPTED",
    "REQ-RUNNING": "RUNNING",
    "REQ-FAILED": "FAILED",
    "REQ-CANCELLED": "CANCELLED",
    "REQ-ASKED": "BLOCKED",
    "REQ-HELD": "HELD",
    "REQ-P0": "RUNNING",
}


def printed(*parts: object) -> str:
    """What a terminal of 80 columns shows."""
    console = output.data()
    console.width = 80
    with console.capture() as shown:
        for part in parts:
            console.print(part, crop=False)
    return shown.get()


async def test_every_state_has_its_report(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, settings: Settings
) -> None:
    await in_every_state(sdlc_store)

    for number, state in {**STATES, "REQ-1-FIX-1": "DELIVERED"}.items():
        found = await read_report(settings, number, with_trace=True)
        told = document(found)
        assert json.loads(json.dumps(told, default=output._encode))["state"] == state
        parts = sum(each["seconds"] for each in told["time"])  # type: ignore[attr-defined]
        assert parts == pytest.approx(told["wall_seconds"])
        links = told["critical_path"]
        path = sum(each["seconds"] + each["delay_seconds"] for each in links)  # type: ignore[attr-defined]
        assert path == pytest.approx(told["wall_seconds"])
        assert told["usd"] == found.view.cost.usd
        assert f"{number} is {state}" in printed(*text(found))
        assert f'class="state {state}"' in page_of_one(found)
        assert found.trace
        assert markdown(found.trace).startswith(f"# Trace of {number}\n")

    rates = await sdlc_reader.rates()
    assert {each.number: each.state for each in rates.outcomes} == STATES
    assert "8 requirements: " in printed(*report_many.text(rates, None, compare=False))
    assert "nothing to compare" in printed(*report_many.text(rates, None, compare=True))
    assert "REQ-HELD" in page_of_many(rates, None)


async def test_an_empty_database_has_its_report(sdlc_reader: SdlcReader) -> None:
    rates = await sdlc_reader.rates()

    assert printed(*report_many.text(rates, None, compare=False)).startswith("No requirement ")
    assert report_many.document(rates, None)["delivered_percent"] is None
    assert "No requirement has ended" in page_of_many(rates, None)


async def test_words_of_others_are_no_markup(
    sdlc_store: PostgresSdlcStore, settings: Settings
) -> None:
    await hostile(sdlc_store)
    found = await read_report(settings, "REQ-1", with_trace=True)
    assert found.trace
    page, said = page_of_one(found), markdown(found.trace)

    assert re.findall(r"<(?:script|img)", page) == []
    assert page.count("&lt;script&gt;") > 3
    assert "{{ 7*7 }}" in page
    assert re.findall(r"""(?:src|href)=|url\(|@import""", page.replace("src=x", "")) == []
    outside = _outside_of_fences(said)
    assert "<script>" not in outside
    assert "\\<script\\>" in outside
    assert "# xxx" not in outside
    assert "The prompt of Critique, attempt 1, is gone" in outside


def _outside_of_fences(markdown_text: str) -> str:
    """As a reader of Markdown takes it: a fence ends at one that is as long."""
    fence, kept = "", []
    for line in markdown_text.splitlines():
        opening = re.match(r"(`{3,})", line)
        if fence:
            fence = "" if line.strip("`") == "" and len(line) >= len(fence) else fence
        elif opening:
            fence = opening[1]
        else:
            kept.append(line)
    assert not fence
    return "\n".join(kept)


# --- looked at ------------------------------------------------------------------------------------

LOOKS = """(() => {
  const root = document.documentElement;
  const wide = [...document.querySelectorAll('body *')]
    .filter(e => e.getBoundingClientRect().right > root.clientWidth + 1 && !e.closest('pre'))
    .map(e => e.tagName);
  const style = getComputedStyle(document.body);
  const bars = [...document.querySelectorAll('.gantt rect:not(.lane)')];
  return {
    title: document.title, wide, back: style.backgroundColor, ink: style.color,
    bars: bars.filter(e => e.getBoundingClientRect().width >= 1).length,
    small: [...document.querySelectorAll('p, td, dd, svg text')]
      .filter(e => parseFloat(getComputedStyle(e).fontSize) < 11).length,
    scripts: document.scripts.length, images: document.images.length,
  };
})()"""


async def test_the_page_is_readable_in_a_browser(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, settings: Settings, tmp_path: Path
) -> None:
    await (await hostile(sdlc_store)).close()
    found = await read_report(settings, "REQ-1", with_trace=True)
    pages = {
        "one": page_of_one(found).replace("<details>", "<details open>"),
        "many": page_of_many(await sdlc_reader.rates(), None),
    }

    with chromium(tmp_path / "profile") as browser:
        for name, page in pages.items():
            file = tmp_path / f"{name}.html"
            file.write_text(page)
            backs = {_look_at(browser, file, *how) for how in ((1200, False), (400, True))}
            assert len(backs) == 2, "light and dark look alike"
        assert browser.printed().startswith(b"%PDF-")

        assert {address.partition(":")[0] for address in browser.requests} == {"file"}
        assert browser.errors == []


def _look_at(browser: Chromium, file: Path, width: int, dark: bool) -> str:
    """Check what is seen, leave a picture of it beside the page, and give its background."""
    browser.look(file, width=width, dark=dark)
    browser.picture(file.with_suffix(f".{width}.png"))
    seen = browser.evaluate(LOOKS)
    assert seen["wide"] == [], (file.name, width)
    assert (seen["small"], seen["scripts"], seen["images"]) == (0, 0, 0)
    assert "owned" not in seen["title"].replace(HOSTILE, "")
    assert _contrast(seen["back"], seen["ink"]) > 7
    assert file.stem != "one" or seen["bars"] > 2
    return str(seen["back"])


def _contrast(one: str, other: str) -> float:
    """As WCAG 2 defines it; 7 is enough for small text at its highest level."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    shares = [int(each) / 255 for each in re.findall(r"\d+", colour)[:3]]
    linear = [s / 12.92 if s <= 0.03928 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
