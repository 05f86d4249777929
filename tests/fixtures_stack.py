"""One embedded stack for the whole test session: start-up is paid once.

Under pytest-xdist every worker process is a session of its own and so has a stack of its own, on
other ports; tests share nothing but what they name themselves: use unique requirement numbers.
"""

import asyncio
from collections.abc import Iterator

import pytest

from adapters.local_stack import LocalStack, StackAddresses


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackAddresses]:
    """Addresses of real, empty servers."""
    local_stack = LocalStack(tmp_path_factory.mktemp("stack"), usual_ports=False)
    with asyncio.Runner() as runner:
        try:
            yield runner.run(local_stack.start())
        finally:
            runner.run(local_stack.stop())
