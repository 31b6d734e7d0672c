"""The command line: help that is enough, and one sentence with status 2 for whatever the user can mend."""

import errno
import json
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from answers import checked
from click.testing import CliRunner
from PIL import Image

from r2d2.checkpoint import save_checkpoint
from r2d2.config import TrainConfig
from r2d2.extraction.keypoint_file import load_keypoints
from r2d2.extraction.settings import ExtractionSettings
from r2d2.network import build_network
from runner.__main__ import VERBS, main
from runner.cli.demo import demo_name
from runner.cli.evaluate import extraction_settings
from runner.models.extract import find_targets
from runner.settings import Settings
from runner.tracking.store import TrackingError

TINY = TrainConfig.from_dict({"network": {"channels": 1, "dim": 16}})

SWEEP = "from search_spaces.sweep import Sweep\nsweep = Sweep(space=SPACE, samples=True)\n"


@pytest.fixture
def r2d2(tmp_path, monkeypatch):
    """Runs a command in an empty home; returns click's result."""
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "R2D2_HPATCHES", "R2D2_RELEASED", "R2D2_CACHE_GIB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("R2D2_HOME", str(tmp_path / "home"))
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, build_network(TINY.network, seed=0), TINY, epoch=1)
    return folder


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def benchmark_folder(tmp_path, photos):
    folder = tmp_path / "benchmark"
    sequence = folder / "i_one"
    sequence.mkdir(parents=True)
    for number in range(1, 7):
        (sequence / f"{number}.png").write_bytes((photos / "a.png").read_bytes())
        if number > 1:
            np.savetxt(sequence / f"H_1_{number}", np.eye(3))
    return folder


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(r2d2, verb):
    result = r2d2(verb, "--help")
    assert result.exit_code == 0
    assert len(result.output.splitlines()) > 4


def test_the_help_names_every_verb(r2d2):
    output = r2d2("--help").output
    assert all(f"{verb} " in output for verb in VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_help_says_of_every_verb_what_the_verb_says_of_itself(verb):
    line = VERBS[verb][1]
    command = main.get_command(click.Context(main), verb)
    assert line.endswith(".")
    assert len(line) < 80
    assert command.help.split()[0] == line.split()[0] or verb == "promote"


def refused(result) -> str:
    """The sentence that a refused command ended with."""
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    sentence = result.output.strip().splitlines()[-1]
    assert sentence.startswith(("error: ", "Error: "))
    return sentence


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["swep"], "unknown verb 'swep'; known: ask, compare, data"),
        (["sweep", "stduy"], "unknown sweep 'stduy'; known: demo"),
        (["sweep", "smoke", "--set", "loss.similarity=dise"], "unknown similarity 'dise'"),
        (
            ["sweep", "smoke", "--set", "network.name=quick"],
            "unknown network 'quick' (network.name)",
        ),
        (["sweep", "smoke", "--set", "lss.similarity=dice"], "unknown key 'lss'"),
        (["sweep", "smoke", "--set", "epochs=many"], "epochs is 'many'; it must be a whole number"),
        (["sweep", "smoke", "--set", "epochs=-3"], "epochs is -3; it must be at least 0"),
        (["sweep", "smoke", "--evaluators", "0"], "Invalid value for '--evaluators'"),
        (["sweep", "smoke", "--photos", "/nowhere"], "/nowhere"),
        (["sweep", "smoke", "--hpatches", "/nowhere"], "/nowhere"),
        (
            ["sweep", "smoke", "--set", "data.held_out=0"],
            "scored on 'validation': data.held_out is 0",
        ),
        (["sweep", "smoke", "--name", "a/b"], "the sweep's name is 'a/b'"),
        (["sweep", "study"], "'study' needs training data"),
        (["sweep", "study", "--photos", "samples"], "--released PATH"),
        (["sweep", "smoke", "--set", "init=/nowhere.pt"], "there is no model /nowhere.pt"),
        (["evaluate", "/nowhere", "--benchmark", "/nowhere"], "/nowhere"),
        (
            ["extract", "/nowhere", "x.png"],
            "'x.png' is no image, folder, .txt list, place on S3 or pattern",
        ),
        (["compare", "nothing"], "there is no sweep 'nothing'"),
        (["evaluate", "x", "--benchmark", "y", "--protocol", "d3net"], "known: d2net, d2net-full, glue"),
        (["extract", "features:mine", __file__], "names files of features; a network is needed here"),
        (["promote"], "name a sweep or a run"),
        (["promote", "nothing"], "nothing"),
    ],
)
def test_bad_input_ends_with_one_sentence_and_status_2(r2d2, command, sentence):
    assert sentence in refused(r2d2(*command))


