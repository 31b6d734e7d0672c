"""What `sweep`, `demo` and `compare` show of a sweep: its table, and which differences are real."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console

from evaluation.comparison import compare
from runner.display import comparison, differences
from runner.stored import StoredSweep
from runner.table import Row


def show_comparison(
    console: Console, stored: StoredSweep, table: Sequence[Row], metric: str, baseline: str | None = None
) -> None:
    """Prints a sweep's table, and each variant's difference to the baseline (default: the first variant).

    Raises:
        ValueError: for an unknown baseline; names the known ones.
    """
    role, _, name = metric.partition("/")
    match = re.match(r"mma_(\d+)px", name)
    threshold = int(match[1]) if match else 3
    variants = stored.variants(role)
    trained = [label for label in stored.trained_labels() if label in {v.name for v in variants}]
    shown = [comparison(table, metric, f"{stored.folder.name}: {metric}")]
    if len(variants) > 1 and trained:
        found = compare(variants, baseline or trained[0], [threshold])
        shown.append(differences(found, threshold, role))
    for part in shown:
        console.print(part)
