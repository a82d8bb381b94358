"""Numbers, counts and lines as they are printed, the same in every place."""

import textwrap


def fixed(value: float, digits: int, *, signed: bool = False) -> str:
    """A number with so many decimals; one that rounds to zero is no negative zero."""
    return f"{value:{'+' if signed else ''}z.{digits}f}"


def short_number(value: float, digits: int = 2, *, signed: bool = False) -> str:
    """A number of an answer: so many significant digits, whole from 100 on."""
    sign = "+" if signed else ""
    text = f"{value:{sign}z.{digits}g}"
    # What rounds up to 100 is whole as well: 99.7 with two digits is 100, not 1e+02.
    return f"{value:{sign}.0f}" if abs(value) >= 100 or "e+" in text else text


def plain_value(value: bool | int | float | str) -> str:
    """A value of an axis: words as they are, numbers without trailing zeros."""
    return value if isinstance(value, str) else f"{value:g}"


def percent(share: float) -> str:
    """A share as a percentage: 40%, 2.5%."""
    return f"{100 * share:z.3g}%"


def count(number: int, noun: str, plural: str = "") -> str:
    """So many of something: 1 seed, 2 seeds; ``plural`` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def part_of(number: int, total: int, noun: str, one: str, many: str) -> str:
    """So many of a total with a verb that agrees: 1 of 3 runs fails, 2 of 3 runs fail, 0 of 1 run fails."""
    return f"{number:,} of {count(total, noun)} {one if 1 in (number, total) else many}"


def count_range(fewest: int, most: int, noun: str) -> str:
    """So many to so many of something: 3 seeds, 1 to 9 seeds."""
    return count(most, noun) if fewest == most else f"{fewest:,} to {count(most, noun)}"


def wrapped(text: str, width: int | None, indent: int) -> str:
    """Every line of a text broken at a width, continued ``indent`` columns deeper; as it is where the width is None.

    Words are never broken, so that a path or a link stays whole.
    """
    if width is None:
        return text
    lines = []
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip()) + indent
        wrapper = textwrap.TextWrapper(
            width=width,
            # Words need room, however narrow the terminal.
            subsequent_indent=" " * min(depth, width // 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines.append(wrapper.fill(line) if len(line) > width else line)
    return "\n".join(lines)


def column(text: str, width: int) -> str:
    """A text padded to the width of its column; one that fills it keeps two spaces to what follows."""
    return f"{text:<{width - 2}}  "
