"""The settings, with the command line's error where they are bad."""

import settings
from pipeline.errors import RefusedInput


def load_settings() -> settings.Settings:
    """The settings of this environment. Raises: RefusedInput naming each bad one."""
    try:
        return settings.load_settings()
    except settings.BadSettings as bad:
        raise RefusedInput(str(bad)) from bad