@pytest.mark.parametrize(
    "command",
    [
        ["extract", "MODEL", "NAME"],
        ["show", "MODEL", "NAME"],
        ["show", "MODEL", "photos/a.png", "NAME"],
        ["show", "--pairs", "NAME"],
        ["evaluate", "MODEL", "--benchmark", "NAME"],
        ["evaluate", "NAME", "--benchmark", "photos"],
        ["sweep", "smoke", "--photos", "NAME"],
        ["data", "check", "NAME"],
    ],
)
def test_a_name_that_is_no_text_is_one_sentence_and_nothing_is_written(
    r2d2, checkpoint, photos, monkeypatch, command
):
    monkeypatch.chdir(photos.parent)
    name = os.fsdecode(b"photos/caf\xe9.png")
    os.rename(photos / "b.png", name)
    before = sorted(photos.parent.rglob("*"))
    values = {"MODEL": checkpoint, "NAME": name}
    sentence = refused(r2d2(*(values.get(word, word) for word in command)))
    assert sentence.startswith(r"error: the name of 'photos/caf\xe9.png' is not UTF-8; rename it")
    assert sorted(photos.parent.rglob("*")) == before


def test_a_pattern_that_finds_a_name_that_is_no_text_is_refused(r2d2, checkpoint, photos):
    os.rename(photos / "b.png", os.fsdecode(bytes(photos) + b"/caf\xe9.png"))
    assert r"caf\xe9.png' is not UTF-8" in refused(r2d2("extract", checkpoint, photos / "*.png"))
    assert not list(photos.glob("*.r2d2"))


def test_nothing_is_left_behind_by_a_refused_sweep(r2d2, tmp_path):
    refused(r2d2("sweep", "smoke", "--set", "loss.similarity=dise"))
    assert not (tmp_path / "home" / "sweeps").exists()


def test_a_folder_without_images_is_refused(r2d2, tmp_path):
    (tmp_path / "empty").mkdir()
    assert str(tmp_path / "empty") in refused(r2d2("sweep", "smoke", "--photos", tmp_path / "empty"))


