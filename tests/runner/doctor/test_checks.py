"""A check is a line, on the driver's machine and on a node: well, or one sentence that says what to do."""

import dataclasses

import pytest

from runner.doctor.checks import Expected, Machine, code_digest, installed_versions, mark_in, run_checks
from runner.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings.from_environment({"R2D2_HOME": str(tmp_path / "home"), "HOME": str(tmp_path)})


@pytest.fixture
def expected(settings):
    with mark_in(str(settings.home)) as mark:
        yield Expected(installed_versions(), code_digest(), mark, gpus=0.0)


def found(settings, expected) -> dict[str, tuple[bool, str]]:
    return {check.name: (check.ok, check.finding) for check in run_checks(Machine(settings, expected))}


def test_a_node_like_the_driver_is_well_and_nothing_is_left_behind(settings, expected):
    lines = found(settings, expected)
    assert all(ok for ok, _ in lines.values()), lines
    assert lines["versions"] == (True, "as the driver's")
    assert "the driver alone opens" in lines["mlflow"][1]
    assert sorted(path.name for path in settings.local.iterdir()) == ["cache", expected.mark]


def test_the_driver_has_the_same_list_and_three_checks_more(settings, expected, monkeypatch):
    monkeypatch.setattr("runner.doctor.checks._ON_THE_DRIVER", (("token", lambda _: "there"),))
    lines = found(settings, None)
    assert list(lines) == [*found(settings, expected), "token"]
    assert all(ok for ok, _ in lines.values()), lines
    assert "torch" in lines["versions"][1]
    assert lines["mlflow"][1].endswith("mlflow.db answers")


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("versions", {"versions": {"torch": "1.0", "mlflow": "0.1"}}, "the driver's is 1.0; mlflow is"),
        ("code", {"code": "0" * 64}, "the node has other code"),
        ("home", {"mark": "doctor-other"}, "is not what the driver sees there"),
        ("processors", {"gpus": 2.0}, "Ray counts 2 GPUs, but PyTorch"),
        ("mlflow", {"tracking_uri": "http://127.0.0.1:9"}, "does not answer"),
        ("hpatches", {"hpatches": "/nowhere/hpatches"}, "/nowhere/hpatches"),
        ("released network", {"released": "/nowhere/model.pt"}, "/nowhere/model.pt"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_and_the_rest_is_checked(
    settings, expected, monkeypatch, name, changes, sentence
):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    ours = {key: value for key, value in changes.items() if hasattr(expected, key)}
    theirs = {key: value for key, value in changes.items() if key not in ours}
    lines = found(dataclasses.replace(settings, **theirs), dataclasses.replace(expected, **ours))
    ok, finding = lines[name]
    assert not ok
    assert sentence in finding
    assert "\n" not in finding
    assert all(ok for other, (ok, _) in lines.items() if other != name)


def test_the_mark_is_taken_away(tmp_path):
    with mark_in(str(tmp_path)) as name:
        assert (tmp_path / name).is_file()
    assert not list(tmp_path.iterdir())
