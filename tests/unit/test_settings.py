from pathlib import Path

import pytest

from settings import DEFAULT_HOME, BadSettings, Settings, load_settings


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a developer's `.env` nor a variable of this cluster."""
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    for field in Settings.model_fields.values():
        assert field.alias
        monkeypatch.delenv(field.alias, raising=False)


def test_variables_of_the_system_are_not_taken_for_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """HOME is not AGOG_HOME, HOST not AGOG_HOST: field names must not be read."""
    before = load_settings()
    for name in {name.upper() for name in Settings.model_fields} - _aliases():
        monkeypatch.setenv(name, "/nonsense")

    assert load_settings() == before
    assert before.home == DEFAULT_HOME


@pytest.mark.parametrize("value", ["false", "False", "FALSE"])
def test_switch_is_off_in_any_case(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ENABLE_PARALLEL_EXECUTION", value)

    assert not load_settings().enable_parallel_execution


def test_bad_value_is_named_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_PARALLEL_STAGES", "hunter2")

    with pytest.raises(BadSettings, match="MAX_PARALLEL_STAGES") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_restart_command_is_split_as_a_shell_would(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().restart_nats_argv == ()
    monkeypatch.setenv("AGOG_RESTART_NATS", "systemctl restart 'my nats'")

    assert load_settings().restart_nats_argv == ("systemctl", "restart", "my nats")


def test_restart_command_with_an_open_quote_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGOG_RESTART_DATABASE", "sh -c 'oh")

    with pytest.raises(BadSettings, match=r"AGOG_RESTART_DATABASE: .*No closing quotation"):
        load_settings()


def _aliases() -> set[str]:
    return {str(field.alias) for field in Settings.model_fields.values()}
