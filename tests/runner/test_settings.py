from pathlib import Path

import pytest

from r2d2.storage.cache import CacheSettings
from runner.settings import Settings, inherited_variables


def test_everything_lies_in_the_home_folder(tmp_path):
    settings = Settings.from_environment({"R2D2_HOME": str(tmp_path)})
    assert settings.tracking_uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert settings.cache == tmp_path / "cache"
    assert settings.cache_gib == 20
    assert settings.objects == CacheSettings(str(tmp_path / "cache" / "objects"), 50 * 2**30, 300)
    assert Settings.from_environment({}).home == str(Path(".r2d2").absolute())


def test_a_cache_on_a_disk_of_the_node(tmp_path):
    given = {"R2D2_CACHE": str(tmp_path), "R2D2_OBJECTS_GIB": "0.5", "R2D2_S3_TIMEOUT": "9"}
    settings = Settings.from_environment(given)
    assert settings.cache == tmp_path
    assert settings.objects == CacheSettings(str(tmp_path / "objects"), 2**29, 9)


@pytest.mark.parametrize(("home", "made"), [("/shared", "/shared/cache"), ("s3://bucket/home", "/disk")])
def test_benchmarks_are_made_where_every_node_sees_them_or_copied_there(home, made):
    settings = Settings.from_environment({"R2D2_HOME": home, "R2D2_CACHE": "/disk"})
    assert settings.made_benchmarks == Path(made)
    assert (settings.benchmarks is None) == (home == "/shared")


def test_places_are_named_in_full():
    given = {"R2D2_HPATCHES": "s3://bucket/hpatches", "R2D2_RELEASED": "released.pt"}
    settings = Settings.from_environment(given)
    assert settings.hpatches == "s3://bucket/hpatches"
    assert settings.released == str(Path("released.pt").absolute())


@pytest.mark.parametrize(("text", "gib"), [("0", 0), ("1.5", 1.5), ("", 20)])
def test_the_limit_of_stored_predictions(text, gib):
    assert Settings.from_environment({"R2D2_CACHE_GIB": text}).cache_gib == gib


@pytest.mark.parametrize("text", ["-1", "much", "inf", "nan"])
@pytest.mark.parametrize(
    ("name", "unit"),
    [("R2D2_CACHE_GIB", "GiB"), ("R2D2_OBJECTS_GIB", "GiB"), ("R2D2_S3_TIMEOUT", "seconds")],
)
def test_a_limit_that_is_none_is_refused(text, name, unit):
    with pytest.raises(ValueError, match=f"{name} is '{text}'; it must be a number of {unit}, at least 0"):
        Settings.from_environment({name: text})


def test_a_former_name_of_a_variable_is_taken_with_a_sentence(caplog):
    former = {"R2D2_S3_PATIENCE": "9"}
    assert Settings.from_environment(former).s3_timeout == 9
    assert inherited_variables(former) == {"R2D2_S3_TIMEOUT": "9"}
    assert "R2D2_S3_PATIENCE is called R2D2_S3_TIMEOUT now" in caplog.text
    assert Settings.from_environment({**former, "R2D2_S3_TIMEOUT": "3"}).s3_timeout == 3
