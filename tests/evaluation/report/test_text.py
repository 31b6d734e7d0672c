from evaluation.report.text import markdown_table


def test_words_to_the_left_figures_to_the_right():
    assert markdown_table(["name", "a", "b"], [["x", "1", "2"]]) == (
        "| name | a | b |\n| --- | ---: | ---: |\n| x | 1 | 2 |"
    )


def test_what_would_break_the_table_is_escaped():
    table = markdown_table(["name", "a"], [["one | two\nthree \\ <b>", ""]])
    assert table.splitlines()[2] == r"| one \| two three \\ &lt;b> |  |"


def test_a_name_is_no_link_no_picture_and_no_command():
    table = markdown_table(["name"], [["![x](https://evil/)[y](javascript:z)\x1b[2J"]])
    assert table.splitlines()[2] == r"| !\[x](https://evil/)\[y](javascript:z)?\[2J |"
