"""The doctor's probes of this host."""

from pathlib import Path

import pytest

from cli.doctor.host import host_probes
from settings import Settings, load_settings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    monkeypatch.setenv("AGOG_HOME", str(tmp_path / "not made yet"))
    return load_settings()


@pytest.mark.parametrize(("least", "is_well"), [(0, True), (10**9, False)])
async def test_doctor_and_care_have_one_bound_of_free_disk(
    settings: Settings, least: int, is_well: bool
) -> None:
    settings.min_free_disk_mb = least
    (disk,) = [probe for probe in host_probes(settings) if probe.name == "Disk"]

    check = await disk.check()

    assert check.ok is is_well
    assert is_well or f"less than {least} MiB" in check.advice
