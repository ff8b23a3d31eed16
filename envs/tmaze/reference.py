"""What is known of the returns of T-Mazes: random actions, the best without memory, and the best with it.

Random play is followed exactly: the chances of all places from step to step (`_follow`). Where no proof covers
the options, or the corridor is too long to be followed, nothing is said.

Without memory nobody does better than to guess, where every path to the arms passes a place that looks the same
for both cues, so that from there both arms are as likely with the one cue as with the other, and where running
out of time pays no more than the wrong arm. In TMaze-Pobax it pays more, and the cue is in view as long as one
stands at its place: who declines one of the goals does better than to guess.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from envs.tmaze import endless, passive_active, traces

_WORK = 5e7  # numbers that are computed at most for an answer, seconds of time
_OVERHEAD = 2000  # as many as a step costs beside its places
_FEW = 400  # places up to which a walk's steps are a matrix whose powers are taken
_NOBODY = 1e-12  # a chance below which a walk is over
_FAR = 20  # corridors of TMaze-Endless: random play gets farther in one of 3^20 episodes

Known = dict[str, Any] | None


def reference(env_id: str, **options: Any) -> dict[str, Known]:
    """Known returns of a T-Maze; see `envs.reference`."""
    length, limit = options["corridor_len"], options.get("max_episode_steps")
    if env_id in ("TMaze-v1", "TMaze-v2"):
        return _line(length - 1, limit, leaves=False, win=4.0, lose=-1.0, step=-0.1)
    if env_id == "TMazeOurs":
        win, lose, step = options["goal_reward"], -options["goal_penalty"], -options["timestep_penalty"]
        return _line(length, limit, leaves=True, win=win, lose=lose, step=step)
    if env_id == "TMaze-Pobax":
        return _pobax(length, limit)
    if env_id == "TMaze-Endless":
        return _endless(**options)
    if env_id == "TMaze-Traces":
        return _traces(length, limit or traces.own_limit(length), actions=6 if options["no_ops"] else 3)
    return _ni(int(env_id == "TMaze-Active"), **options)


def _known(value: float | None, mark: str, note: str) -> Known:
    return None if value is None else {"value": float(value), "mark": mark, "note": note}


def _returns(random: float | None, without: Known, with_memory: Known) -> dict[str, Known]:
    note = "expectation of uniform actions, followed over all places and steps"
    return {
        "random": _known(random, "computed", note),
        "without_memory": without,
        "with_memory": with_memory,
    }


def _follow(chances: np.ndarray, step: Callable, limit: int) -> list[float] | None:
    """Sums over an episode of what `step` counts.

    Args:
        chances: of every place at the start.
        step: chances -> (chances after a step, expected counts of this step), linear in the chances.
        limit: steps.

    Returns:
        Expected counts of an episode; None if the walk is too long to be followed.
    """
    if chances.size <= min(_FEW, limit / 4):
        return _by_powers(chances, step, limit)
    totals = 0.0
    for t in range(limit):
        if t * (chances.size + _OVERHEAD) > _WORK:
            return None
        chances, counts = step(chances)
        totals = totals + np.array(counts)
        if chances.sum() < _NOBODY:
            break
    return list(totals)


def _by_powers(chances: np.ndarray, step: Callable, limit: int) -> list[float]:
    """`_follow` with the matrix of a step, to which a row is added for every sum: its power is the whole walk."""
    size = chances.size
    units = np.eye(size).reshape(size, *chances.shape)
    columns = [(after.ravel(), counts) for after, counts in map(step, units)]
    places, counts = (np.array(each).T for each in zip(*columns, strict=True))
    matrix = np.block([[places, np.zeros((size, len(counts)))], [counts, np.eye(len(counts))]])
    return list(np.linalg.matrix_power(matrix, limit)[size:, :size] @ chances.ravel())


# Corridors whose junction ends the episode


def _line(junction: int, limit: int, leaves: bool, win: float, lose: float, step: float) -> dict[str, Known]:
    """TMaze-v1, -v2 and TMazeOurs.

    Args:
        junction: steps from the start to it.
        limit: steps.
        leaves: whether one can go back from the junction.
        win, lose: what the arms pay.
        step: what every other step pays.
    """
    random = _random_line(junction, limit, leaves)
    value = None if random is None else random[0] * (win + lose) / 2 + random[1] * step
    if limit <= junction:
        out_of_reach = _known(limit * step, "exact", "the arms are out of reach within the time limit")
        return _returns(value, out_of_reach, out_of_reach)
    walk = max(junction * step, (limit - 1) * step)
    best = max(max(win, lose) + walk, limit * step)
    guess = (win + lose) / 2 + junction * step
    guessing_is_best = step <= 0 and win >= lose and lose + junction * step >= limit * step
    return _returns(
        value,
        _known(guess if guessing_is_best else None, "exact", "the shortest way and either arm"),
        _known(best, "exact", "the shortest way and the cue's arm"),
    )


def _random_line(junction: int, limit: int, leaves: bool) -> list[float] | None:
    """(chance to enter an arm, expected number of other steps) of uniform actions."""
    if limit <= junction:
        return [0.0, limit]
    start = np.zeros(junction + 1)  # chances of the places, the junction last
    start[0] = 1.0

    def step(p):
        after = p / 2  # the two actions that do nothing in the corridor and end the episode at the junction
        after[1:] += p[:-1] / 4
        after[0] += p[0] / 4
        after[:-2] += p[1:-1] / 4
        if leaves:
            after[-1] -= p[-1] / 4
            after[-2] += p[-1] / 4
        ends = p[-1] / 2
        return after, (ends, p.sum() - ends)

    return _follow(start, step, limit)


def _pobax(length: int, limit: int) -> dict[str, Known]:
    junction = length + 1
    random = _random_line(junction, limit, leaves=True)
    value = None if random is None else random[0] * (4.0 - 0.1) / 2
    if limit <= junction:
        out_of_reach = _known(0.0, "exact", "the arms are out of reach within the time limit")
        return _returns(value, out_of_reach, out_of_reach)
    note = (
        "up at the junction, but standing still where the first bit shows that down is right; always going on and "
        "guessing gives 1.95"
    )
    return _returns(value, _known(2.0, "exact", note), _known(4.0, "exact", "the goal's arm"))


# TMaze-Passive and TMaze-Active


def _ni(
    oracle_length: int, corridor_len: int, goal_reward: float, lag_penalty: float, distract_reward: float
) -> dict[str, Known]:
    random = _random_ni(oracle_length, corridor_len)
    if random is not None:
        random = random[0] * goal_reward - random[1] * lag_penalty / corridor_len + random[2] * distract_reward
    if goal_reward < 0 or lag_penalty < 0 or distract_reward:
        return _returns(random, None, None)
    return _returns(
        random,
        _known(goal_reward / 2, "exact", "straight to the junction and into either arm"),
        _known(goal_reward, "exact", "no step wasted, and the cue's arm"),
    )


def _random_ni(oracle_length: int, corridor_len: int) -> list[float] | None:
    """Expected (ends at the goal, late steps, steps at x = 0 before the last) of uniform actions."""
    end = corridor_len + oracle_length
    steps = passive_active.horizon(corridor_len, oracle_length)
    start = np.zeros(end + 2)  # places of the corridor, the junction, both arms together
    start[oracle_length] = 1.0
    time = 0

    def step(p):
        nonlocal time
        time += 1
        corridor, arms = p[:-1], p[-1]
        after = np.zeros_like(p)
        after[:end] = corridor[:end] / 2
        after[1 : end + 1] += corridor[:end] / 4
        after[0] += corridor[0] / 4
        after[:end] += corridor[1:] / 4
        after[end] += corridor[end] / 4 + arms / 4
        after[-1] = corridor[end] / 2 + arms * 3 / 4
        if time == steps:
            return after, (after[-1] / 2, 0.0, 0.0)
        return after, (0.0, after[: max(time - oracle_length, 0)].sum(), after[0])

    return _follow(start, step, steps)


# TMaze-Endless


def _endless(
    corridor_len: int,
    num_corridors: int,
    uniform_lengths: bool,
    correct_reward: float,
    wrong_reward: float,
    corridor_penalty: float,
    forward_reward: float,
    max_episode_steps: int,
) -> dict[str, Known]:
    limit = max_episode_steps or endless.own_limit(corridor_len, num_corridors)
    rewards = (correct_reward, wrong_reward, corridor_penalty, forward_reward)
    random = _random_endless(corridor_len, num_corridors, uniform_lengths, limit, *rewards)
    if wrong_reward > correct_reward or corridor_penalty > 0 or forward_reward > 0:
        return _returns(random, None, None)
    known = _uniform_lengths if uniform_lengths else _fixed_lengths
    return _returns(random, *known(corridor_len, num_corridors, limit, *rewards))


def _random_endless(length, count, uniform, limit, correct, wrong, penalty, forward) -> float | None:
    far = min(count or _FAR, _FAR)
    junction = np.zeros(length + 1)  # chance that a place x > 0 is the junction if the ones before are not
    junction[-1] = 1.0
    if uniform:
        junction[1:] = 1 / (length - np.arange(length))
    mean_length = (length + 1) / 2 if uniform else length
    at_junction = (correct + 2 * wrong) / 3
    if length >= 100 and limit >= endless.own_limit(length, count):  # nobody is ever out of time
        corridor = mean_length * (forward + 2 * penalty) + at_junction
        return corridor * (1 - 3.0**-far) / (1 - 1 / 3)
    start = np.zeros((2, far, length + 1))  # not at a junction, at one; corridor; place
    start[0, 0, 0] = 1.0

    def step(p):
        walk, ends = p
        after = np.zeros_like(p)
        after[0] = walk * 2 / 3
        after[0, :, 1:] += walk[:, :-1] / 3 * (1 - junction[1:])
        after[1, :, 1:] = walk[:, :-1] / 3 * junction[1:]
        after[0, 1:, 0] += ends[:-1].sum(1) / 3
        return after, (walk.sum() / 3, walk.sum() * 2 / 3, ends.sum())

    counts = _follow(start, step, limit)
    return None if counts is None else float(np.dot(counts, [forward, penalty, at_junction]))


def _fixed_lengths(length, count, limit, correct, wrong, penalty, forward) -> tuple[Known, Known]:
    """(without memory, with it)."""
    corridor = correct + length * forward  # what one that is left pays
    whole, rest = divmod(limit, length + 1)  # corridors that there is time for
    ends = 0 < count <= whole
    rest_pays = 0.0 if ends else rest * max(forward, penalty)
    best = None
    if corridor >= 0 and correct + rest_pays >= wrong:
        best = (count if ends else whole) * corridor + rest_pays

    guess = None
    each = (correct + wrong) / 2 + length * forward
    waiting = penalty * (limit - count * (length + 1))
    if ends and waiting <= length * forward + wrong and correct + 2 * min(each, 0) >= wrong:
        guess = each * (2 - 2.0 ** (1 - count))
    return (
        _known(guess, "exact", "a guess at every junction"),
        _known(best, "exact", "the cue's turn at every junction"),
    )


def _uniform_lengths(length, count, limit, correct, wrong, penalty, forward) -> tuple[Known, Known]:
    """(without memory, with it)."""
    if not 0 < count * length <= 1e6 or limit < 2 * count * length:
        return None, None
    guess = _best_turns(length, count, correct, wrong, penalty, forward)
    if penalty * (limit - 2 * count * length) > length * forward + wrong or guess <= 0:
        guess = None
    note = "turns tried with the best chance at every place, as without a time limit"
    return (
        _known(guess, "computed", note),
        _known(
            _best_tries(length, count, correct, wrong, penalty, forward),
            "computed",
            "the cue's turn is tried once at every place where that pays, for the junction is not seen",
        ),
    )


def _best_tries(length, count, correct, wrong, penalty, forward) -> float | None:
    """Dynamic programming over corridors and places from the end; None if it can be better to stand still."""
    rest = 0.0  # of the corridors behind this one
    for _ in range(count):
        value = correct + rest  # at the last place, which must be the junction
        for place in range(length - 1, 0, -1):
            chance = 1 / (length - place + 1)  # of being the junction
            tried = chance * (correct + rest) + (1 - chance) * (penalty + forward + value)
            passed = chance * wrong + (1 - chance) * (forward + value)
            value = max(tried, passed)
            if value < 0:
                return None
        rest = forward + value
        if rest < 0:
            return None
    return rest


def _best_turns(length, count, correct, wrong, penalty, forward) -> float:
    """The best chance of a turn at every place, without memory.

    A turn with chance t at a place is right there with chance t / 2 if it is the junction, and costs
    t / (1 - t) penalties if it is not. A corridor then pays s correct + (1 - s) wrong - costs and is followed by
    another with chance s; for a given s the costs are least where all places gain as much for an equal cost, so
    that 1 - t is proportional to the root of the chance that the corridor goes on.
    """
    goes_on = np.arange(length - 1, -1, -1) / length  # chance that places 1 .. length are not the junction

    def values(scales):
        forward_chance = np.minimum(scales[:, None] * np.sqrt(goes_on), 1.0)  # [scales, places]
        costs = goes_on * -penalty * (1 / np.where(goes_on > 0, forward_chance, 1.0) - 1)
        success = (1 - forward_chance).sum(1) / (2 * length)
        corridor = success * correct + (1 - success) * wrong - costs.sum(1) + forward * (length + 1) / 2
        return corridor * (1 - success**count) / (1 - success)

    coarse = np.geomspace(1e-4, 1e4, 401)
    best = np.clip(np.argmax(values(coarse)), 1, len(coarse) - 2)
    fine = np.linspace(coarse[best - 1], coarse[best + 1], 401)
    return float(np.max(values(fine)))


# TMaze-Traces


def _traces(length: int, limit: int, actions: int) -> dict[str, Known]:
    random = _random_traces(length, limit, actions)
    if limit <= length:
        out_of_reach = _known(0.0, "exact", "the arms are out of reach within the time limit")
        return _returns(random, out_of_reach, out_of_reach)
    cue_is_far = length >= 4  # from the junction it is not seen
    return _returns(
        random,
        _known(0.5 if cue_is_far else None, "exact", "the shortest way and either arm"),
        _known(1.0, "exact", "the shortest way and the arm of the cue's colour"),
    )


def _random_traces(length: int, limit: int, actions: int) -> float | None:
    start = np.zeros((3, length))  # looking right, left, up or down; columns
    start[0, 0] = 1.0

    def step(p):
        right, left, aside = p
        after = p * (1 - 3 / actions)  # actions without effect; below, three times an effect
        after[0, 1:] += right[:-1] / actions
        after[0, -1] += right[-1] / actions
        after[1, :-1] += left[1:] / actions
        after[1, 0] += left[0] / actions
        after[2, :-1] += aside[:-1] / actions
        after[2] += 2 * (right + left) / actions
        after[:2] += aside / actions
        return after, (aside[-1] / actions,)

    ended = _follow(start, step, limit)
    return None if ended is None else ended[0] / 2
