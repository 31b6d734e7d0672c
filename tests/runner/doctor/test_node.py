"""What a node sees is a line each: well, or one sentence that says what to do."""

import dataclasses

import pytest

from runner.doctor.node import NodeCheck, Question, code_digest, installed_versions, mark_in


@pytest.fixture
def question(tmp_path):
    with mark_in(str(tmp_path / "home")) as seen:
        yield Question(
            versions=installed_versions(),
            code=code_digest(),
            home=str(tmp_path / "home"),
            seen=seen,
            places={},
            cache=str(tmp_path / "cache"),
            tracking_uri="sqlite:////nowhere/mlflow.db",
            gpus=0.0,
        )


def looked(question, **changes) -> dict[str, tuple[bool, str]]:
    lines = NodeCheck(dataclasses.replace(question, **changes)).look()
    return {name: (ok, finding) for name, ok, finding in lines}


def test_a_node_like_the_driver_is_well_and_leaves_nothing_behind(question, tmp_path):
    found = looked(question)
    assert all(ok for ok, _ in found.values()), found
    assert found["versions"] == (True, "as the driver's")
    assert "the driver alone opens" in found["mlflow"][1]
    assert [path.name for path in (tmp_path / "home").iterdir()] == [question.seen]


@pytest.mark.parametrize(
    ("name", "changes", "sentence"),
    [
        ("versions", {"versions": {"torch": "1.0", "mlflow": "0.1"}}, "the driver's is 1.0; mlflow is"),
        ("code", {"code": "0" * 64}, "the node has other code"),
        ("home", {"seen": "doctor-other"}, "is not what the driver sees there"),
        ("mlflow", {"tracking_uri": "http://127.0.0.1:9"}, "does not answer"),
        ("gpus", {"gpus": 2.0}, "Ray counts 2 GPUs, but PyTorch"),
        ("hpatches", {"places": {"hpatches": "/nowhere/hpatches"}}, "nothing is in /nowhere/hpatches"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_and_the_rest_is_looked_at(question, name, changes, sentence):
    found = looked(question, **changes)
    ok, finding = found[name]
    assert not ok
    assert sentence in finding
    assert "\n" not in finding
    assert all(ok for other, (ok, _) in found.items() if other != name)


def test_the_mark_is_taken_away(tmp_path):
    with mark_in(str(tmp_path)) as name:
        assert (tmp_path / name).is_file()
    assert not list(tmp_path.iterdir())


def test_one_node_alone_reduces_to_itself():
    check = NodeCheck.__new__(NodeCheck)
    assert check.reduce("127.0.0.1:0", 0, 1, "gloo") > 0
