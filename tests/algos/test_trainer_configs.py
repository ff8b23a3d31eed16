"""Every field of every Config is read and checked, and every preset is valid."""

import re
from dataclasses import replace

import jax
import pytest
from jax.interpreters import partial_eval

from algos.presets import PRESETS
from tests.algos.toy import ImageToy, environment_is
from tests.algos.trainers import CASES, MODULES, cases, field_names, small_config, small_core
from tests.marks import slow_if

# What each field is changed to; every one must change what is learned.
CHANGED = {
    "total_timesteps": 64 * 4,
    "eval_episodes": 4,
    "env": {"max_steps_in_episode": 9},
    "num_envs": 8,
    "previous_action_reward": True,
    "core": small_core("gru"),
    "encoder_widths": (8,),
    "conv_channels": (3, 2),
    "conv_kernels": (3, 3),
    "conv_strides": (1, 1),
    "actor_hidden": 8,
    "critic_hidden": 8,
    "head_activation": "relu",
    "head_scale": 2.0,
    "actor_scale": 0.7,
    "critic_scale": 0.7,
    "num_steps": 8,
    "sequence_length": 4,
    "q_hidden": 8,
    "burn_in": 2,
    "epsilon_start": 0.8,
    "epsilon_end": 0.3,
    "anneal_epsilon": 0.9,
    "epsilon_spread": 7.0,
    "reward_scale": 2.0,
    "learning_rate": 1e-3,
    "anneal_learning_rate": True,
    "adam_eps": 1e-2,
    "max_grad_norm": 1e-2,
    "gamma": 0.4,
    "gae_lambda": 0.6,
    "update_epochs": 1,
    "num_minibatches": 4,
    "clip_eps": 0.03,
    "value_clip": 0.04,
    "target_kl": 0.05,
    "vf_coef": 0.75,
    "ent_coef": 0.125,
    "normalize_observations": False,
    "normalize_rewards": False,
    "normalization_clip": 3.0,
}
# Fields that only the run loop reads; tests/harness holds their tests.
RUN_FIELDS = {"seed", "num_seeds", "run_dir", "resume", "init_from", "wandb"}


def program(config):
    """What the learned parameters and the evaluation's size depend on, as text.

    The whole run is traced and stripped of everything that the final parameters do not need, so that a field
    that is only read, or only reported, does not show.
    """
    trainer = config_module(config).make_train(config)
    closed = jax.make_jaxpr(lambda key: trainer.train(key)[0].params)(jax.random.key(0))
    needed, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    state = jax.eval_shape(trainer.init, jax.random.key(0))
    evaluated = jax.eval_shape(trainer.evaluate, state, jax.random.key(1))["episode_return"].shape
    text = re.sub(r"0x[0-9a-f]+", "", str(needed))  # addresses of functions
    return text, [str(const) for const in closed.consts], evaluated


def config_module(config):
    return next(module for module in MODULES.values() if type(config) is module.Config)


def base_of(case, **settings):
    env = {"id": case.env_id, "max_steps_in_episode": 7}
    convolutions = dict(conv_channels=(2, 2), conv_kernels=(2, 2), conv_strides=(2, 1))
    has = {name: value for name, value in convolutions.items() if name in case.field_names}
    return small_config(case.module, env=env, anneal_learning_rate=False, **has | settings)


BASE = {}  # text of the unchanged programs


def of_module():
    """(case, field) for every field that a trainer reads; what PPO for continuous actions has too is slow in those
    that share its code, PPO for discrete ones and PQN."""
    for name in ("ppo_continuous", "ppo_discrete", "a2c_discrete", "pqn"):
        for field in CASES[name].field_names:
            if field not in RUN_FIELDS:
                again = name in ("ppo_discrete", "pqn") and field in CASES["ppo_continuous"].field_names
                yield pytest.param(CASES[name], field, id=f"{name}-{field}", marks=slow_if(again))


@pytest.mark.parametrize(("case", "name"), of_module())
def test_every_field_of_the_config_has_an_effect(case, name):
    base = base_of(case)
    changed = base.env | CHANGED[name] if name == "env" else CHANGED[name]

    def compare():
        key = (case.name, name.startswith("conv_"))
        if key not in BASE:
            BASE[key] = program(base)
            assert program(replace(base)) == BASE[key], "one config must give one program"
        assert program(replace(base, **{name: changed})) != BASE[key]

    if name.startswith("conv_"):
        with environment_is(ImageToy((9, 9, 1), num_actions=case.num_actions)):
            compare()
    else:
        compare()


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"num_envs": 0}, "num_envs=0"),
        ({"num_steps": 0}, "num_steps=0"),
        ({"eval_episodes": 0}, "eval_episodes=0"),
        ({"num_seeds": -1}, "num_seeds=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"total_timesteps": 0}, "total_timesteps=0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"gamma": 1.5}, "gamma=1.5"),
        ({"gae_lambda": -0.5}, "gae_lambda=-0.5"),
        ({"ent_coef": -0.1}, "ent_coef=-0.1"),
        ({"vf_coef": float("inf")}, "vf_coef=inf"),
        ({"max_grad_norm": 0.0}, "max_grad_norm=0.0"),
        ({"encoder_widths": (0,)}, "encoder_widths"),
        ({"learning_rate": 1e300}, "learning_rate"),
        ({"num_envs": 10**23}, "num_envs"),
        ({"seed": 2**31 - 1, "num_seeds": 2}, "seed"),
        ({"env": {}}, "env"),
        ({"core": {}}, "core"),
    ],
)
@pytest.mark.parametrize("module", MODULES.values(), ids=MODULES)
def test_a_bad_config_names_the_field(module, settings, field):
    if not settings.keys() <= field_names(module):
        pytest.skip("not a field of this trainer")
    with pytest.raises(ValueError, match=field):
        small_config(module, **settings)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"env": {"id": "brax/no_such_task"}}, "env.id"),
        ({"core": {"name": "no_such_core"}}, "core.name"),
        ({"core": {"name": "arelit", "n_layer": 2}}, "core.n_layer"),
        ({"core": {"name": "arelit", "n_layers": 0}}, "core.n_layers"),
        ({"core": {"name": "arelit", "r": 10**9}}, "core.r"),
        ({"env": {"max_steps_in_episode": 10**11}}, "env.max_steps_in_episode"),
    ],
)
@cases()
def test_a_bad_environment_or_core_names_the_field(case, settings, field):
    if "env" in settings:
        settings = {"env": {"id": case.env_id} | settings["env"]}
    else:
        settings = {"env": {"id": case.env_id}} | settings
    with pytest.raises(ValueError, match=field):
        case.module.make_train(small_config(case.module, **settings))


@pytest.mark.parametrize(
    ("module", "env_id", "wanted"),
    [
        ("ppo_arelit", "gymnax/Pendulum-v1", "discrete actions"),
        ("pqn_arelit", "gymnax/Pendulum-v1", "discrete actions"),
        ("ppo_arelit_continuous", "gymnax/CartPole-v1", "continuous actions"),
    ],
)
def test_an_environment_of_the_other_kind_of_actions_is_refused(module, env_id, wanted):
    config = small_config(MODULES[module], env={"id": env_id})
    with pytest.raises(ValueError, match=rf"env.id='{env_id}': must be .*{wanted}"):
        MODULES[module].make_train(config)


@pytest.mark.parametrize(
    ("module", "preset"),
    [pytest.param(m, name, id=f"{key}-{name}") for key, m in MODULES.items() for name in PRESETS[key]],
)
def test_every_preset_is_a_valid_config(module, preset):
    module.Config(**PRESETS[module.__name__.removeprefix("algos.")][preset])
