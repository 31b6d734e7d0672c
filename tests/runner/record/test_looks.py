"""Each network that a test benchmark was shown counts once, and outlives its sweep."""

import pytest

from r2d2.storage.location import open_store
from runner.record.looks import FOLDER, Ledger, Looks, is_test


@pytest.fixture
def table(make_evaluation):
    """Makes the table of a network's score on the benchmark whose digest is all d."""

    def make(network: str = "a") -> dict:
        return make_evaluation().to_json() | {"model_digest": network * 64}

    return make


@pytest.fixture
def ledger(tmp_path):
    return Ledger.of_home(tmp_path, 1.0)


def test_each_network_counts_once_in_the_home(ledger, table):
    for network in "aab":
        ledger.look(table(network), "first")
    # The same network again, outside of its sweep, and one that belongs to none.
    ledger.look(table("a"))
    ledger.look(table("c"))
    assert ledger.looks("d" * 64) == Looks(3, 0, ())
    assert ledger.looks("d" * 64, "first") == Looks(3, 2, ())
    assert ledger.looks("e" * 64) == Looks(0, 0, ())


def test_the_first_look_is_kept(ledger, table, monkeypatch):
    ledger.look(table("a"))
    (file,) = ledger.store.walk()
    before = ledger.store.read(file.name)
    monkeypatch.setattr("runner.record.looks.time.time", lambda: 0.0)
    ledger.look(table("a"))
    assert ledger.store.read(file.name) == before
    assert b'"model_digest": "aaaa' in before


def test_looks_outlive_their_sweep(tmp_path, ledger, table):
    sweep = open_store(str(tmp_path / "sweeps/first"), 1.0)
    sweep.write("started.json", b"{}")
    Ledger.of_sweep(sweep).look(table("a"), "first")
    open_store(str(tmp_path), 1.0).delete_below("sweeps")
    assert (tmp_path / FOLDER).is_dir()
    assert ledger.looks("d" * 64, "first").sweep == 1


def test_a_benchmark_that_chose_is_marked_for_good(ledger, table):
    ledger.look(table("a"), "first")
    assert ledger.looks("d" * 64, "first").words("hpatches") == (
        "hpatches: 1 network of this home looked at it, 1 of them from this sweep."
    )
    ledger.choose("d" * 64, "first")
    later = ledger.looks("d" * 64, "second")
    assert later.choices == ("first",)
    assert "It chose the networks of first" in later.words("hpatches")
    assert Looks(0, 0, ()).words("hpatches") == ""


@pytest.mark.parametrize(
    ("role", "test"), [("hpatches", True), ("validation", False), ("train", False), ("", False)]
)
def test_validation_and_losses_test_nothing(role, test):
    assert is_test(role) is test
