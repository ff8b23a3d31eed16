"""The published configurations, value by value, whatever the defaults of the Configs become."""

import math

import pytest

from algos import a2c_arelit, ppo_arelit, ppo_arelit_continuous, pqn_arelit
from algos.presets import PRESETS

ARELIT = dict(name="arelit", n_layers=4, d_model=128, d_head=64, d_ffc=128, n_heads=4, eta=4, r=2)
RELIT = dict(name="relit", n_layers=4, d_model=128, d_head=64, d_ffc=128, n_heads=4, nu=2)
RELIT |= dict(update_rule="projected_sigmoid", kernel="pp_relu")
GTRXL = dict(name="gtrxl", n_layers=4, d_model=128, d_head=64, n_heads=4)
HEADS = dict(actor_hidden=128, critic_hidden=128, actor_scale=math.sqrt(2), critic_scale=math.sqrt(2))
COMMON = dict(gamma=0.99, gae_lambda=0.95, vf_coef=0.5, adam_eps=1e-8, anneal_learning_rate=False, **HEADS)
RAW = dict(normalize_observations=False, normalize_rewards=False)
NORMAL = dict(normalize_observations=True, normalize_rewards=True, normalization_clip=10.0)
A2C = COMMON | dict(num_envs=8, num_steps=256, learning_rate=1e-4, ent_coef=0.001, max_grad_norm=0.5)
TMAZE = A2C | RAW | dict(total_timesteps=5_000_000)
MYSTERY = COMMON | RAW | dict(total_timesteps=150_000_000, num_envs=128, num_steps=128, sequence_length=128)
MYSTERY |= dict(learning_rate=2.5e-4, num_minibatches=8, update_epochs=3, clip_eps=0.2, ent_coef=3e-4)
MYSTERY |= dict(max_grad_norm=5.0, actor_hidden=256, critic_hidden=256, value_clip=0.0, target_kl=0.0)
MYSTERY |= dict(conv_channels=(32, 64, 64), conv_kernels=(8, 4, 3), conv_strides=(4, 2, 1))
CRAFTAX = COMMON | RAW | dict(total_timesteps=1_000_000_000, num_envs=1024, num_steps=128, learning_rate=4e-4)
CRAFTAX |= dict(anneal_learning_rate=True, num_minibatches=8, update_epochs=4, gae_lambda=0.8, ent_coef=0.01)
CRAFTAX |= dict(max_grad_norm=1.0, adam_eps=1e-5, value_clip=0.2, encoder_widths=(128,), head_activation="relu")
CRAFTAX |= dict(head_scale=2.0, actor_scale=0.01, critic_scale=1.0, clip_eps=0.2)
MEMORY_MAZE = COMMON | RAW | dict(total_timesteps=100_000_000, num_envs=64, num_steps=200, sequence_length=100)
MEMORY_MAZE |= dict(learning_rate=2.5e-4, num_minibatches=4, update_epochs=1, clip_eps=0.1, ent_coef=0.003)
MEMORY_MAZE |= dict(max_grad_norm=4.0, actor_hidden=256, critic_hidden=256, value_clip=1.0, target_kl=0.0)
MEMORY_MAZE |= dict(conv_channels=(32, 64, 128, 256), conv_kernels=(4,) * 4, conv_strides=(2,) * 4)
HALFCHEETAH = COMMON | NORMAL | dict(total_timesteps=100_000_000, num_envs=8, num_steps=512, learning_rate=1e-4)
HALFCHEETAH |= dict(num_minibatches=4, update_epochs=10, clip_eps=0.2, ent_coef=0.0, max_grad_norm=0.25)

