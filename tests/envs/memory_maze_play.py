"""Plays Memory Maze without JAX: python memory_maze_play.py {original,fast} OUT.npz

Both play the EPISODES below from their seeds; `fast` holds the environments in one process and steps them in turn.
OUT.npz holds, for the k-th environment, frames_k [T + episodes, 64, 64, 3], reward_k [T] and ends_k [T].
"""

import importlib.util
import os
import sys
from pathlib import Path

import numpy as np

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ["LP_NUM_THREADS"] = "0"
FAST = Path(__file__).parents[2] / "envs" / "memory_maze" / "fast.py"
LIMIT = 65  # steps of an episode
# Size, seed, actions of the first episode, in which an oracle reaches targets (steps 59 and 31); further are drawn.
EPISODES = (
    ("9x9", 1, "33333355111111222441111115403411111121122411411343335115111333533"),
    ("15x15", 2, "23222224411333351145511114111112224411151114111111151111433355111"),
)
NUM_EPISODES = 3


def load_fast():
    spec = importlib.util.spec_from_file_location("fast", FAST)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def actions(seed: int, first: str) -> list[int]:
    known = [int(digit) for digit in first[:LIMIT]]
    drawn = np.random.default_rng(seed).choice([1, 1, 1, 4, 5, 2, 3, 0], size=(NUM_EPISODES - 1) * LIMIT)
    return known + drawn.tolist()


def original(size: str, seed: int, moves: list[int]):
    """The unchanged environment of memory_maze, but for the time limit."""
    load_fast()  # its stand-in for the module gym, which memory_maze asks for
    from memory_maze import tasks

    env = getattr(tasks, f"memory_maze_{size}")(image_only_obs=True, seed=seed)
    inner = env
    while hasattr(inner, "env"):
        inner = inner.env
    inner._time_limit = LIMIT / 4 - 1e-3
    frames, rewards, ends = [env.reset().observation.copy()], [], []
    for index, move in enumerate(moves):
        step = env.step(move)
        assert step.discount == 1.0
        frames.append(step.observation.copy())
        rewards.append(step.reward)
        ends.append(step.last())
        if step.last() and index + 1 < len(moves):
            frames.append(env.reset().observation.copy())
    return frames, rewards, ends


def fast():
    """All of EPISODES in turn, a step of each."""
    module = load_fast()
    envs = [module.FastMemoryMaze(size, LIMIT) for size, _, _ in EPISODES]
    moves = [actions(seed, first) for _, seed, first in EPISODES]
    played = [([env.reset(seed=seed)[0]], [], []) for env, (_, seed, _) in zip(envs, EPISODES, strict=True)]
    for index in range(len(moves[0])):
        for env, move, (frames, rewards, ends) in zip(envs, moves, played, strict=True):
            frame, reward, terminated, truncated, _ = env.step(move[index])
            assert not terminated
            frames.append(frame)
            rewards.append(reward)
            ends.append(truncated)
            if truncated and index + 1 < len(move):
                frames.append(env.reset()[0])
    return played


if __name__ == "__main__":
    if sys.argv[1] == "fast":
        all_played = fast()
    else:
        all_played = [original(size, seed, actions(seed, first)) for size, seed, first in EPISODES]
    names = ("frames", "reward", "ends")
    arrays = {
        f"{name}_{k}": np.array(part)
        for k, played in enumerate(all_played)
        for name, part in zip(names, played, strict=True)
    }
    np.savez(sys.argv[2], **arrays)
