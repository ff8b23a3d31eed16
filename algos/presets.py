"""Published and default settings of every trainer: the fields of its Config that differ, by name.

`PRESETS["ppo_arelit"]["craftax-arelit"]` is what `python algos/ppo_arelit.py --preset craftax-arelit` changes. A
dictionary of a core or an environment holds the options that differ from its own defaults.
"""

import math
from typing import Any

Preset = dict[str, Any]

# --------------------------------------------------------------------------------------------------------------
# Cores

# Of the released code; eta, the size of the feature map, differs between its experiments.
ARELIT = {"name": "arelit", "n_layers": 4, "d_model": 128, "d_head": 64, "d_ffc": 128, "n_heads": 4, "r": 2}
RELIT_SIZES = {"n_layers": 4, "d_model": 128, "d_head": 64, "d_ffc": 128, "n_heads": 4, "nu": 2}
RELIT = {"name": "relit", "update_rule": "projected_sigmoid", "kernel": "pp_relu"} | RELIT_SIZES
GTRXL = {"name": "gtrxl", "n_layers": 4, "d_model": 128, "d_head": 64, "n_heads": 4}
LSTM = {"name": "lstm", "n_layers": 1, "d_model": 600}
GRU = {"name": "gru", "n_layers": 1, "d_model": 680}
# Smaller, for the trainers' defaults. Control: one oscillator stands still, values start with longer memories and
# gates start half open.
ARELIT_CONTROL = ARELIT | {"n_layers": 2, "n_heads": 2, "eta": 2, "r": 3, "horizon": 32, "gate_bias": 0.0}
ARELIT_32 = ARELIT | {"n_layers": 1, "d_model": 32, "d_head": 16, "d_ffc": 32, "n_heads": 2, "eta": 2}

# --------------------------------------------------------------------------------------------------------------
# Tasks

# T-Maze as published, for A2C.
TMAZE = {
    "env": {"id": "TMaze-v2", "corridor_len": 160},
    "total_timesteps": 5_000_000,
    "num_envs": 8,
    "num_steps": 256,
    "learning_rate": 1e-4,
    "anneal_learning_rate": False,
    "ent_coef": 0.001,
    "actor_hidden": 128,
    "critic_hidden": 128,
}

MYSTERY_PATH = {
    # As published, where the time limit is an end like any other.
    "env": {"id": "MysteryPath-Grid-Easy-v0", "time_limit_terminates": True},
    "actor_hidden": 256,
    "critic_hidden": 256,
    "total_timesteps": 150_000_000,
    "num_envs": 128,
    "learning_rate": 2.5e-4,
    "max_grad_norm": 5.0,
    "update_epochs": 3,
    "ent_coef": 3e-4,
}

CRAFTAX = {
    "env": {"id": "craftax/Craftax-Symbolic-v1"},
    "encoder_widths": (128,),
    "head_activation": "relu",
    "head_scale": 2.0,
    "actor_scale": 0.01,
    "critic_scale": 1.0,
    "total_timesteps": 1_000_000_000,
    "num_envs": 1024,
    "learning_rate": 4e-4,
    "anneal_learning_rate": True,
    "adam_eps": 1e-5,
    "max_grad_norm": 1.0,
    "gae_lambda": 0.8,
    "value_clip": 0.2,
    "ent_coef": 0.01,
}

MEMORY_MAZE = {
    "env": {"id": "MemoryMaze-15x15-v0"},
    "conv_channels": (32, 64, 128, 256),
    "conv_kernels": (4, 4, 4, 4),
    "conv_strides": (2, 2, 2, 2),
    "actor_hidden": 256,
    "critic_hidden": 256,
    "total_timesteps": 100_000_000,
    "num_envs": 64,
    "num_steps": 200,
    "sequence_length": 100,
    "learning_rate": 2.5e-4,
    "max_grad_norm": 4.0,
    "update_epochs": 1,
    "num_minibatches": 4,
    "clip_eps": 0.1,
    "value_clip": 1.0,  # configured there, but not read
    "ent_coef": 0.003,
    # Every one is a maze of its own, some 100 MB, and plays thousands of steps.
    "eval_episodes": 8,
}

# HalfCheetah-v4 of the fork for continuous actions is Brax's halfcheetah here.
HALFCHEETAH = {"env": {"id": "brax/halfcheetah"}, "total_timesteps": 100_000_000}

BRAX = {"core": ARELIT | {"n_layers": 2, "d_head": 32, "eta": 4}, "total_timesteps": 5_000_000}

# --------------------------------------------------------------------------------------------------------------
# Presets

