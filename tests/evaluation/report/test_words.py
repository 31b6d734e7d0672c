"""Keys read as the field writes them; each term is explained once, where it appears."""

import pytest

from evaluation.report.table import explained, heading, metric_heading


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("mma_3px", "MMA@3"),
        ("mma_10px_viewpoint", "MMA@10 viewpoint"),
        ("mha_1px_dlt", "MHA@1 DLT"),
        ("auc_5px_poselib", "AUC@5 PoseLib"),
        ("repeatability_1px", "repeatability@1"),
        ("localisation_error_px", "localisation error (px)"),
        ("matching_score", "matching score"),
        ("keypoints", "keypoints"),
    ],
)
def test_keys_read_as_the_field_writes_them(key, words):
    assert heading(key) == words


def test_a_role_stands_before_what_it_scored():
    assert metric_heading("hpatches/mma_3px") == "hpatches MMA@3"
    assert metric_heading("train/loss_peakiness") == "loss peakiness"
    assert metric_heading("mma_3px") == "MMA@3"


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
