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
    listed = await store.git.run(
        "rev-list", "--cherry-mark", "--right-only", "--min-parents=1", "--max-parents=1",
        f"{whole}...{branch}",
    )  # fmt: skip
    alike = [line.removeprefix("=") for line in listed.text.splitlines() if line.startswith("=")]
    # Git takes changes for alike that differ in white space alone, and that is code in Python.
    for commit in alike:
        if await _merge_makes(store, f"{commit}^", whole, commit):
            return True
    return await _merge_makes(store, branch, whole, branch)


async def _merge_makes(store: Store, ours: str, work: str, result: str) -> bool:
    """Whether to merge the work makes the files of `result`.

    Without attributes: a union of both sides is without conflict, and may lack what one deletes.
    """
    merge = await store.merge(ours, work, "Squashed\n", attributes_of=None)
    return not merge.conflicts and await store.tree(merge.tip) == await store.tree(result)
