"""Confusion matrices."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from lkd.figures.labels import capital, no_markup
from lkd.figures.style import MARGIN, finished
from lkd.runs.public_names import public

_NAMED = 30
"""Number of classes up to which each has its name on the axes and its numbers in the cells."""
_PLAIN = [[0, "#fcf6e7"], [1, "#87305b"]]
_CELL, _LEAST = 30, 300
"""Pixels of a class, and of the smallest matrix."""


def confusion(counts: pd.DataFrame, *, title: str) -> go.Figure:
    """Plot a confusion matrix: the share of each class's images by predicted class.

    Args:
        counts: see `lkd.study.confusion`.
        title: short description of the network.

    Raises:
        ValueError: no images.

    Example:
        >>> import pandas as pd
        >>> from lkd import figures
        >>> counts = pd.DataFrame([[8, 2], [0, 5]], index=["cat", "dog"], columns=["cat", "dog"])
        >>> figures.confusion(counts, title="my student").layout.meta["alt"]
        'Confusion matrix of my student, 2 classes. Most frequent error: cat taken for dog, 20 % of its images.'
    """
    numbers = counts.to_numpy()
    if not numbers.sum():
        raise ValueError("there are no images to count")
    shares = 100 * numbers / numbers.sum(axis=1, keepdims=True).clip(min=1)
    names = [no_markup(name) for name in counts.index]
    named = len(names) <= _NAMED
    figure = go.Figure(
        go.Heatmap(
            z=shares,
            x=names,
            y=names,
            customdata=numbers,
            text=np.where(numbers > 0, numbers.astype(str), "") if named else None,
            texttemplate="%{text}" if named else None,
            colorscale=_PLAIN,
            zmin=0,
            zmax=100,
            showscale=False,
            hovertemplate="%{y} taken for %{x}<br>images: %{customdata}, %{z:.1f} % of the class<extra></extra>",
        )
    )
    side = max(_LEAST, _CELL * len(names)) if named else 2 * _LEAST
    figure.update_xaxes(title_text="predicted class", type="category", showticklabels=named, showgrid=False)
    figure.update_yaxes(title_text="class", type="category", showticklabels=named, showgrid=False, autorange="reversed")
    return finished(
        figure,
        alt=f"Confusion matrix of {public(title)}, {len(names)} classes. {_most_frequent(shares, counts)}",
        caption=f"{capital(public(title))}: test images by class and predicted class; colours are shares of the class.",
        data=counts.rename_axis(columns=None).rename_axis("class").reset_index(),
        height=side + MARGIN["t"] + MARGIN["b"],
        margin=MARGIN,
    )


def _most_frequent(shares: np.ndarray, counts: pd.DataFrame) -> str:
    """The class that is most often taken for one other class, in words."""
    wrong = np.where(np.eye(len(shares), dtype=bool), 0, shares)
    if not wrong.any():
        return "No errors."
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    names = f"{public(str(counts.index[row]))} taken for {public(str(counts.columns[column]))}"
    return f"Most frequent error: {names}, {wrong[row, column]:.0f} % of its images."
