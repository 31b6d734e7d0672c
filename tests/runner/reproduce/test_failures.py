"""A reproduction that fails keeps what was trained and says where; one that is stopped stops its training."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from runner.reproduce import reproduction
from runner.reproduce.reproduction import reproduce
from runner.reproduce.target import find_target


@pytest.fixture
def run_again(store_sweep, settings, tmp_path, monkeypatch):
    """Reproduces a training by a program in place of `r2d2 sweep`; gets its text, returns what was said."""
    store_sweep()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    said = []

    def run(program, **options):
        package = tmp_path / "fake" / "runner"
        package.mkdir(parents=True)
        (package / "__main__.py").write_text(program)
        monkeypatch.setattr(reproduction, "running_root", lambda: package.parent)
        reproduce(find_target("mine:ap+cosine", settings), settings, said.append, this_code=True, **options)

    run.said = said
    return run


def kept_in(said):
    return Path(said[-1].rpartition(" stay in ")[2])


def test_of_a_training_that_fails_the_messages_stay(run_again, tmp_path):
    with pytest.raises(ValueError, match="the training of the reproduction failed: no memory"):
        run_again("import sys; print('a line\\nno memory'); sys.exit(3)")
    assert (kept_in(run_again.said) / "messages.txt").read_text() == "a line\nno memory\n"
    # Scratch folders are gone.
    assert sorted(path.name for path in tmp_path.glob("r2d2-*")) == [kept_in(run_again.said).name]


def test_of_a_training_that_cannot_be_compared_the_folder_of_the_user_stays(run_again, tmp_path):
    with pytest.raises(ValueError, match="the reproduction has 0 trials and not one"):
        run_again("print('done')", keep=tmp_path / "kept")
    assert kept_in(run_again.said) == tmp_path / "kept"
    assert (tmp_path / "kept" / "messages.txt").read_text() == "done\n"


def test_a_damaged_score_of_another_seed_is_said_before_anything_is_trained(
    run_again, store_sweep, settings, tmp_path
):
    target = find_target("mine:ap+cosine", settings, seed=2)
    target.history.store.write("epoch_001.validation.json", b"{")
    with pytest.raises(ValueError, match=r"epoch_001\.validation\.json is damaged"):
        run_again("open('trained', 'w')")
    assert not (tmp_path / "fake" / "trained").exists()


def test_sigterm_ends_the_training_too(run_again, tmp_path, monkeypatch):
    def unheard(*_):
        raise AssertionError("nobody heard the signal")

    def stop():
        while not (number := tmp_path / "number").exists() or not number.read_text().endswith("\n"):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(reproduction, "STOPS_WITHIN_S", 0.2)
    stopper, former = threading.Thread(target=stop), signal.signal(signal.SIGTERM, unheard)
    try:
        stopper.start()
        with pytest.raises(KeyboardInterrupt):
            run_again(
                "import os, signal, time\n"
                "def note(*_): open('heard', 'w')\n"
                "signal.signal(signal.SIGINT, note)\n"
                f"print(os.getpid(), file=open({str(tmp_path / 'number')!r}, 'w'), flush=True)\n"
                "time.sleep(100); time.sleep(100)\n"
            )
        assert signal.getsignal(signal.SIGTERM) is unheard
    finally:
        signal.signal(signal.SIGTERM, former)
        stopper.join()
    assert (tmp_path / "fake" / "heard").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "number").read_text()), 0)