def test_a_benchmark_without_sequences_is_refused(r2d2, checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "sequence" in refused(r2d2("evaluate", checkpoint, "--benchmark", tmp_path / "empty"))


def test_a_corrupt_checkpoint_is_refused(r2d2, checkpoint, benchmark_folder):
    weights = checkpoint / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "weights.safetensors" in refused(r2d2("evaluate", checkpoint, "--benchmark", benchmark_folder))


def test_a_pickle_in_a_checkpoint_is_refused(r2d2, checkpoint, benchmark_folder):
    (checkpoint / "weights.safetensors").write_bytes(pickle.dumps({"weights": 1}))
    assert "pickle" in refused(r2d2("evaluate", checkpoint, "--benchmark", benchmark_folder))


def test_an_mlflow_server_that_does_not_answer_is_named_at_once(r2d2, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9 does not answer" in refused(r2d2("sweep", "smoke"))


def test_sweeps_lists_every_sweep_with_its_question(r2d2):
    output = r2d2("sweeps").output
    assert "Does the whole path work?" in output
    assert "hyperparameters" in output


def test_a_dry_run_prints_every_trial_and_the_time_and_starts_nothing(r2d2, tmp_path):
    result = r2d2("sweep", "smoke", "--dry-run", "--set", "seed=7")
    assert result.exit_code == 0
    assert "ap-cosine-scratch-s7" in result.output
    assert "ap-dice-scratch-s7" in result.output
    assert "2 trials and 1 starting networks; " in result.output
    assert "the preparation of pairs and scoring are not counted" in result.output
    assert not (tmp_path / "home" / "sweeps").exists()


def test_a_sweep_of_ones_own_needs_no_docstring(r2d2, tmp_path):
    small = {
        "network": {"channels": 1, "dim": 16},
        "data": {"crop_size": 64, "held_out": 1, "pairs_per_epoch": 8},
    }
    (tmp_path / "mine.py").write_text(SWEEP.replace("SPACE", repr({**small, "epochs": 1})))
    result = r2d2("sweep", tmp_path / "mine.py", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "mine: mine.py" in result.output


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ("[]", "mine.py cannot be read: line 2: ValueError: the sweep has no trials"),
        ("{'epochs': {'grid_search': []}}", "the sweep has no trials"),
        ("[][0]", "mine.py cannot be read: line 2: IndexError: list index out of range"),
        ("{'epochs': ", "line 2"),
    ],
)
def test_a_sweep_of_ones_own_that_is_not_in_order_is_refused(r2d2, tmp_path, space, sentence):
    (tmp_path / "mine.py").write_text(SWEEP.replace("SPACE", space))
    assert sentence in refused(r2d2("sweep", tmp_path / "mine.py", "--dry-run"))


def test_evaluate_prints_a_table_and_writes_json(r2d2, checkpoint, benchmark_folder, tmp_path):
    file = tmp_path / "out.json"
    flags = ("--min-reliability", "0", "--min-repeatability", "0", "--min-size", "0", "--min-scale", "0.5")
    result = r2d2(
        "evaluate", checkpoint, "--benchmark", benchmark_folder, "--json", file, "--top-k", "50", *flags
    )
    assert result.exit_code == 0, result.output
    values = checked(file.read_text())
    assert values["settings"]["top_k"] == 50
    assert "top_k=50" in values["protocol"]
    assert values["protocol_digest"][:8] in result.output
    assert {"benchmark_digest", "timings", "arithmetic"} <= values.keys()
    # Six times the same image: every match is right.
    assert [pair["mma"][0] for pair in values["pairs"]] == [1.0] * 5
    assert {"sequence", "image", "keypoints1", "keypoints2", "matches", "mma"} <= values["pairs"][0].keys()
    assert values["summary"]["mha_1px_dlt"] == values["summary"]["repeatability_1px"] == 1
    for text in ("i_one", "MHA@1/3/5, DLT", "AUC@1/3/5, PoseLib", "repeatability@1/3", "s per image"):
        assert text in result.output
    # The look at the benchmark is written down, once for each network.
    r2d2("evaluate", checkpoint, "--benchmark", benchmark_folder)
    assert len(list((tmp_path / "home" / "looks").rglob("*.json"))) == 1


LOOSE = ("--min-reliability", "0", "--min-repeatability", "0", "--min-size", "0", "--min-scale", "0.5")


def test_evaluate_stores_predictions_unless_told_not_to(r2d2, checkpoint, benchmark_folder, tmp_path):
    command = ("evaluate", checkpoint, "--benchmark", benchmark_folder, *LOOSE)
    folder = tmp_path / "home" / "cache" / "predictions"
    assert "found in the store" not in r2d2(*command, "--no-cache").output
    assert not folder.exists()
    r2d2(*command)
    assert list(folder.glob("??/*.r2d2p"))
    assert "6 of 6 found in the store" in r2d2(*command).output
    assert "found in the store" not in r2d2(*command, "--no-cache").output


def test_evaluate_scores_features_of_others(r2d2, checkpoint, benchmark_folder, tmp_path):
    images = sorted((benchmark_folder / "i_one").glob("?.png"))
    r2d2("extract", checkpoint, *images, *LOOSE)
    for image in images[1:]:
        path = image.with_name(image.name + ".r2d2")
        with np.load(path) as archive:
            arrays = dict(archive)
        with path.open("wb") as file:
            np.savez(file, **arrays | {"descriptors": arrays["descriptors"] * 3})
    file = tmp_path / "out.json"
    command = ("evaluate", "--features", "r2d2", "--benchmark", benchmark_folder, "--json", file)
    result = r2d2(*command, "--protocol", "glue-factory-480")
    assert result.exit_code == 0, result.output
    # One sentence for five files.
    assert " ".join(result.output.split()).count("normalised (5 files, first ") == 1
    values = json.loads(file.read_text())
    assert (values["model"], values["protocol"], values["collapse"]) == ("r2d2", "glue-factory-480", None)
    assert values["summary"]["mma_1px"] == 1


def test_features_are_refused_with_the_file(r2d2, benchmark_folder, checkpoint):
    command = ("evaluate", "--benchmark", benchmark_folder)
    assert "i_one/1.png.mine" in refused(r2d2(*command, "--features", "mine"))
    (benchmark_folder / "i_one" / "1.png.mine").write_bytes(b"half a file")
    for number in range(2, 7):
        (benchmark_folder / "i_one" / f"{number}.png.mine").write_bytes(b"")
    assert "1.png.mine is no file of features" in refused(r2d2(*command, "--features", "mine"))
    assert "name either a MODEL or --features TAG" in refused(r2d2(*command))
    assert "name either a MODEL or --features TAG" in refused(
        r2d2(*command, checkpoint, "--features", "mine")
    )


@pytest.mark.parametrize("base", [ExtractionSettings(), ExtractionSettings(exact=True)])
@pytest.mark.parametrize("flag", [True, False])
def test_the_flag_exact_makes_a_protocol_exact_and_never_less_so(base, flag):
    settings = extraction_settings({"exact": flag, "full_resolution": False, "top_k": 7}, base)
    assert settings == ExtractionSettings(top_k=7, exact=flag or base.exact)


def test_extract_writes_skips_and_overwrites(r2d2, checkpoint, photos):
    flags = ("--min-reliability", "0", "--min-repeatability", "0", "--min-size", "0", "--min-scale", "0.5")
    assert "2 images extracted" in r2d2("extract", checkpoint, photos, *flags).output
    first = photos / "a.png.r2d2"
    keypoints = load_keypoints(first)
    assert keypoints.image_size == (128, 96)
    assert len(keypoints) > 10
    written = first.stat().st_mtime_ns
    assert "2 existed already" in r2d2("extract", checkpoint, photos, *flags).output
    answer = checked(r2d2("extract", checkpoint, photos, "--json", *flags).stdout)
    assert (answer["images"], answer["extracted"], answer["existed"]) == (2, 0, 2)
    assert first.stat().st_mtime_ns == written
    assert "2 images extracted" in r2d2("extract", checkpoint, photos, "--overwrite", *flags).output
    assert first.stat().st_mtime_ns > written


ALL = ("--min-reliability", "0", "--min-repeatability", "0", "--min-size", "0", "--min-scale", "0.5")


def test_extract_follows_links_and_counts_what_it_passes_over(r2d2, checkpoint, photos, tmp_path):
    store = tmp_path / "store"
    photos.rename(store)
    photos.mkdir()
    (photos / "train").symlink_to(store)
    (store / "back").symlink_to(photos)
    (store / "c.HEIC").touch()
    (store / "notes.txt").touch()
    done = r2d2("extract", checkpoint, photos, *ALL)
    assert done.exit_code == 0, done.output
    assert "2 images found, 2 images extracted" in done.output
    assert f"{photos}: passed over, named like no image: 1 .heic, 1 .txt" in done.output
    assert f"the link {photos}/train/back leads back to a folder that it lies in" in done.output
    assert (
        "2 images found, 0 images extracted, 2 existed already"
        in r2d2("extract", checkpoint, photos, *ALL).output
    )


def test_extract_says_of_each_image_why_it_has_no_keypoint(r2d2, checkpoint, photos):
    Image.fromarray(np.full((96, 128, 3), 255, np.uint8)).save(photos / "white.png")
    done = r2d2("extract", checkpoint, photos, "--top-k", "50")
    assert done.exit_code == 2
    for name in ("a", "b", "white"):
        assert f"{name}.png: 0 keypoints: at 128x96 pixels no size is searched (--min-size 256" in done.output
    assert "no image has a keypoint" in done.output
    done = r2d2("extract", checkpoint, photos, "--overwrite", *ALL, "--min-repeatability", "0.999")
    assert "white.png: 0 keypoints: it shows nothing" in done.output
    assert "a.png: 0 keypoints: none passes --min-reliability 0 and --min-repeatability 0.999" in done.output


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a.png\n.\n", "list.txt, line 2: '.' is a folder; a line names one image"),
        ("a.png\n".encode("utf-16"), "list.txt, line 1: the file is UTF-16; save it as UTF-8"),
        (b"a.png\nMu\xf1oz.png\n", "list.txt, line 2: the byte 0xf1 is not UTF-8; save it as UTF-8"),
        (b"# nothing\n\n", "list.txt names no image; a list has one a line"),
        (b"", "list.txt names no image; a list has one a line"),
    ],
)
def test_a_list_that_cannot_be_read_is_one_sentence(r2d2, checkpoint, photos, content, sentence):
    (photos / "list.txt").write_bytes(content)
    done = r2d2("extract", checkpoint, photos / "list.txt")
    assert done.exit_code == 2
    assert sentence in done.output.replace("\n", " ")


