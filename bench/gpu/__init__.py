"""Measures on one GPU all that decides, in two calls of six minutes: `bench/gpu.sh 1` and `bench/gpu.sh 2`.

It imports `r2d2`, `evaluation` and `bench` alone, and so needs PyTorch, NumPy, Pillow, SciPy, safetensors and
filelock, not Ray, MLflow or boto3.
"""
