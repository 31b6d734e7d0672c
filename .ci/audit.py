"""Judges the report of pip-audit: status 1 for an advisory; where none could be asked for, it says why."""

import json
import sys
from pathlib import Path


def judge(report: Path, log: Path) -> tuple[int, str]:
    """The status and the sentence.

    Args:
        report: what pip-audit wrote (JSON); missing where it could not ask.
        log: what it and pip said meanwhile.
    """
    if not report.is_file() or not report.stat().st_size:
        lines = log.read_text().strip().splitlines() if log.is_file() else []
        return 0, f"No advisory was asked for: {lines[-1] if lines else 'pip-audit cannot be had'}"
    packages = json.loads(report.read_text())["dependencies"]
    asked = [package for package in packages if "skip_reason" not in package]
    if not asked:
        return (
            0,
            f"No advisory was asked for: the package index answers for none of {len(packages)} packages.",
        )
    found = [
        f"{package['name']} {package['version']}: {advisory['id']}, mended in "
        f"{', '.join(advisory['fix_versions']) or 'no version'}"
        for package in asked
        for advisory in package["vulns"]
    ]
    if found:
        return 1, "\n".join(found)
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    rest = f"; the package index does not answer for {', '.join(unknown)}" if unknown else ""
    return 0, f"No advisory is known of {len(asked)} packages{rest}."


if __name__ == "__main__":
    status, sentence = judge(*map(Path, sys.argv[1:3]))
    sys.stdout.write(f"{sentence}\n")
    sys.exit(status)