CRAFTAX_PQN = dict(total_timesteps=10**10, num_envs=1024, num_steps=128, sequence_length=128, burn_in=0)
CRAFTAX_PQN |= dict(core=dict(name="lstm", n_layers=1, d_model=512), encoder_widths=(512,))
CRAFTAX_PQN |= dict(epsilon_start=1.0, epsilon_end=0.005, anneal_epsilon=0.1, epsilon_spread=0.0, gamma=0.99)
CRAFTAX_PQN |= dict(gae_lambda=0.5, learning_rate=3e-4, anneal_learning_rate=True, max_grad_norm=0.5)
CRAFTAX_PQN |= dict(
    update_epochs=4, num_minibatches=4, reward_scale=1.0, env={"id": "craftax/Craftax-Symbolic-v1"}
)
CRAFTAX_PQN |= dict(
    q_hidden=512, previous_action_reward=True, normalize_observations=True, normalize_rewards=False
)
CRAFTAX_PQN |= dict(adam_eps=1e-8)

PUBLISHED = {
    (a2c_arelit, "tmaze-arelit"): TMAZE | dict(core=ARELIT),
    (a2c_arelit, "tmaze-relit"): TMAZE | dict(core=RELIT),
    (a2c_arelit, "tmaze-gtrxl128"): TMAZE
    | dict(core=GTRXL | dict(memory_len=128), learning_rate=5e-4, ent_coef=0.01),
    (a2c_arelit, "tmaze-gtrxl256"): TMAZE | dict(core=GTRXL | dict(memory_len=256), learning_rate=5e-4),
    (a2c_arelit, "tmaze-lstm"): TMAZE | dict(core=dict(name="lstm", n_layers=1, d_model=600)),
    (a2c_arelit, "tmaze-gru"): TMAZE
    | dict(core=dict(name="gru", n_layers=1, d_model=680), learning_rate=5e-4, ent_coef=0.01),
    (a2c_arelit, "tmazeours-arelit"): TMAZE | dict(core=ARELIT, env={"id": "TMazeOurs", "corridor_len": 160}),
    (a2c_arelit, "halfcheetah-relit"): A2C | NORMAL | dict(total_timesteps=100_000_000, core=RELIT),
    (ppo_arelit, "mysterypath-arelit4"): MYSTERY | dict(core=ARELIT),
    (ppo_arelit, "mysterypath-arelit8"): MYSTERY | dict(core=ARELIT | dict(eta=8)),
    (ppo_arelit, "mysterypath-gtrxl128"): MYSTERY | dict(core=GTRXL | dict(memory_len=128)),
    (ppo_arelit, "mysterypath-gtrxl64"): MYSTERY | dict(core=GTRXL | dict(memory_len=64)),
    (ppo_arelit, "mysterypath-gtrxl32"): MYSTERY | dict(core=GTRXL | dict(memory_len=32)),
    (ppo_arelit, "memorymaze-arelit"): MEMORY_MAZE
    | dict(core=ARELIT | dict(d_model=512, d_ffc=512, n_heads=8, r=7), env={"id": "MemoryMaze-15x15-v0"}),
    (ppo_arelit, "craftax-arelit"): CRAFTAX | dict(core=ARELIT | dict(eta=8)),
    (ppo_arelit, "craftax-gtrxl128"): CRAFTAX | dict(core=GTRXL | dict(memory_len=128)),
    (pqn_arelit, "craftax-pqn"): CRAFTAX_PQN,
    (ppo_arelit_continuous, "halfcheetah-arelit"): HALFCHEETAH
    | dict(core=ARELIT | dict(n_layers=3, n_heads=1), sequence_length=512),
}


def name_of(algo) -> str:
    return algo.__name__.removeprefix("algos.")


@pytest.mark.parametrize(("algo", "preset"), PUBLISHED, ids=lambda x: getattr(x, "__name__", x))
def test_a_published_configuration_has_the_published_values(algo, preset):
    config = algo.Config(**PRESETS[name_of(algo)][preset])
    for name, value in PUBLISHED[algo, preset].items():
        assert getattr(config, name) == value, name


def test_every_discrete_preset_is_in_the_table():
    for algo in (a2c_arelit, ppo_arelit):
        assert {preset for module, preset in PUBLISHED if module is algo} == set(PRESETS[name_of(algo)]) - {
            "default"
        }