def test_a_folder_without_images_and_a_pattern_of_folders_are_errors(r2d2, checkpoint, photos):
    (photos / "empty").mkdir()
    assert "holds no image" in r2d2("extract", checkpoint, photos / "empty").output
    assert "is no image, folder" in r2d2("extract", checkpoint, photos / "emp*").output


def test_a_network_of_nan_is_refused_before_anything_is_done(r2d2, photos, benchmark_folder, tmp_path):
    network = build_network(TINY.network, seed=0)
    next(network.parameters()).data[0] = float("nan")
    torch.save(
        {"net": "Fast_Quad_L2Net_ConfCFS(mchan=1, dim=16)", "state_dict": network.state_dict()},
        tmp_path / "nan.pt",
    )
    save_checkpoint(tmp_path / "nan", network, TINY, epoch=1)
    for model in ("nan.pt", "nan"):
        commands = (
            ("extract", tmp_path / model, photos),
            ("show", tmp_path / model, photos / "a.png", "--out", tmp_path / "a.png"),
            ("evaluate", tmp_path / model, "--benchmark", benchmark_folder, "--json", tmp_path / "out.json"),
        )
        for command in commands:
            done = r2d2(*command)
            assert done.exit_code == 2
            assert "holds NaN or infinity" in done.output
    assert sorted(path.suffix for path in photos.iterdir()) == [".png", ".png"]
    assert not (tmp_path / "out.json").exists()


