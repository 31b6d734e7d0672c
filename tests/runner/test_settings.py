from pathlib import Path

import pytest

from runner.settings import Settings


def test_everything_lies_in_the_home_folder(tmp_path):
    settings = Settings.from_environment({"R2D2_HOME": str(tmp_path)})
    assert settings.tracking_uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert settings.cache == tmp_path / "cache"
    assert settings.cache_gib == 20
    assert Settings.from_environment({}).home == Path(".r2d2").absolute()


@pytest.mark.parametrize(("text", "gib"), [("0", 0), ("1.5", 1.5), ("", 20)])
def test_the_limit_of_stored_predictions(text, gib):
    assert Settings.from_environment({"R2D2_CACHE_GIB": text}).cache_gib == gib


@pytest.mark.parametrize("text", ["-1", "much", "inf", "nan"])
def test_a_limit_that_is_none_is_refused(text):
    with pytest.raises(
        ValueError, match=f"R2D2_CACHE_GIB is '{text}'; it must be a number of GiB, at least 0"
    ):
        Settings.from_environment({"R2D2_CACHE_GIB": text})
