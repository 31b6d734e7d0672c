"""Makes the files of a trial's run in MLflow: its list of checkpoints, tables and pictures of its scores."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from runner.tracking.tables import LoggedTable, mma_table, pair_table

if TYPE_CHECKING:
    from PIL.Image import Image

    from evaluation.evaluation import Evaluation
    from evaluation.pictures.maps import ImageMaps

MATCH_PICTURES = 2

# File name -> contents.
Files = dict[str, str | bytes]


def checkpoint_file(best_epoch: int, epochs: Mapping[int, str]) -> Files:
    """Returns the table of all checkpoints (epoch -> URI)."""
    rows = tuple((epoch, uri, epoch == best_epoch) for epoch, uri in sorted(epochs.items()))
    return {"checkpoints.json": LoggedTable(("epoch", "checkpoint", "best"), rows).json()}


def score_files(evaluation: Evaluation, step: int, benchmark_role: str, maps: Sequence[ImageMaps]) -> Files:
    """Returns the two tables of a score, and its picture if there are `maps`."""
    name = f"{benchmark_role}_epoch_{step:03d}.json"
    files: Files = {
        f"mma/{name}": mma_table(evaluation).json(),
        f"pairs/{name}": pair_table(evaluation).json(),
    }
    if maps:
        from evaluation.pictures.network import epoch_picture

        score = evaluation.scalars()["mma_3px"]
        picture = epoch_picture(maps, f"epoch {step}, {benchmark_role}: MMA@3 {score:.3f}")
        files[f"pictures/{benchmark_role}/epoch_{step:03d}.png"] = picture
    return files


def final_files(evaluation: Evaluation, benchmark_role: str) -> tuple[Files, Files]:
    """Returns the pictures (MMA curves, matches on two pairs) and tables of the final or the best epoch.

    The tables have names without an epoch, so that MLflow's table view shows them side by side for several
    runs.
    """
    from evaluation.pictures.matches import match_picture
    from evaluation.report.charts import mma_curves

    pictures: Files = {f"figures/mma_{benchmark_role}.svg": mma_curves(evaluation.table())}
    for number, example in enumerate(evaluation.examples[:MATCH_PICTURES], start=1):
        pictures[f"figures/matches_{benchmark_role}_{number}.png"] = _png(match_picture(example))
    tables: Files = {
        f"mma/{benchmark_role}.json": mma_table(evaluation).json(),
        f"pairs/{benchmark_role}.json": pair_table(evaluation).json(),
    }
    return pictures, tables


def _png(picture: Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return buffer.getvalue()
