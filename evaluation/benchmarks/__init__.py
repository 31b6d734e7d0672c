"""Opens and makes benchmarks: pairs of images with known homographies."""
