"""A training is found by any name that a user has for it; a wrong name is one sentence."""

from dataclasses import replace

import pytest
from PIL import Image

from r2d2.processor.kind import Processor
from r2d2.source_code import SourceCode, source_code
from runner.record.history import Record, put_json
from runner.record.layout import provenance_name
from runner.record.provenance import Provenance
from runner.reproduce.inputs import find_inputs
from runner.reproduce.reproduction import reproduce
from runner.reproduce.target import deciding_value, find_target, scores_by_variant

TABLE = "table_001.validation.json"


@pytest.mark.parametrize("variant", ["ap+cosine (scratch)", "ap+cosine"])
def test_a_variant_is_found_by_its_row_or_its_loss_and_the_smallest_seed_is_taken(
    store_sweep, settings, variant
):
    store_sweep(seeds=(1, 2, 3))
    target = find_target(f"mine:{variant}", settings)
    assert str(target) == "ap+cosine (scratch), seed 1, of the sweep 'mine'"
    assert (target.epoch, deciding_value(target, target.history)) == (1, 0.50)
    assert find_target(f"mine:{variant}", settings, seed=3).trial.config.seed == 3
    assert scores_by_variant(target) == {"ap+cosine (scratch)": pytest.approx([0.50, 0.52, 0.51])}


@pytest.mark.parametrize(
    ("text", "seed", "said"),
    [
        ("other:ap+cosine", None, "there is no sweep 'other'"),
        ("mine:ap+dise", None, "unknown variant 'ap.dise' .*ap.cosine .scratch."),
        ("mine", None, "unknown variant '' .*ap.cosine .scratch."),
        ("../mine:x", None, "names no run; write runs:/ID, models:/NAME@ALIAS or SWEEP:VARIANT"),
        ("mine:ap+cosine", 7, r"has the seeds \[0, 1, 2\], not 7"),
    ],
)
def test_a_name_that_names_no_training_is_refused_with_those_there_are(
    store_sweep, settings, text, seed, said
):
    store_sweep()
    with pytest.raises(ValueError, match=said):
        find_target(text, settings, seed)


def test_one_changed_pixel_names_its_photograph(store_sweep, settings, photos):
    store_sweep()
    target = find_target("mine:ap+cosine", settings)
    assert find_inputs(target, settings) == []
    with Image.open(photos / "b.png") as image:
        image.putpixel((5, 5), (1, 2, 3))
        image.save(photos / "b.png")
    [difference] = find_inputs(target, settings)
    assert (difference.kind, difference.name) == ("photograph", "b.png")
    assert difference.was != difference.now


def test_photographs_that_were_moved_are_found_where_the_user_says(store_sweep, settings, photos, tmp_path):
    store_sweep()
    photos.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"the data of ap.cosine .* cannot be had"):
        find_inputs(find_target("mine:ap+cosine", settings), settings)
    moved = find_target("mine:ap+cosine", settings, photos=str(tmp_path / "moved"))
    assert find_inputs(moved, settings) == []


def test_a_photograph_that_is_gone_and_missing_weights_are_said(store_sweep, settings, photos, tmp_path):
    store_sweep()
    store_sweep(init=str(tmp_path / "gone.pt"), name="tuned")
    with pytest.raises(ValueError, match=r"the start weights of .* cannot be had: there is no model"):
        find_inputs(find_target("tuned:ap+cosine", settings), settings)
    (photos / "b.png").unlink()
    with pytest.raises(ValueError, match=r"of 3 files 1 are gone or unusable: b.png"):
        find_inputs(find_target("mine:ap+cosine", settings), settings)


def refusal(settings, tmp_path, **options):
    """What refuses to reproduce the first seed; nothing may be left behind."""
    target, keep = find_target("mine:ap+cosine", settings), tmp_path / "kept"
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the caller looks at it)
        reproduce(target, settings, lambda _: None, keep=keep, **options)
    assert not keep.exists()
    return str(error.value)


def test_a_training_whose_code_nobody_recorded_is_refused(store_sweep, settings, tmp_path):
    store_sweep()
    assert "did not record its code; --this-code trains" in refusal(settings, tmp_path)


def test_a_commit_that_is_not_here_is_said_before_anything_runs(store_sweep, settings, tmp_path):
    sweep = store_sweep(attempt=1)
    record = Provenance(SourceCode("v", "f" * 40, "gone"), {}, Processor("A CPU", "AVX2", 1))
    record.save(sweep.store, 1)
    said = refusal(settings, tmp_path)
    assert "the run's commit ffffffffffff (branch 'gone') is not in the repository" in said


def test_a_training_in_two_parts_of_different_packages_is_refused(store_sweep, settings, tmp_path):
    sweep = store_sweep(attempt=1)
    record = Provenance(SourceCode("v", "f" * 40), {"torch": "1"}, Processor("A CPU", "AVX2", 1))
    record.save(sweep.store, 1)
    replace(record, packages={"torch": "2"}).save(sweep.store, 2)
    history = sweep.history(find_target("mine:ap+cosine", settings).trial)
    history.write(Record(2, "train", {}, "uri", attempt=2))
    assert "in parts, by 2 different states of code or packages;" in refusal(settings, tmp_path)
    replace(record, packages={"torch": "1"}).save(sweep.store, 2)
    assert "is not in the repository" in refusal(settings, tmp_path)
    # The same code and packages under the name of another branch are one state.
    replace(record, code=replace(record.code, branch="other")).save(sweep.store, 2)
    assert "is not in the repository" in refusal(settings, tmp_path)
    sweep.store.delete(provenance_name(2))
    assert "different states of code or packages, of which one was not recorded" in refusal(
        settings, tmp_path
    )


def test_a_seed_is_refused_where_the_name_is_that_of_one_training(settings):
    for text in ("runs:/" + "a" * 32, "a" * 32, "models:/r2d2@champion"):
        with pytest.raises(
            ValueError, match=f"--seed chooses one of SWEEP:VARIANT; '{text}' is one training"
        ):
            find_target(text, settings, seed=1)


def test_a_table_that_is_gone_is_said_before_anything_runs(store_sweep, settings, tmp_path):
    sweep = store_sweep()
    history = sweep.history(find_target("mine:ap+cosine", settings).trial)
    for change in (
        lambda: put_json(history.store, TABLE, {"pairs": []}),
        lambda: history.store.delete(TABLE),
    ):
        change()
        said = refusal(settings, tmp_path, this_code=True)
        assert "the table of 'validation' of epoch 1 of ap+cosine" in said
        assert "its weights and scores cannot be compared" in said


def test_changes_of_code_that_this_user_did_not_make_do_not_run(store_sweep, settings, tmp_path):
    sweep = store_sweep(attempt=1)
    code = replace(source_code(), diff="whoever may write to the store may have put this here", left_out=())
    Provenance(code, {}, Processor("A CPU", "AVX2", 1)).save(sweep.store, 1)
    said = refusal(settings, tmp_path)
    assert "what was not committed" in said
    assert "give --trust to run it" in said
    # Trusted, it is refused for what it is.
    assert "does not fit its commit" in refusal(settings, tmp_path, trust=True)
