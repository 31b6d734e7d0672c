import pytest

from evaluation.report.headings import heading


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
