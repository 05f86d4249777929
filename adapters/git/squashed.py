"""Whether work has reached a branch in other commits: squashed by a forge, say.

What is in doubt has not: nothing may be removed, or taken back, that is not there.
"""

from adapters.git.store import Store


async def has_arrived(store: Store, work: str, branch: str) -> bool:
    """Whether the commit `branch` holds all that `work` has changed, though not its commits.

    Either one commit of the branch makes the very same change, or to merge the work would change
    nothing any more. Work that has changed nothing is in no commit but its own.
    """
    common = (await store.git.run("merge-base", work, branch, accept=(0, 1))).line
    if not common or await store.tree(common) == await store.tree(work):
        return False
    whole = await store.commit_tree(work, (common,), "Squashed\n")
    (line,) = (await store.git.run("cherry", branch, whole)).text.splitlines()
    if line.startswith("-"):
        return True
    merge = await store.merge(branch, work, "Squashed\n", attributes_of=branch)
    return not merge.conflicts and await store.tree(merge.tip) == await store.tree(branch)
