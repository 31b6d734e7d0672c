"""Measures a pair of images: matching, mean matching accuracy, homography accuracy, repeatability.

To add a metric: compute it in `score_pair`, as a field of `PairScore` (`pair_score.py`), and list it in
`PAIR_METRICS` (`pair_metrics.py`).
"""
