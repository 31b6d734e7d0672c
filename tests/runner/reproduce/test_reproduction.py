"""The command line reproduces a training bit for bit, and names a changed photograph."""

import os
from pathlib import Path

import pytest
from answers import checked
from click.testing import CliRunner
from PIL import Image
from tiny_sweep import run, runs_of, write_sweep

from r2d2.source_code import running_root, source_code
from runner.__main__ import main
from runner.record.command import RunOptions
from runner.sweep.plan import SweepOptions

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    # Ray leaves sockets and processes for its own exit handlers to close.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray"),
]

ONE = """
sweep = Sweep(space={**TINY, "network": {"channels": 1, "dim": 32}, "epochs": 1}, baselines=False)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A sweep of one training on three photographs: the folder of its home, and of the photographs."""
    folder = tmp_path_factory.mktemp("reproduced")
    photos = folder / "photos"
    photos.mkdir()
    samples = Path(pytest.importorskip("skimage").__file__).parent / "data"
    for name in ("astronaut.png", "coffee.png", "chelsea.png"):
        (photos / name).write_bytes((samples / name).read_bytes())
    options = SweepOptions(run=RunOptions(overrides=(f"data.photos={photos}",)))
    plan, _ = run(write_sweep(folder, ONE), folder / "home", options)
    return plan, folder / "home", photos


def reproduce(home, *arguments):
    """The status and what was printed of the command; it leaves no scratch folder behind."""
    environment = {"R2D2_HOME": str(home), "OMP_NUM_THREADS": "1"}
    done = CliRunner().invoke(main, ["reproduce", *map(str, arguments)], env=environment)
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.skipif(not source_code().commit, reason="needs a git checkout, and this is none")
def test_a_run_comes_out_bit_for_bit_by_its_own_code(trained, tmp_path):
    plan, home, _ = trained
    [logged] = [run for run in runs_of(plan, home) if run.role == "trial"]
    assert logged.tags["mlflow.source.git.commit"] == source_code().commit
    before = sorted(str(path) for path in home.rglob("*") if path.is_file())
    status, printed, said = reproduce(home, f"runs:/{logged.run_id}", "--keep", tmp_path / "kept", "--json")
    assert status == 0, said
    answer = checked(printed)
    assert (answer["version"], answer["verdict"], answer["first"]) == (1, "identical", "")
    assert answer["was"] == answer["now"]
    assert answer["differences"] == []
    assert source_code().commit[:12] in answer["code"]
    assert (tmp_path / "kept" / "sweeps" / "reproduction" / "sweep.json").is_file()
    # MLflow's store and the caches aside, the home of the run stays as it was.
    after = sorted(str(path) for path in home.rglob("*") if path.is_file())
    assert [path for path in after if "/sweeps/" in path] == [path for path in before if "/sweeps/" in path]
    status, _, said = reproduce(home, f"runs:/{logged.run_id}", "--keep", tmp_path / "kept")
    assert (status, "is not empty" in said) == (2, True)


@pytest.mark.slow
def test_a_changed_photograph_is_named_and_other_numbers_are_not_identical(trained):
    _, home, photos = trained
    original = (photos / "coffee.png").read_bytes()
    try:
        with Image.open(photos / "coffee.png") as image:
            image.transpose(Image.Transpose.ROTATE_180).save(photos / "coffee.png")
        status, printed, said = reproduce(home, "tiny:ap+cosine", "--this-code")
    finally:
        (photos / "coffee.png").write_bytes(original)
    assert status in (0, 1), said
    assert "photograph coffee.png: " in printed
    assert not printed.startswith("identical")
    assert "95 % interval" in printed


def test_without_its_data_one_sentence_and_status_2(trained):
    _, home, photos = trained
    os.rename(photos, photos.with_name("away"))
    try:
        status, printed, said = reproduce(home, "tiny:ap+cosine")
    finally:
        os.rename(photos.with_name("away"), photos)
    assert (status, printed) == (2, "")
    last = said.splitlines()[-1]
    assert last.startswith(
        "error: the data of ap+cosine (scratch), seed 0, of the sweep 'tiny' cannot be had: "
    )


def test_the_running_code_lies_where_the_packages_are():
    assert (running_root() / "runner" / "reproduce").is_dir()
