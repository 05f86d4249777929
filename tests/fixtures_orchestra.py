"""An orchestra for each test: the worker is not yet running."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.local_stack import StackAddresses
from tests.orchestra import Orchestra


@pytest.fixture
async def orchestra(stack: StackAddresses, tmp_path: Path) -> AsyncIterator[Orchestra]:
    """A host with agents on strings; everything of it is gone after the test."""
    orchestra = Orchestra(stack, tmp_path)
    await orchestra.open()
    try:
        yield orchestra
    finally:
        await orchestra.close()
