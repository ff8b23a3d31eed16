"""Ranges that stand beside the fields."""

from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

import algos
from algos.harness import fields

BAD = {  # by type: values that are refused, and what the message says
    fields.Seed: ([-1, 2**31], "from 0 to 2^31 - 1"),
    fields.Count: ([0, -3, 2**20 + 1], "from 1 to 2^20"),
    fields.Steps: ([0, 10**15 + 1], "from 1 to 10^15"),
    fields.Sizes: ([(0,), (8, 2**16 + 1)], "all from 1 to 2^16"),
    fields.Positive: ([0.0, -1.0], "greater than 0"),
    fields.NonNegative: ([-0.1], "at least 0"),
    fields.Fraction: ([-0.1, 1.1], "from 0 to 1"),
    fields.Environment: ([{}, {"name": "x"}], "a dictionary with 'id'"),
    fields.Core: ([{}, {"id": "x"}], "a dictionary with 'name'"),
}
GOOD = {
    fields.Seed: [0, 2**31 - 1],
    fields.Count: [1, 2**20],
    fields.Steps: [1, 10**15],
    fields.Sizes: [(), (1, 2**16)],
    fields.Positive: [1e-8, 1e30],
    fields.NonNegative: [0.0, 3.0],
    fields.Fraction: [0.0, 1.0],
    fields.Environment: [{"id": "x"}],
    fields.Core: [{"name": "x"}],
}
FLOATS = (fields.Positive, fields.NonNegative, fields.Fraction)


def config_of(kind):
    @dataclass(frozen=True)
    class Config:
        other: Literal["a"] = "a"
        width: kind = None

        def __post_init__(self):
            fields.check_fields(self)

    return Config


@pytest.mark.parametrize("kind", BAD)
def test_a_value_out_of_range_is_one_line_with_field_value_and_range(kind):
    values, allowed = BAD[kind]
    for value in values:
        with pytest.raises(ValueError) as error:
            config_of(kind)(width=value)
        assert str(error.value) == f"width={value}: must be {allowed}"
    for value in GOOD[kind]:
        assert config_of(kind)(width=value).width == value


@pytest.mark.parametrize("kind", FLOATS)
def test_a_float_that_is_no_finite_float32_is_refused(kind):
    for value in (float("nan"), float("inf"), 1e39, 1e-38):
        with pytest.raises(ValueError, match="within the range of float32"):
            config_of(kind)(width=value)


def test_traced_fields_are_those_that_are_marked():
    @dataclass
    class Config:
        gamma: Annotated[fields.Fraction, fields.TRACED] = 0.9
        width: fields.Count = 3

    assert fields.traced_fields(Config) == ("gamma",)


@pytest.mark.parametrize("algo", algos.TRAINERS)
def test_every_number_of_a_trainer_has_a_range(algo):
    declared = fields._declared(algos.TRAINERS[algo].Config)
    for name, value in vars(algos.TRAINERS[algo].Config()).items():
        if type(value) in (int, float, tuple, dict):
            ranges = [each for each in declared[name] if isinstance(each, fields.Allowed)]
            assert ranges, name
            assert type(value) is not float or len(ranges) == 2, name  # also that it is a float32
