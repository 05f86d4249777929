from pathlib import PurePosixPath

import pytest

from pipeline.agents_file import read_agents
from pipeline.delivery_settings import (
    CREATE,
    FIND,
    DeliveryMode,
    DeliverySettings,
    delivery_branch,
    filled,
)
from pipeline.errors import AgentsFileRefused


def read(text: str) -> DeliverySettings:
    return read_agents(text, "agents.toml", PurePosixPath("/project")).delivery


def test_without_a_table_the_target_is_moved() -> None:
    assert read("") == DeliverySettings(DeliveryMode.FAST_FORWARD)


def test_pull_requests_are_made_and_found_by_gh_unless_a_command_is_named() -> None:
    usual = read('[delivery]\nmode = "pull-request"')
    own = read('[delivery]\nmode = "pull-request"\ncommand = ["./forge", "{branch}"]')

    assert (usual.command, usual.find) == (CREATE, FIND)
    assert "GH_TOKEN" in usual.environment
    assert (own.command, own.find) == (("/project/forge", "{branch}"), ())
    assert own.environment == ()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('mode = "merge"', "delivery.mode: unknown mode 'merge'; known are fast-forward, branch"),
        ("mode = 1", "delivery.mode: must be a string"),
        ('remote = "--force"', "delivery.remote: '--force' is not the name of a remote"),
        ("command = []", "delivery.command: must name a program"),
        ("timeout_seconds = 6000", "delivery.timeout_seconds: must be at most 600"),
        ('author = "Ann"', "delivery.author: 'Ann' is not of the form Name <address>"),
        ('author = ". <a@b>"', "is not of the form"),
        ('mode = "branch"\nmerge_commit = true', "delivery.merge_commit: is for mode fast-forward"),
        ('target = "main"', "delivery.target: unknown key"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(line: str, reason: str) -> None:
    with pytest.raises(AgentsFileRefused, match=reason):
        read(f"[delivery]\n{line}")


def test_who_commits_is_a_name_and_an_address() -> None:
    assert read('[delivery]\nauthor = "Ann Lee <ann@b.example>"').author == (
        "Ann Lee",
        "ann@b.example",
    )
    assert read("[delivery]").author is None


@pytest.mark.parametrize(
    ("title", "branch"),
    [
        ("Greet in French", "agog/REQ-103-greet-in-french"),
        ("Grüße! (überall)", "agog/REQ-103-gr-e-berall"),
        ("日本語", "agog/REQ-103"),
        (f"{'a' * 59} word", f"agog/REQ-103-{'a' * 59}"),
    ],
)
def test_a_branch_is_named_after_number_and_title(title: str, branch: str) -> None:
    assert delivery_branch("REQ-103", title) == branch


def test_fields_are_filled_in_once_and_other_braces_stay() -> None:
    values = dict.fromkeys(("body_file", "target", "number", "remote"), "x")
    values |= {"title": "say {branch} $(rm)", "branch": "agog/REQ-1"}

    argv = filled(("gh", "{title}", "--head={branch}", "{url}", ".[].url"), values)

    assert argv == ("gh", "say {branch} $(rm)", "--head=agog/REQ-1", "{url}", ".[].url")
