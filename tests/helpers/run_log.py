"""What `RunLogger` makes of events, one at a time: tests log into MLflow's runs so directly."""

from runner.record.history import Record
from runner.tracking.files import checkpoint_file, final_files, score_files
from runner.tracking.run import checkpoint_tags


def log_epoch(run, step, metrics, tags=None):
    event = Record(step, "train", metrics, "")
    run.log([] if run.has(event) else [event], tags)


def log_evaluation(run, evaluation, step, role, maps=()):
    """A score: files first, then the figures that say that the files are there."""
    tags = run.score_tags(evaluation, role)
    run.log_files(score_files(evaluation, step, role, maps))
    log_epoch(run, step, {f"{role}/{key}": value for key, value in evaluation.scalars().items()}, tags)


def log_final(run, evaluation, role):
    pictures, tables = final_files(evaluation, role)
    run.log_files(pictures | tables)
    run.log((), run.table_tag(tables))


def log_checkpoints(run, best, best_epoch, last, epochs=None):
    if epochs is not None:
        run.log_files(checkpoint_file(best_epoch, epochs))
    run.log((), checkpoint_tags(best, best_epoch, last))
