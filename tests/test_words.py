"""Numbers, counts and lines as a reader sees them."""

import pytest

from study.formatting import column, count, count_range, fixed, part_of, percent, short_number, wrapped


@pytest.mark.parametrize("value", [-0.0, -0.0004, 0.0004])
def test_what_rounds_to_zero_has_no_sign(value: float) -> None:
    assert fixed(value, 3) == "0.000"
    assert fixed(value, 2, signed=True) == "+0.00"
    assert (short_number(-0.0), short_number(-0.0, signed=True)) == ("0", "+0")


def test_other_numbers_keep_their_sign() -> None:
    assert (fixed(-0.0006, 3), fixed(0.38, 2, signed=True), fixed(-0.38, 2, signed=True)) == (
        "-0.001",
        "+0.38",
        "-0.38",
    )


@pytest.mark.parametrize(
    ("value", "text"), [(4.0, "4"), (14.2, "14"), (0.0024, "0.0024"), (99.4, "99"), (99.7, "100"), (512.0, "512")]
)
def test_a_number_of_an_answer_has_two_digits_and_is_whole_from_100_on(value: float, text: str) -> None:
    assert short_number(value) == text


def test_one_is_singular_and_everything_else_plural() -> None:
    assert [count(number, "seed") for number in (0, 1, 2, 1200)] == ["0 seeds", "1 seed", "2 seeds", "1,200 seeds"]
    assert count(2, "batch", "batches") == "2 batches"
    assert (count_range(1, 1, "seed"), count_range(3, 3, "seed"), count_range(1, 9, "seed")) == (
        "1 seed",
        "3 seeds",
        "1 to 9 seeds",
    )


def test_a_part_of_a_total_has_a_verb_that_agrees() -> None:
    told = [part_of(number, total, "run", "fails", "fail") for number, total in ((1, 3), (2, 3), (0, 1), (1, 1))]
    assert told == ["1 of 3 runs fails", "2 of 3 runs fail", "0 of 1 run fails", "1 of 1 run fails"]


def test_a_share_is_a_percentage_without_a_tail() -> None:
    assert [percent(share) for share in (0.5, 0.4, 0.29, 0.025, 1.0)] == ["50%", "40%", "29%", "2.5%", "100%"]


@pytest.mark.parametrize("text", ["short", "exactly twenty col..", "minimum model.embedding_dim"])
def test_two_columns_never_touch(text: str) -> None:
    assert column(text, 22).startswith(f"{text}  ")
    assert len(column(text, 22)) == max(22, len(text) + 2)


class TestWrapping:
    TEXT = "criterion   half rise of p and half rise of s_j\ncost        1 to 2 replicates"

    def test_where_there_is_no_terminal_every_line_stays_as_it_is(self) -> None:
        assert wrapped(self.TEXT, None, 12) == self.TEXT

    def test_long_lines_are_continued_under_their_text(self) -> None:
        assert wrapped(self.TEXT, 36, 12) == (
            "criterion   half rise of p and half\n            rise of s_j\ncost        1 to 2 replicates"
        )

    def test_a_line_that_starts_further_in_is_continued_further_in(self) -> None:
        assert wrapped("    40% rise of p  6.2", 18, 2) == "    40% rise of p\n      6.2"

    def test_a_path_stays_whole_so_that_it_can_be_copied(self) -> None:
        path = "/a/long-path/with-hyphens/and/folders/file.svg"
        assert path in wrapped(f"figure {path}    .png", 20, 4).split("\n")[1]

    def test_a_deep_indent_leaves_room_for_words(self) -> None:
        lines = wrapped("word " * 20, 20, 30).split("\n")
        assert all(len(line) <= 20 for line in lines)
