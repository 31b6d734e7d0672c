"""Each term is explained once, where it appears."""

import pytest

from evaluation.report.terms import explained


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("variant", []),
        ("validation MMA@3  0.473 ±0.012", ["MMA@t", "±"]),
        ("AUC@5 PoseLib, AUC@3 DLT", ["MHA@t", "AUC@t", "DLT", "PoseLib"]),
        ("95 % interval p (Holm)", ["95 % interval", "p (Holm)"]),
        ("bench, protocol d2net (1a2b3c4d)", ["protocol", "digest"]),
        ("matching score, repeatability@1", ["repeatability@t", "matching score"]),
    ],
)
def test_the_terms_of_a_text_are_explained_and_no_others(text, terms):
    assert [sentence.partition(":")[0] for sentence in explained(text)] == terms
