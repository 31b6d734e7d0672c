"""Measures a pair of images: matching, mean matching accuracy, homography accuracy, repeatability."""
