"""A pair with flow costs about as much as decoding its files: only what is kept is computed."""

import time

import numpy as np
import pytest
import torch
from PIL import Image

from r2d2.config import DataConfig
from r2d2.data.pairs.flow_files import KittiFlow
from r2d2.data.places import open_place
from r2d2.data.sources import SOURCES

LIMIT = 3.0
ROUNDS = 8


def seconds(action):
    start = time.process_time()
    action()
    return time.process_time() - start


def decode(files):
    for file in files[:2]:
        with file.open() as content, Image.open(content) as image:
            np.asarray(image.convert("RGB"))
    if files[2].name.endswith(".png"):
        KittiFlow(files[2])
    else:
        np.frombuffer(files[2].read(), "<f4").copy()


@pytest.mark.parametrize("scene", ["kitti", "rubberwhale"])
def test_a_pair_with_flow_costs_little_more_than_decoding(shared, scene):
    source = SOURCES["flow"].open(str(shared / "data" / "flow" / scene), open_place)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        floor, pair = np.inf, np.inf
        for seed in range(ROUNDS):
            rng = np.random.default_rng(seed)
            floor = min(floor, seconds(lambda: decode(source.files(0))))
            pair = min(pair, seconds(lambda: source.make(0, DataConfig(), rng, "sample")))  # noqa: B023
    finally:
        torch.set_num_threads(threads)
    assert pair <= LIMIT * floor
