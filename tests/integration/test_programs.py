import asyncio
import sys
import threading

from adapters.programs import await_children_by_descriptor


def test_children_are_awaited_without_a_thread_for_each() -> None:
    async def threads_beside_ten_children() -> tuple[set[int | None], set[threading.Thread]]:
        await_children_by_descriptor()
        command = (sys.executable, "-I", "-S", "-c", "import sys; sys.stdin.read()")
        children = [
            await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE)
            for _ in range(10)
        ]
        threads = set(threading.enumerate())
        await asyncio.gather(*(child.communicate(b"") for child in children))
        return {child.returncode for child in children}, threads

    before = set(threading.enumerate())
    codes, threads = asyncio.run(threads_beside_ten_children())

    assert codes == {0}
    assert threads <= before  # one of another test may have ended
