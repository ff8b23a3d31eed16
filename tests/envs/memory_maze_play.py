"""Plays Memory Maze without JAX: python memory_maze_play.py {original,fast} OUT.npz

Plays the EPISODES below from their seeds, with all environments in one process.
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
# Size, seed, actions of the first episode, in which an oracle reaches targets (steps 59 and 31); more are drawn.
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


def play(kind: str):
    """For each of EPISODES (frames, rewards, ends), a step of each environment in turn."""
    module = load_fast()
    maze = {"original": module.OriginalMemoryMaze, "fast": module.FastMemoryMaze}[kind]
    envs = [maze(size, LIMIT) for size, _, _ in EPISODES]
    moves = [actions(seed, first) for _, seed, first in EPISODES]
    played = [([env.reset(seed=seed)[0].copy()], [], []) for env, (_, seed, _) in zip(envs, EPISODES, strict=True)]
    for index in range(len(moves[0])):
        for env, move, (frames, rewards, ends) in zip(envs, moves, played, strict=True):
            frame, reward, terminated, truncated, _ = env.step(move[index])
            assert not terminated
            frames.append(frame.copy())
            rewards.append(reward)
            ends.append(truncated)
            if truncated and index + 1 < len(move):
                frames.append(env.reset()[0].copy())
    return played


if __name__ == "__main__":
    names = ("frames", "reward", "ends")
    arrays = {
        f"{name}_{k}": np.array(part)
        for k, parts in enumerate(play(sys.argv[1]))
        for name, part in zip(names, parts, strict=True)
    }
    np.savez(sys.argv[2], **arrays)
