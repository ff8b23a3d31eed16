"""Marks of single cases of a parametrised test."""

import pytest


def slow_if(condition: bool):
    """What pytest.param takes as `marks`: with the condition the case is among the slow tests only."""
    return pytest.mark.slow if condition else ()
