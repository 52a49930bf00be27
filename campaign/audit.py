"""`python -m campaign.audit`: whether a vulnerability of any locked package is known, by pip-audit."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from corrsteer_core.base.paths import PACKAGE
from corrsteer_core.base.terminal import message

LOCK = PACKAGE.parent / "requirements.lock"
UNKNOWN = 2


def main() -> int:
    """Ask and tell; 0: none is known, 1: some are, 2: it could not be found out."""
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--requirement", str(LOCK)]
    command += ["--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    status, said = told(done.stdout, done.stderr)
    print(said, file=sys.stderr if status == UNKNOWN else sys.stdout)
    return status


def told(out: str, err: str) -> tuple[int, str]:
    """What pip-audit's answer means: our exit status and what to print."""
    try:
        packages: list[dict[str, Any]] = json.loads(out)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (err.strip().splitlines() or ["it printed nothing"])[-1]
        return UNKNOWN, _unreached(message(last))
    found = [f"{one['name']} {one['version']}: {bug['id']}" for one in packages for bug in one.get("vulns", [])]
    skipped = [str(one["skip_reason"]) for one in packages if "skip_reason" in one]
    if found:
        return 1, "\n".join(found)
    if skipped or not packages:
        why = skipped[0] if skipped else "no package was looked at"
        return UNKNOWN, _unreached(message(f"{len(skipped)} of {len(packages)} packages were not found there: {why}"))
    return 0, f"No vulnerability of the {len(packages)} locked packages is known."


def _unreached(why: str) -> str:
    return (
        f"Whether vulnerabilities are known could not be found out, since the data of pypi.org was not reached ({why}); "
        f"run it again where it can be."
    )


if __name__ == "__main__":
    sys.exit(main())
