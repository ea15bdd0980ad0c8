"""Where the source that made a result came from."""

import importlib.metadata
import json
import subprocess
from pathlib import Path


def installed_commit() -> str | None:
    """The commit of the installed source, if it is known.

    An installation from version control records it; a checkout that is imported in
    place is asked (`-dirty` marks uncommitted changes). Otherwise nothing is known.
    """
    try:
        text = importlib.metadata.distribution("jsnnq").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        text = None
    commit = json.loads(text or "{}").get("vcs_info", {}).get("commit_id")
    if commit:
        return commit
    package = Path(__file__).parents[1]
    if not (package.parent / ".git").exists():
        return None
    try:
        command = ["git", "describe", "--always", "--abbrev=40", "--dirty"]
        answer = subprocess.check_output(
            command, cwd=package, stderr=subprocess.DEVNULL, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.strip() or None