def test_extract_names_refused_images_and_does_the_others(r2d2, checkpoint, photos):
    (photos / "a.png").write_bytes(b"no image")
    assert "a.png" in refused(r2d2("extract", checkpoint, photos))
    assert (photos / "b.png.r2d2").is_file()


def test_compare_writes_every_form_and_refuses_what_was_scored_otherwise(r2d2, make_evaluation, tmp_path):
    for name, bonus, digest in (("a", 0.0, "d"), ("b", 0.1, "d"), ("c", 0.1, "e")):
        scored = replace(make_evaluation(bonus, digest * 64), model=name, model_digest=name * 64)
        (tmp_path / f"{name}.json").write_text(json.dumps(scored.to_json()))
    a, b, c = (tmp_path / f"{name}.json" for name in "abc")
    forms = {"--html": "<!DOCTYPE html>", "--markdown": "# ", "--csv": "variant,", "--json": "{"}
    flags = [part for flag in forms for part in (flag, tmp_path / f"out{flag}")]
    result = r2d2("compare", f"mine={a}", b, *flags)
    assert result.exit_code == 0, result.output
    assert "difference to mine" in result.output
    assert checked((tmp_path / "out--json").read_text())["baseline"] == "mine"
    assert all((tmp_path / f"out{flag}").read_text().startswith(start) for flag, start in forms.items())
    assert "different images or homographies" in refused(r2d2("compare", a, c))
    assert "unknown baseline 'd'; known: a, b" in refused(r2d2("compare", a, b, "--baseline", "d"))


