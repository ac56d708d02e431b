"""PostgreSQL's server for the tests: the one that is there, or one brought here where that is simple."""

import glob
from typing import Callable, List, Optional, Sequence, Tuple

Runner = Callable[[Sequence[str]], Tuple[int, str]]

# Where the distributions put its programs, which are not on the PATH (PostgreSQL's packages, README.Debian).
PROGRAMS = ("/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb", "/usr/bin/initdb")


def find(patterns: Sequence[str] = PROGRAMS) -> Optional[str]:
    """Find its initdb, the newest."""
    found = [path for pattern in patterns for path in glob.glob(pattern)]
    return max(
        found, key=lambda path: [int(part) for part in path.split("/") if part.isdigit()], default=None
    )


def commands(root: bool, distribution: str) -> List[List[str]]:
    """How it may be had: by apt, from where the system's own packages come."""
    if not root or distribution not in ("debian", "ubuntu"):
        return []
    return [
        ["apt-get", "update"],
        ["apt-get", "install", "--yes", "--no-install-recommends", "postgresql"],
    ]


def ensure(
    run: Runner,
    present: Callable[[], Optional[str]],
    ways: Sequence[Sequence[str]],
    say: Callable[[str], None],
) -> None:
    """Bring it where there is none. Without it the tests that need it are skipped, and say so."""
    if present() or not ways:
        return
    say("Setting up: fetching PostgreSQL for the tests (about 60 MB)")
    for command in ways:
        run(command)
    if not present():
        say("PostgreSQL could not be installed (.venv/install.log says why): its tests will be skipped")
