"""Marks of single cases of a parametrised test."""

import pytest

import networks
from networks.blocks import FeatureCore, Stack
from networks.layers import CellStack


def slow_if(condition: bool):
    """What pytest.param takes as `marks`: with the condition the case is among the slow tests only."""
    return pytest.mark.slow if condition else ()


def stands_for_others(core: str) -> bool:
    """Whether what surrounds the cores is tested with this one in every test run.

    Cores on one skeleton differ in what remembers alone, which tests/networks tests of each; around them the first
    of each skeleton is enough, and the others are among the slow tests.
    """
    skeleton = next(
        (each for each in (Stack, FeatureCore, CellStack) if issubclass(networks.CORES[core], each)), None
    )
    same = [name for name, each in networks.CORES.items() if skeleton and issubclass(each, skeleton)]
    return core in same[:1] if skeleton else True


def around_every_core(argument: str):
    """Parametrise a test of what surrounds the cores over them."""
    return pytest.mark.parametrize(
        argument, [pytest.param(core, marks=slow_if(not stands_for_others(core))) for core in networks.CORES]
    )
