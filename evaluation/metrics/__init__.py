"""Measures a pair of images: matching, mean matching accuracy, homography accuracy, repeatability.

To add a metric, list it in `PAIR_METRICS` (`pair_metrics.py`).
"""