@pytest.mark.parametrize("charset", ["latin-1", "ascii"])
def test_a_character_that_the_terminal_does_not_have_is_replaced(
    r2d2, make_evaluation, tmp_path, monkeypatch, charset
):
    files = []
    for name, bonus in (("a", 0.0), ("b", 0.1)):
        scored = replace(make_evaluation(bonus), model=name, model_digest=name * 64)
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(scored.to_json()))
    console = CliRunner(charset=charset)
    result = console.invoke(main, ["compare", f"\u2020mine={files[0]}", f"\u2021={files[1]}"])
    assert result.exit_code == 0, result.output
    assert "?mine" in result.output
    result = console.invoke(main, ["compare", "\u2020no", "\u2021no"])
    assert result.exit_code == 2
    assert "no" in result.stderr


def test_any_metric_of_pairs_is_compared(r2d2, make_evaluation, tmp_path):
    files = []
    for name, error in (("a", 1.0), ("b", 0.5)):
        scored = replace(make_evaluation(), model=name, model_digest=name * 64)
        pairs = tuple(replace(pair, corner_error_dlt=error) for pair in scored.pairs)
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(replace(scored, pairs=pairs).to_json()))
    result = r2d2("compare", *files, "--metric", "auc_1px_dlt", "--json", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "AUC@1 DLT: difference to a" in result.output
    means = json.loads((tmp_path / "out").read_text())["means"]
    found = {
        m["variant"]: m["mean"] for m in means if (m["metric"], m["split"]) == ("auc_1px_dlt", "overall")
    }
    # Two errors of half a pixel: the curve rises in a straight line to the first and jumps at the second.
    assert found == {"a": 0.0, "b": pytest.approx((0.75 + 0.5) / 2)}
    sentence = refused(r2d2("compare", *files, "--metric", "auc_1px_poselib"))
    assert "auc_1px_poselib was not computed" in sentence
    assert "known of these pairs: mma_1px to mma_15px, mha_1px_dlt," in sentence
    assert "poselib" not in sentence.partition("known of")[2]
    assert ", mma_5px" in refused(r2d2("compare", *files, "--metric", "mma5"))


@pytest.mark.parametrize("flag", ["--html", "--markdown", "--csv", "--json"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_compared(r2d2, tmp_path, flag):
    (tmp_path / "file").write_text("")
    assert "is a folder" in refused(r2d2("compare", "nothing", flag, tmp_path))
    assert "is no folder" in refused(r2d2("compare", "nothing", flag, tmp_path / "file" / "out"))


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_scored(r2d2, tmp_path):
    command = ("evaluate", "/nowhere", "--benchmark", "/nowhere", "--json", tmp_path)
    assert f"{tmp_path} is a folder" in refused(r2d2(*command))


def test_a_read_only_folder_is_refused_before_anything_is_extracted(r2d2, photos, monkeypatch):
    monkeypatch.setattr("runner.cli.options.os.access", lambda path, mode: Path(path) != photos)
    sentence = refused(r2d2("extract", "/nowhere", photos))
    assert f".png.r2d2 cannot be written: {photos} is read-only" in sentence


def test_a_home_that_cannot_be_made_is_named(r2d2, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("R2D2_HOME", str(tmp_path / "file" / "home"))
    assert f"{tmp_path}/file/home" in refused(r2d2("sweep", "smoke"))
    assert "NotADirectoryError" in r2d2("--traceback", "sweep", "smoke").output


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "error: No space left on device"),
        (TrackingError("MLflow did\nnot answer"), "error: MLflow did not answer"),
    ],
)
def test_what_goes_wrong_outside_is_told_in_one_sentence(r2d2, monkeypatch, error, sentence):
    def fail(settings):
        raise error

    monkeypatch.setattr("runner.doctor.nodes.run_checks", fail)
    assert refused(r2d2("doctor")) == sentence
    traced = r2d2("--traceback", "doctor")
    assert (traced.exit_code, "Traceback" in traced.output) == (2, True)


def test_a_mistake_of_our_own_is_no_sentence(r2d2, monkeypatch):
    def fail(settings):
        raise RuntimeError("a bug")

    monkeypatch.setattr("runner.doctor.nodes.run_checks", fail)
    result = r2d2("doctor")
    assert (result.exit_code, "RuntimeError: a bug" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("photos", "hpatches", "name"),
    [
        (None, None, "demo"),
        ("samples", None, "demo"),
        ("/data/my photos (1)", None, "demo-my-photos-1-D"),
        (None, Path("/data/hpatches"), "demo-hpatches-D"),
        ("/data/photos/", Path("/data/hpatches"), "demo-photos-D-hpatches-D"),
    ],
)
def test_the_demo_on_other_images_is_a_sweep_of_its_own(photos, hpatches, name):
    assert re.fullmatch(name.replace("D", "[0-9a-f]{6}"), demo_name(photos, hpatches))


def test_folders_of_the_same_name_are_sweeps_of_their_own(monkeypatch):
    monkeypatch.chdir("/")
    assert demo_name("/a/photos", None) != demo_name("/b/photos", None)
    assert demo_name("/a/photos", None) == demo_name("a/photos/", None)
    assert demo_name(None, Path("/a/hpatches")) != demo_name(None, Path("/b/hpatches"))


def test_the_demo_takes_a_name(r2d2):
    assert "the sweep's name is 'a/b'" in refused(r2d2("demo", "--name", "a/b"))


def test_photographs_that_cannot_be_read_do_not_take_the_held_out_places(r2d2, photos):
    for name in ("c", "d", "e"):
        (photos / f"{name}.png").write_bytes(b"no image")
    command = ("sweep", "smoke", "--dry-run", "--photos", photos, "--set")
    assert r2d2(*command, "data.held_out=1").exit_code == 0
    sentence = "only 2 of 5 photographs can be read; too few to hold out 3 and train on the rest"
    assert sentence in refused(r2d2(*command, "data.held_out=3"))


def test_a_run_of_no_sweep_is_not_promoted(r2d2, tracker, tracking_uri, experiment, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    run = tracker.client.create_run(experiment, run_name="another's")
    sentence = refused(r2d2("promote", "--run", run.info.run_id))
    assert "is of no sweep: it has no checkpoint to promote" in sentence


def test_images_are_named_by_file_folder_pattern_and_list(photos, monkeypatch):
    def found(*arguments):
        return [
            target.image
            for target in find_targets(tuple(map(str, arguments)), Settings.from_environment({})).targets
        ]

    a, b = photos / "a.png", photos / "b.png"
    (photos / "list.txt").write_bytes("\ufeff# a comment\na.png\n\n".encode())
    assert found(a) == [a]
    assert found(photos) == [a, b]
    assert found(photos / "*.png") == [a, b]
    assert found(photos / "list.txt", a) == [a]
    monkeypatch.chdir(photos)
    assert found("b.png") == [Path("b.png")]
