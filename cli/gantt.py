"""A bar of a text Gantt chart."""

WIDTH = 30
"""Columns of the whole time line: beside the other columns it fits a terminal of 80."""


def bar(start: float, end: float, total: float, width: int = WIDTH) -> str:
    """Where a stretch lies on a line of `width` columns that stands for `total`.

    Never empty: a short stretch is one column wide.
    """
    if total <= 0:
        return ""
    first = min(width - 1, round(width * start / total))
    last = max(first + 1, round(width * end / total))
    return " " * first + "█" * (last - first)
