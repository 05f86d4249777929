"""How PostgreSQL, which refuses to run as root, is run by root."""

import os
import pwd
import shutil
import subprocess

from pipeline.errors import ServerNotStarted

_ROOT = 0
_OVERFLOW = 65534
"""How a user namespace shows whoever has no number in it."""


def unprivileged_prefix(title: str) -> tuple[str, ...]:
    """What to put before a command so that it does not see itself as root; empty for users.

    A user namespace in which our own files belong to an ordinary number: no file changes hands,
    no parent directory is opened up, no system user is made. Raises: ServerNotStarted.
    """
    if os.geteuid() != _ROOT:
        return ()
    unshare = shutil.which("unshare")
    if not unshare:
        raise _refusal(title, "there is no program unshare")
    user = _ordinary_user(title)
    prefix = (unshare, "--user", f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}", "--")
    trial = subprocess.run((*prefix, "true"), capture_output=True, text=True, check=False)
    if trial.returncode:
        raise _refusal(title, trial.stderr.strip())
    return prefix


def _ordinary_user(title: str) -> pwd.struct_passwd:
    """Somebody with an entry: PostgreSQL looks its own name up."""
    for user in pwd.getpwall():
        if user.pw_uid not in (_ROOT, _OVERFLOW):
            return user
    raise _refusal(title, "there is no user but root")


def _refusal(title: str, reason: str) -> ServerNotStarted:
    return ServerNotStarted(
        title,
        f"it does not run as root, and no user namespace could be made ({reason})."
        " Run as a normal user, or set DATABASE_URL to a PostgreSQL of your own.",
    )
