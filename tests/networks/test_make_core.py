import jax
import pytest

import networks


@pytest.mark.parametrize(
    "name,settings,message",
    [
        ("arelitt", {}, r"core.name='arelitt': .* mean arelit\?.*allowed: arelit, relit, gtrxl, lstm, gru"),
        ("gru", {"n_heads": 2}, r"core.n_heads=2: gru has no such hyperparameter; it has: n_layers, d_model"),
        ("relit", {"kernal": "relu"}, r"core.kernal='relu': .*mean kernel\?"),
        ("relit", {"kernel": "x"}, r"core.kernel='x': unknown; allowed: relu, eluplus1, dpfp, pp_relu, pp_elu"),
        ("relit", {"update_rule": ""}, r"core.update_rule='': unknown; allowed: projected_sigmoid, keyvalue_"),
        ("lstm", {"n_layers": 0}, r"core.n_layers=0: must be from 1 to 256"),
        ("lstm", {"n_layers": True}, r"core.n_layers=True: must be of type int"),
        ("gtrxl", {"memory_len": 1.5}, r"core.memory_len=1.5: must be of type int"),
        ("gtrxl", {"normalize_query": 1}, r"core.normalize_query=1: must be of type bool"),
        ("mamba2", {"n_groups": 3}, r"core.n_groups=3: must divide n_heads=4"),
        ("mamba2", {"dt_floor": -0.1}, r"core.dt_floor=-0.1: must be at least 0 and finite"),
        ("mamba2", {"dt_floor": float("nan")}, r"core.dt_floor=nan: must be at least 0 and finite"),
        (
            "mamba2",
            {"dt_floor": 0.1, "dt_ceiling": 0.1},
            r"core.dt_ceiling=0.1: must be greater than dt_floor=0.1",
        ),
        ("mamba2", {"dt_ceiling": float("nan")}, r"core.dt_ceiling=nan: must be greater than dt_floor=0.0"),
        ("gated_deltanet", {"d_key": 0}, r"core.d_key=0: must be from 1 to"),
        ("gated_deltanet", {"allow_neg_eigval": 1}, r"core.allow_neg_eigval=1: must be of type bool"),
        ("mlstm", {"qkv_block": 5}, r"core.qkv_block=5: must divide n_heads d_head=256"),
    ],
)
def test_bad_settings_are_named(name, settings, message):
    with pytest.raises(ValueError, match=message) as error:
        networks.make_core(name, **settings)
    assert "\n" not in str(error.value)


def test_hyperparameters_are_the_contracts():
    fields = {name: list(networks.hyperparameters(name)) for name in networks.CORES}
    assert fields["relit"] == "n_layers d_model d_head d_ffc n_heads nu kernel update_rule".split()
    assert fields["arelit"] == "n_layers d_model d_head d_ffc n_heads eta r horizon gate_bias".split()
    assert fields["gtrxl"] == "n_layers d_model d_head n_heads memory_len mlp_num normalize_query".split()
    assert fields["mamba2"] == (
        "n_layers d_model n_heads d_head d_state n_groups d_conv dt_floor dt_ceiling".split()
    )
    assert fields["gated_deltanet"] == "n_layers d_model n_heads d_key d_value d_conv allow_neg_eigval".split()
    assert fields["mlstm"] == "n_layers d_model n_heads d_head d_conv qkv_block".split()
    assert fields["lstm"] == fields["gru"] == fields["feedforward"] == ["n_layers", "d_model"]


@pytest.mark.parametrize("name", networks.CORES)
def test_settings_reach_the_core(name):
    defaults = networks.hyperparameters(name)
    core = networks.make_core(name, **defaults)
    assert {field: getattr(core, field) for field in defaults} == defaults


def test_released_sizes_of_the_carry():
    """Floats an environment, as in the paper's T-Maze configurations."""

    def size(name):
        carry = jax.eval_shape(lambda: networks.make_core(name).initialize_carry((1,)))
        return sum(x.size for x in jax.tree.leaves(carry))

    assert size("arelit") == 9216 + 1
    assert size("relit") == 4 * (4 * 64 * 128 + 4 * 128)
    assert size("gtrxl") == 4 * 128 * 128 + 2
    assert size("arelit") < 0.5 * size("gtrxl")


@pytest.mark.parametrize("name", networks.CORES)
def test_every_hyperparameter_has_a_line(name):
    lines = networks.hyperparameter_help(name)
    assert lines.keys() == networks.hyperparameters(name).keys()
    assert all(line and "\n" not in line and not line.endswith(".") for line in lines.values())


def test_lines_are_a_cores_own_before_those_it_inherits(monkeypatch):
    class Wide(networks.CORES["gru"]):
        n_layers: int = 3
        """own line"""
        extra: int = 1

    monkeypatch.setitem(networks.CORES, "wide", Wide)
    lines = networks.hyperparameter_help("wide")
    assert lines == networks.hyperparameter_help("gru") | {"n_layers": "own line", "extra": ""}
    with pytest.raises(ValueError, match="core.name='none': unknown memory core"):
        networks.hyperparameter_help("none")
