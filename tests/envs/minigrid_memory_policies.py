"""Exact values of policies in MiniGrid-Memory, from the environment's own transitions and observations."""

import functools
import math
from collections import Counter
from typing import NamedTuple

import jax
import numpy as np

import envs
from envs.minigrid_memory import EnvState

RUNNING, SUCCESS, FAILURE = range(3)
TURNS_AND_FORWARD = 3  # actions; the other four change nothing


class Model(NamedTuple):
    """All N states that an episode comes to. The first hallway_end, cue and top of a state never change.

    follow: the state after each action, int [N, 7]. end: RUNNING, SUCCESS or FAILURE, [N]. seen: number of the
    observation, int [N]. fields: int [N, (hallway_end, cue, top, x, y, direction)]. starts: states -> chance as a
    whole number of equal parts.
    """

    follow: np.ndarray
    end: np.ndarray
    seen: np.ndarray
    fields: np.ndarray
    starts: dict[int, int]
    max_steps: int


@functools.cache
def model(env_id: str, view: int) -> Model:
    env, params = envs.make(env_id, agent_view_size=view)
    n, centre = env.size, env.size // 2
    ends = range(4, n - 2) if "Random" in env_id else range(n - 3, n - 2)
    shape = (len(ends), 2, 2, n, 3, 4)
    first = np.array([ends[0], 0, 0, 0, centre - 1, 0])
    fields = np.indices(shape).reshape(6, -1).T + first  # [N, 6]

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.vmap, in_axes=(None, 0))
    def step(fields, action):
        state = EnvState(0, *fields)
        _, after, _, terminated, info = env.step_env(jax.random.key(0), state, action, params)
        after = (after.hallway_end, after.cue, after.top, after.x, after.y, after.direction)
        return jax.numpy.stack(after), terminated, info["episode_success"], env.get_obs(state, params)

    after, terminated, success, seen = map(np.asarray, step(fields.astype(np.int32), np.arange(7)))
    inside = ((after - first >= 0) & (after - first < shape)).all(-1)
    follow = np.where(inside, np.ravel_multi_index((after - first).clip(0, np.array(shape) - 1).T, shape).T, 0)
    parts = math.lcm(*ends)
    starts = {
        int(np.ravel_multi_index(np.array([end, cue, top, x, centre, 0]) - first, shape)): parts // end
        for end in ends
        for cue in (0, 1)
        for top in (0, 1)
        for x in range(1, end + 1)
    }
    end_of = np.zeros(len(fields), int)
    reached, frontier = set(starts), set(starts)
    while frontier:
        new = set()
        for state in frontier:
            for action in range(7):
                if terminated[state, action]:
                    end_of[follow[state, action]] = SUCCESS if success[state, action] else FAILURE
                new.add(int(follow[state, action]))
        frontier = {state for state in new - reached if not end_of[state]}
        reached |= new
    states = np.array(sorted(reached))
    renumbered = np.zeros(len(fields), int)
    renumbered[states] = np.arange(len(states))
    number = np.unique(seen[states, 0].reshape(len(states), -1), axis=0, return_inverse=True)[1].ravel()
    starts = {int(renumbered[state]): weight for state, weight in starts.items()}
    return Model(renumbered[follow[states]], end_of[states], number, fields[states], starts, params.max_steps)


def random_values(known: Model, num_actions: int) -> tuple[float, float, float]:
    """(return, success, mean steps) of uniformly random actions among the first `num_actions`."""
    chance = np.zeros(len(known.end))
    chance[list(known.starts)] = np.array(list(known.starts.values())) / sum(known.starts.values())
    follow = known.follow[:, :num_actions]
    value = success = steps = 0.0
    for time in range(1, known.max_steps + 1):
        steps += chance.sum()
        chance = np.bincount(follow.ravel(), np.repeat(chance / num_actions, num_actions), len(chance))
        won = chance[known.end == SUCCESS].sum()
        success += won
        value += won * (1 - 0.9 * time / known.max_steps)
        chance[known.end != RUNNING] = 0
    return value, success, steps


class Optimum(NamedTuple):
    """The policy that succeeds always in the fewest steps on average.

    steps: their mean. beliefs: how many it can come to. plans: actions of every start state.
    """

    steps: float
    beliefs: int
    plans: dict[int, list[int]]


def optimum(known: Model) -> Optimum:
    """Solves for it over beliefs: the states that agree with all observations, with their chances."""
    parts = _by_observation(known, Counter(known.starts))
    numbers = {belief: i for i, belief in enumerate(parts.values())}
    outcomes, forbidden, todo = [], [], list(numbers)
    while todo:
        belief = todo.pop()
        for action in range(TURNS_AND_FORWARD):
            row = TURNS_AND_FORWARD * numbers[belief] + action
            after, total = Counter(), sum(weight for _, weight in belief)
            for state, weight in belief:
                after[int(known.follow[state, action])] += weight
            if any(known.end[state] == FAILURE for state in after):
                forbidden.append(row)
                continue
            running = Counter({state: weight for state, weight in after.items() if known.end[state] == RUNNING})
            shares = Counter()
            for state, weight in running.items():
                shares[known.seen[state]] += weight
            for number, part in _by_observation(known, running).items():
                if part not in numbers:
                    numbers[part] = len(numbers)
                    todo.append(part)
                outcomes.append((row, numbers[part], shares[number] / total))
    row, child, chance = (np.array(column) for column in zip(*outcomes, strict=True))
    steps, before = np.zeros(len(numbers)), None
    while before is None or abs(steps - before).max() > 1e-9:
        before = steps
        values = 1 + np.bincount(row, chance * steps[child], TURNS_AND_FORWARD * len(numbers))
        values[forbidden] = np.inf
        steps = values.reshape(-1, TURNS_AND_FORWARD).min(1)
    best = values.reshape(-1, TURNS_AND_FORWARD).argmin(1)
    beliefs = list(numbers)
    children = {(int(r), beliefs[c]) for r, c in zip(row, child, strict=True)}
    following = {}
    for r, belief in children:
        for state, _ in belief:
            following[r, known.seen[state]] = numbers[belief]
    plans, total = {}, 0.0
    for start, weight in known.starts.items():
        plan, state, belief = [], start, numbers[parts[known.seen[start]]]
        while not plan or known.end[state] == RUNNING:
            plan.append(int(best[belief]))
            state = known.follow[state, plan[-1]]
            belief = following.get((TURNS_AND_FORWARD * belief + plan[-1], known.seen[state]))
        plans[start] = plan
        total += weight * len(plan)
    return Optimum(total / sum(known.starts.values()), len(numbers), plans)


def _by_observation(known: Model, chances: Counter) -> dict[int, tuple]:
    """Beliefs by what is seen: ((state, whole-numbered chance), ...), sorted, without a common factor."""
    parts: dict[int, list] = {}
    for state, weight in sorted(chances.items()):
        parts.setdefault(int(known.seen[state]), []).append((state, weight))
    return {seen: _reduced(part) for seen, part in parts.items()}


def _reduced(part: list) -> tuple:
    factor = math.gcd(*(weight for _, weight in part))
    return tuple((state, weight // factor) for state, weight in part)
