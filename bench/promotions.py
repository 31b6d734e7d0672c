"""Simulates promotions: how often does an equal network become the champion, and how often a better one?

    python -m bench.promotions

Scores are drawn as in `tests/evaluation/test_bootstrap.py` (standard deviations, in units of MMA): a network
suits a photograph by chance (0.015; both its sequences alike, which is the harder case), and every pair
scatters (0.04). A sweep scores N networks, each a checkpoint of its own, on five pairs of an illumination and
of a viewpoint sequence of each photograph, and offers the best. It is compared with a champion that was not
chosen on these photographs, which is the harder case too, on fresh pairs, by the function that `r2d2 promote`
decides with. "Plain" is the same without the allowance for the choice on the photographs.
"""

from __future__ import annotations

import argparse

import numpy as np
import numpy.typing as npt
from rich.table import Table

from evaluation.statistics.paired import difference
from runner.registry.rule import PAIRS_PER_PHOTO, benchmarks_for
from runner.terminal.console import make_console

CELL, PAIR = 0.015, 0.04

Floats = npt.NDArray[np.float64]


def shares(
    rng: np.random.Generator,
    gain: float,
    studies: int,
    photographs: int,
    chosen_from: int,
    *,
    heavy: bool = False,
    allow: bool = True,
) -> float:
    """Returns the share of promotions after which the candidate is champion.

    Args:
        rng: draws everything.
        gain: by which every network of the sweep is better than the champion.
        studies: how many promotions.
        photographs: held out.
        chosen_from: networks of the sweep.
        heavy: errors by Student's distribution with three degrees of freedom instead of normal ones.
        allow: for the choice.
    """

    def noise(deviation: float, *shape: int) -> Floats:
        drawn = rng.standard_t(3, shape) / 3**0.5 if heavy else rng.standard_normal(shape)
        scaled: Floats = deviation * drawn
        return scaled

    def pairs(of_each: int, *shape: int) -> Floats:
        """The mean of pairs; of heavy ones too few are averaged to be nearly normal."""
        return noise(PAIR, *shape, of_each).mean(axis=-1) if heavy else noise(PAIR / of_each**0.5, *shape)

    promoted = 0
    fresh = PAIRS_PER_PHOTO * benchmarks_for(photographs)
    for _ in range(studies):
        suits = noise(CELL, chosen_from + 1, photographs)
        offered = (suits[:-1] + pairs(PAIRS_PER_PHOTO, chosen_from, photographs)).mean(axis=1).argmax()
        scores = suits[[offered, -1]] + pairs(fresh, 2, photographs)
        found = difference(gain + scores[0] - scores[1], chosen_from if allow else 1)
        promoted += found.is_shown
    return promoted / studies


# Gain, heavy, allow, and what its column is called.
_KINDS = (
    (0.0, False, True, "equal"),
    (0.0, True, True, "equal, t3"),
    (0.0, False, False, "equal, plain"),
    (0.02, False, True, "+.02"),
    (0.02, True, True, "+.02, t3"),
    (0.05, False, True, "+.05"),
)


def main() -> None:
    """Prints the shares, in percent, a line per number of photographs and of networks."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=1000, help="promotions of each kind")
    studies = parser.parse_args().studies
    table = Table("photographs", "fresh pairs", "best of", *(kind[-1] for kind in _KINDS))
    for photographs in (3, 6, 12, 20, 30, 54):
        for chosen_from in (8, 135):
            rng = np.random.default_rng([photographs, chosen_from])
            found = [
                shares(rng, gain, studies, photographs, chosen_from, heavy=heavy, allow=allow)
                for gain, heavy, allow, _ in _KINDS
            ]
            pairs = PAIRS_PER_PHOTO * benchmarks_for(photographs) * photographs
            numbers = (f"{number}" for number in (photographs, pairs, chosen_from))
            table.add_row(*numbers, *(f"{100 * share:.1f}" for share in found))
    make_console().print(table)


if __name__ == "__main__":
    main()