PPO_DISCRETE: dict[str, Preset] = {
    "default": {},
    "mysterypath-arelit4": MYSTERY_PATH | {"core": ARELIT | {"eta": 4}},
    "mysterypath-arelit8": MYSTERY_PATH | {"core": ARELIT | {"eta": 8}},
    "mysterypath-gtrxl128": MYSTERY_PATH | {"core": GTRXL | {"memory_len": 128}},
    "mysterypath-gtrxl64": MYSTERY_PATH | {"core": GTRXL | {"memory_len": 64}},
    "mysterypath-gtrxl32": MYSTERY_PATH | {"core": GTRXL | {"memory_len": 32}},
    "memorymaze-arelit": MEMORY_MAZE
    | {"core": ARELIT | {"d_model": 512, "d_ffc": 512, "n_heads": 8, "eta": 4, "r": 7}},
    "craftax-arelit": CRAFTAX | {"core": ARELIT | {"eta": 8}},
    "craftax-gtrxl128": CRAFTAX | {"core": GTRXL | {"memory_len": 128}},
}

PPO_CONTINUOUS: dict[str, Preset] = {
    "default": {},
    "halfcheetah-arelit": HALFCHEETAH
    | {
        "core": ARELIT | {"n_layers": 3, "n_heads": 1, "eta": 4},
        "num_envs": 8,
        "num_steps": 512,
        "sequence_length": 512,
        "learning_rate": 1e-4,
        "anneal_learning_rate": False,
        "num_minibatches": 4,
        "update_epochs": 10,
        "max_grad_norm": 0.25,
        "actor_scale": math.sqrt(2),
        "critic_scale": math.sqrt(2),
    },
    **{
        task + hidden: BRAX | {"env": {"id": f"brax/{task}{hidden}"}}
        for task in ("ant", "hopper", "walker2d")
        for hidden in ("", "-P", "-V")
    },
}

A2C: dict[str, Preset] = {
    "default": {},
    "tmaze-arelit": TMAZE | {"core": ARELIT | {"eta": 4}},
    "tmaze-relit": TMAZE | {"core": RELIT},
    "tmaze-gtrxl128": TMAZE | {"core": GTRXL | {"memory_len": 128}, "learning_rate": 5e-4, "ent_coef": 0.01},
    "tmaze-gtrxl256": TMAZE | {"core": GTRXL | {"memory_len": 256}, "learning_rate": 5e-4},
    "tmaze-lstm": TMAZE | {"core": LSTM},
    "tmaze-gru": TMAZE | {"core": GRU, "learning_rate": 5e-4, "ent_coef": 0.01},
    # The T-Maze of the fork for continuous actions.
    "tmazeours-arelit": TMAZE | {"env": {"id": "TMazeOurs", "corridor_len": 160}, "core": ARELIT | {"eta": 4}},
    # What the fork does not say for A2C is as in its PPO.
    "halfcheetah-relit": TMAZE
    | HALFCHEETAH
    | {"core": RELIT, "normalize_observations": True, "normalize_rewards": True},
}

PQN: dict[str, Preset] = {
    "default": {},
    # As published for a recurrent network, but with layer norm where that has batch norm, running statistics of
    # observations for its batch norm of them, a hidden layer between memory and Q values (none there), and the
    # previous action and reward in the observation (the action alone, after the encoder, there).
    "craftax-pqn": {
        "env": {"id": "craftax/Craftax-Symbolic-v1"},
        "core": {"name": "lstm", "n_layers": 1, "d_model": 512},
        "encoder_widths": (512,),
        "q_hidden": 512,
        "previous_action_reward": True,
        "normalize_observations": True,
        "total_timesteps": 10_000_000_000,
        "num_envs": 1024,
        "num_steps": 128,
        "sequence_length": 128,
        "epsilon_end": 0.005,
        "anneal_epsilon": 0.1,
        "learning_rate": 3e-4,
        "anneal_learning_rate": True,
        "max_grad_norm": 0.5,
        "gae_lambda": 0.5,
        "update_epochs": 4,
        "num_minibatches": 4,
    },
    "memorychain": {"env": {"id": "gymnax/MemoryChain-bsuite", "memory_length": 20}, "total_timesteps": 500_000},
}

PRESETS: dict[str, dict[str, Preset]] = {
    "ppo_arelit": PPO_DISCRETE,
    "ppo_arelit_continuous": PPO_CONTINUOUS,
    "a2c_arelit": A2C,
    "pqn_arelit": PQN,
}
"""Presets by trainer; the first is its default."""
