"""The factory: ids, options, messages for bad input, and what importing costs."""

import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest

import envs

ROOT = pathlib.Path(__file__).parents[2]


def test_every_id_has_options_with_defaults():
    for env_id in envs.ENV_IDS:
        assert all(value is not None for value in envs.options(env_id).values())
    assert envs.options("brax/ant-P") == {"backend": "spring", "episode_length": 1000}
    assert envs.options("brax/swimmer")["backend"] == "generalized"


def test_options_reach_the_environment():
    env, params = envs.make("brax/inverted_pendulum", backend="positional", episode_length=7)
    assert env.backend == env.brax_env.backend == "positional" and params.max_steps_in_episode == 7
    _, params = envs.make("gymnax/Pendulum-v1", g=9, max_steps_in_episode=50)
    assert params.g == 9.0 and params.max_steps_in_episode == 50


def test_options_are_a_copy():
    envs.options("brax/ant")["backend"] = "changed"
    assert envs.options("brax/ant")["backend"] == "spring"


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        (
            "brax/halfcheeta",
            {},
            r"env.id='brax/halfcheeta': .*did you mean brax/halfcheetah.*; allowed: brax/half",
        ),
        ("brax/fast", {}, r"env.id='brax/fast': not known.*; allowed: brax/"),
        ("brax/ant-X", {}, r"env.id='brax/ant-X': .*did you mean brax/ant"),
        ("", {}, r"env.id='': not known; allowed: brax/"),
        (
            "brax/ant",
            {"backnd": "mjx"},
            r"env.backnd='mjx': .*did you mean backend\?\); allowed: backend, ep",
        ),
        (
            "brax/ant",
            {"backend": "sprin"},
            r"env.backend='sprin': .*did you mean spring\?\); allowed: spring, gen",
        ),
        ("brax/ant", {"backend": 3}, r"env.backend=3: must be of type str, such as 'spring'"),
        ("brax/swimmer", {"backend": "spring"}, r"env.backend='spring': not known; allowed: generalized"),
        ("brax/ant", {"episode_length": 0}, r"env.episode_length=0: must be at least 1"),
        ("brax/ant", {"episode_length": 10.5}, r"env.episode_length=10.5: must be of type int"),
        ("brax/ant", {"episode_length": True}, r"env.episode_length=True: must be of type int"),
        (
            "gymnax/CartPole-v1",
            {"max_steps_in_episode": -1},
            r"env.max_steps_in_episode=-1: must be at least 1",
        ),
        ("gymnax/MemoryChain-bsuite", {"memory_length": 0}, r"env.memory_length=0: must be at least 1"),
        ("gymnax/UmbrellaChain-bsuite", {"chain_length": 0}, r"env.chain_length=0: must be at least 1"),
    ],
)
def test_bad_input_is_one_line_that_names_the_field_and_what_is_allowed(env_id, options, message):
    with pytest.raises(ValueError, match="^" + message) as error:
        envs.make(env_id, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("env_id", "meant"),
    [
        ("TMazePassive", ["TMaze-Passive"]),
        ("tmaze-passive", ["TMaze-Passive"]),
        ("EndlessTMaze", ["TMaze-Endless"]),
        ("TMazeClassicActive", ["TMaze-Active", "TMaze-Passive"]),
        ("minigrid-memorys7", ["MiniGrid-MemoryS7-v0"]),
        ("BattleShip", ["battleship"]),
        ("rocksample_11_11", ["rocksample"]),
        ("halfcheetah", ["brax/halfcheetah", "brax/halfcheetah-P", "brax/halfcheetah-V"]),
    ],
)
def test_other_spellings_of_an_id_are_understood(env_id, meant):
    hint = " or ".join(meant)
    with pytest.raises(
        ValueError, match=rf"^env.id='{env_id}': not known \(did you mean {hint}\?\); allowed: {meant[0]}"
    ):
        envs.make(env_id)


def test_numbers_of_numpy_are_numbers():
    options = dict(corridor_len=np.int64(7), goal_reward=np.float32(2), timestep_penalty=np.int32(1))
    _, params = envs.make("TMazeOurs", **options)
    assert (params.corridor_len, params.goal_reward, params.timestep_penalty) == (7, 2.0, 1.0)
    assert {type(value) for value in vars(params).values()} == {int, float}
    _, params = envs.make("MysteryPath-Grid-v0", show_goal=np.True_)
    assert params.show_goal is True
    with pytest.raises(ValueError, match=r"^env.corridor_len=7.5: must be of type int"):
        envs.make("TMaze-v2", corridor_len=np.float64(7.5))


def test_an_environment_from_elsewhere_is_made_by_its_id(monkeypatch):
    for name in ("_MODULE_OF", "ENV_IDS"):
        monkeypatch.setattr(envs, name, type(getattr(envs, name))(getattr(envs, name)))
    mine = types.SimpleNamespace(
        IDS=("Mine-v0",),
        options=lambda env_id: {"size": 3},
        make=lambda env_id, size: (f"{env_id} of {size}", None),
    )
    envs.register(mine)
    assert envs.ENV_IDS[-1] == "Mine-v0" and envs.options("Mine-v0") == {"size": 3}
    assert envs.make("Mine-v0", size=5) == ("Mine-v0 of 5", None)
    with pytest.raises(ValueError, match=r"env.size='x': must be of type int"):
        envs.make("Mine-v0", size="x")
    envs.register(types.SimpleNamespace(**vars(mine) | {"make": lambda env_id, size: ("another", None)}))
    assert envs.make("Mine-v0") == ("another", None)
    with pytest.raises(ValueError, match=r"env.id='TMaze-v2': must be none"):
        envs.register(types.SimpleNamespace(**vars(mine) | {"IDS": ("TMaze-v2",)}))


def test_importing_is_light_and_making_is_quiet(tmp_path):
    code = (
        "import sys, envs; assert 'brax' not in sys.modules and 'mujoco' not in sys.modules;"
        "envs.options('brax/halfcheetah'); assert 'brax' not in sys.modules;"
        "envs.make('brax/halfcheetah'); print('made'); import warnings; warnings.warn('still heard')"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "made\n"
    assert "settotalmass" not in done.stderr and "Brax System" not in done.stderr
    assert "still heard" in done.stderr
    assert not list(tmp_path.iterdir())  # MuJoCo's log
