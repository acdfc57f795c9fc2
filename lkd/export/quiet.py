"""Silence of exporters, which report each step and each future change of their own."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Context manager: no warning, no output to stdout, and of logging only errors.

    Example:
        >>> from lkd.export.quiet import quiet
        >>> with quiet():
        ...     print("step 1 of 9")
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
