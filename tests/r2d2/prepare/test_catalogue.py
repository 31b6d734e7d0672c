"""Which paths of an original are wanted, and where they go."""

import pytest

from r2d2.prepare import catalogue
from r2d2.prepare.catalogue import SOURCES


@pytest.mark.parametrize(
    ("source", "path", "place"),
    [
        ("web", "jpg/0d3/x.jpg", "0d3/x.jpg"),
        ("web", "000/x.JPG", "000/x.JPG"),
        ("web", "00g/x.jpg", None),
        ("web", "x.jpg", None),
        ("web", "000/x.txt", None),
        ("web", "__MACOSX/000/x.jpg", None),
        ("web", "000/._x.jpg", None),
        ("aachen", "a/images_upright/db/1.jpg", "images_upright/db/1.jpg"),
        ("aachen", "images_upright/query/day/1.jpg", None),
        ("style", "st/1.jpg.st_rain___2.jpg", "style_transfer/1.jpg.st_rain___2.jpg"),
        ("style", "st/1.jpg", None),
        ("flow", "flow/1_2.png", "optical_flow/flow/1_2.png"),
        ("flow", "x/optical_flow/mask/a_b_c_d.png", "optical_flow/mask/a_b_c_d.png"),
        ("flow", "flow/1.png", None),
        ("photos", "any/where.webp", "any/where.webp"),
        ("photos", ".hidden/x.png", None),
        ("photos", "x.mov", None),
        ("hpatches", "r/v_graffiti/H_1_4", "v_graffiti/H_1_4"),
        ("hpatches", "r/i_leuven/6.ppm", "i_leuven/6.ppm"),
        ("hpatches", "r/i_leuven/7.ppm", None),
        ("hpatches", "r/x_leuven/6.ppm", None),
    ],
)
def test_where_a_path_goes(source, path, place):
    assert SOURCES[source].place_of(path) == place


def test_names_of_photographs_may_hold_underscores():
    names = {"images_upright/db/a_1.jpg", "images_upright/db/b_2_3.jpg"}
    pair = {f"optical_flow/{part}/a_1_b_2_3.png" for part in ("flow", "mask")}
    assert catalogue.check_flow(frozenset(names | pair)) == []
    other = {f"optical_flow/{part}/a_1_b_2.png" for part in ("flow", "mask")}
    assert catalogue.check_flow(frozenset(names | other)) == ["1 flows lack a photograph: a_1_b_2.png"]


def test_style_transfers_need_their_photographs_if_there_are_any():
    styled = {"style_transfer/1.jpg.st_x.jpg", "style_transfer/2.jpg.st_x.jpg"}
    assert catalogue.check_style(frozenset(styled)) == []
    problems = catalogue.check_style(frozenset(styled | {"images_upright/db/1.jpg"}))
    assert problems == ["1 style transfers have no photograph: style_transfer/2.jpg.st_x.jpg"]


def test_every_source_says_what_to_do_where_its_addresses_do_not_help():
    for source in SOURCES.values():
        assert source.otherwise.endswith(".")
        assert source.licence
        assert source.addresses or source.name == "photos"
