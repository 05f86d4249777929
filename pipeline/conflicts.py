"""Whose a conflict with the target branch is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath


def conflict_owner(
    files: Sequence[str],
    builders: Sequence[tuple[str, str]],
    directories: Mapping[str, str],
) -> tuple[str, ...]:
    """The agent of the build in whose directory most of the files lie; else the first builder.

    `builders` are builds with their agents, `directories` where builds are made. One owner alone:
    two who resolve the same merge would conflict again. Empty where the plan builds nothing.
    """
    count = Counter(
        agent
        for file in files
        for build, agent in builders
        if build in directories and PurePosixPath(file).is_relative_to(directories[build])
    )
    if count:
        return (count.most_common(1)[0][0],)
    return (builders[0][1],) if builders else ()
