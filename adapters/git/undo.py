"""One commit that takes back what a requirement has brought to its target."""

from adapters.git.squashed import has_arrived
from adapters.git.store import Store
from pipeline.errors import ProjectRefused
from pipeline.model import Undo

SHOWN = 10


async def revert(store: Store, number: str, target: str, tip: str, undo: Undo) -> str:
    """A commit after the target's `tip`, without what lies between `before` and `commit`.

    What came later stays. The target may hold the work as other commits, squashed by a forge. No
    ref stands for it. Raises: ProjectRefused if the target does not hold that work, holds nothing
    of it any more, or has changed the same lines since.
    """
    is_here = await store.git.commit_of(undo.commit) is not None
    holds = is_here and await store.is_ancestor(undo.commit, tip)
    if not holds and not (is_here and await has_arrived(store, undo.commit, tip)):
        raise ProjectRefused(
            f"{target} does not hold what {undo.number} delivered, up to {undo.commit[:10]}: there "
            "is nothing to undo on it. If it was merged in other commits, revert those."
        )
    # As if somebody had brought the old files back right after the delivery: git merges that.
    start, ours = undo.commit, tip
    if not holds:  # then what came later is what lies between the delivered files and the tip's
        start = await store.commit_tree(undo.commit, (), "Delivered\n")
        ours = await store.commit_tree(tip, (start,), "Later\n")
    back = await store.commit_tree(undo.before, (start,), "Back\n")
    merge = await store.merge(ours, back, "Back\n", attributes_of=tip)
    if merge.conflicts:
        shown = ", ".join(merge.conflicts[:SHOWN])
        more = len(merge.conflicts) - SHOWN
        raise ProjectRefused(
            f"{undo.number} cannot be undone by itself: later commits of {target} have changed the "
            f"same lines of {shown}{f' and {more} more files' if more > 0 else ''}. Undo those "
            f"first, or start a requirement that takes it back."
        )
    if await store.tree(merge.tip) == await store.tree(tip):
        raise ProjectRefused(f"{target} holds nothing of {undo.number} any more: it is undone.")
    subject = f"{number}: Revert {undo.number}: {undo.title}"
    body = f"This takes back what {undo.number} delivered: {undo.before}..{undo.commit}"
    return await store.commit_tree(merge.tip, (tip,), f"{subject}\n\n{body}\n")
