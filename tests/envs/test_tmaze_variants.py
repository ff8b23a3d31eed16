"""The T-Mazes of other papers: replay of the originals, laws of the draws, and what memory is worth in them."""

import functools
import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs
from tests.marks import slow_if

STEPS = ("actions", "rewards", "terminated", "truncated")
FOLDER = Path(__file__).parents[1] / "oracle" / "tmaze"
IDS = ("TMaze-Passive", "TMaze-Active", "TMaze-Endless", "TMaze-Traces", "TMaze-Pobax")
every_id = pytest.mark.parametrize("env_id", IDS)


# Replay


@functools.cache
def load(name):
    with np.load(FOLDER / name) as file:
        return dict(file)


def settings(name, meta, episode):
    """(id, options) of an episode."""
    if name.startswith("endless"):
        count = meta["num_corridors"]
        if "v1" in name:
            length = meta["corridor_length"]
            limit = (length + 1) * count
            return "TMaze-Endless", dict(corridor_len=length, num_corridors=count, max_episode_steps=limit)
        options = dict(corridor_len=meta["length_max"], num_corridors=count)
        return "TMaze-Endless", options | dict(uniform_lengths=meta["mode"] == "uniform")
    if name.startswith("tmaze_traces"):
        limit = meta["max_steps"][episode]
        own = limit == 5 * (meta["length"] + 2) ** 2
        return "TMaze-Traces", dict(corridor_len=meta["length"], max_episode_steps=0 if own else limit)
    if name.startswith("tmaze_pobax"):
        return "TMaze-Pobax", dict(corridor_len=meta["hallway_length"])
    env_id = "TMaze-Passive" if "passive" in name else "TMaze-Active"
    return env_id, dict(corridor_len=meta["corridor_length"])


def recorded(name):
    """Episodes of a file: (id, options, layout, {"actions" [T], "rewards" [T], ..., "obs" [T + 1, ...]})."""
    arrays = load(name)
    meta = json.loads(str(arrays["meta"]))
    ends = np.cumsum(arrays["length"])
    for e, (end, steps) in enumerate(zip(ends, arrays["length"], strict=True)):
        episode = {
            key: arrays[key][end - steps : end] for key in ("actions", "rewards", "terminated", "truncated")
        }
        episode["obs"] = arrays["obs"][end - steps + e : end + e + 1]
        layout = arrays["goal"][e] if "goal" in arrays else arrays.get("layout", [None] * (e + 1))[e]
        if layout is None:
            layout = {key: arrays[key][e].astype(np.int32) for key in ("hints", "lengths")}
        yield *settings(name, meta, e), layout, episode


@functools.partial(jax.jit, static_argnums=0)
def replay(env, params, layouts, actions):
    """Plays actions [E, T] from layouts [E, ...]: (first observations, outputs [E, T, ...])."""

    def one(params, layout, actions):
        first, state = env.reset_to(layout, params)

        def step(state, action):
            obs, state, reward, terminated, info = env.step_env(jax.random.key(0), state, action, params)
            out = {"obs": obs, "rewards": reward, "terminated": terminated, **info}
            return state, out | {"truncated": env.is_truncated(state, params) & ~terminated}

        return first, jax.lax.scan(step, state, actions)[1]

    return jax.vmap(one)(params, layouts, actions)


def replayed(names):
    """Pairs (recorded episode, the same played here); all files have environments of one structure."""
    episodes = [episode for name in names for episode in recorded(name)]
    longest = max(len(episode["actions"]) for *_, episode in episodes)
    made = [envs.make(env_id, **options) for env_id, options, *_ in episodes]
    params = jax.tree.map(lambda *leaves: np.array(leaves), *(params for _, params in made))
    layouts = jax.tree.map(lambda *leaves: np.stack(leaves), *(layout for _, _, layout, _ in episodes))
    actions = np.zeros((len(episodes), longest), np.int32)
    for row, (*_, episode) in zip(actions, episodes, strict=True):
        row[: len(episode["actions"])] = episode["actions"]
    if "v1" in names[0]:
        actions = np.array([1, 2, 0, 3])[actions]  # left, right, forward, and what is always wrong
    first, out = jax.tree.map(np.asarray, replay(made[0][0], params, layouts, actions))
    for e, (*_, episode) in enumerate(episodes):
        played = {key: values[e, : len(episode["actions"])] for key, values in out.items()}
        played["obs"] = np.concatenate([first[e][None], played["obs"]])
        yield episode, played


def assert_same(episode, played, keys=("obs", "rewards", "terminated", "truncated")):
    for key in keys:
        np.testing.assert_allclose(played[key], episode[key], rtol=0, atol=1e-6, err_msg=key)
        assert episode[key].dtype != np.uint8 or played[key].dtype == np.uint8


NI = [
    f"tmaze_{form}_{n}.npz" for form, last in (("passive", 1500), ("active", 500)) for n in (2, 10, 50, 250, last)
]
ENDLESS = ["fixed_5_1", "fixed_5_10", "fixed_10_3", "fixed_10_10"]
ENDLESS += ["uniform_5_3", "uniform_5_10", "uniform_10_5", "uniform_10_10"]
GROUPS = {
    "passive": NI[:5],
    "active": NI[5:],
    **{
        f"endless of {n}": [f"endless_v2_{each}.npz" for each in ENDLESS if each.endswith(f"_{n}")]
        for n in (1, 3, 5, 10)
    },
    "traces": ["tmaze_traces_8.npz", "tmaze_traces_64.npz"],
    "pobax": ["tmaze_pobax_5.npz", "tmaze_pobax_10.npz"],
}


def test_every_file_is_replayed():
    first_form = {"endless_v1_5_3.npz", "endless_v1_10_5.npz"}
    assert {path.name for path in FOLDER.glob("*.npz")} == first_form.union(*GROUPS.values())


@pytest.mark.parametrize("group", GROUPS)
def test_every_step_of_the_original_is_replayed(group):
    for episode, played in replayed(GROUPS[group]):
        assert_same(episode, played)
        assert not played["episode_success"][:-1].any()
        won = episode["rewards"][-1] > 0.5  # what else pays in these mazes is a corridor before the last
        if group.startswith("endless"):
            corridors = np.cumsum(episode["rewards"] > 0.5)
            won &= corridors[-1] == int(group.split()[-1])
            np.testing.assert_allclose(played["episode_share_done"] * int(group.split()[-1]), corridors, rtol=1e-6)
        assert played["episode_success"][-1] == won


@pytest.mark.parametrize("name", ["endless_v1_5_3.npz", "endless_v1_10_5.npz"])
def test_the_first_form_of_endless_differs_as_documented(name):
    """Positions in steps, one signed cue, a turn in the corridor ends, and so does the time."""
    length = int(name.split("_")[2])
    early = 0
    for episode, played in replayed([name]):
        x, left, right = played["obs"].T
        played["obs"] = np.stack([x * length, np.zeros_like(x), right - left], 1)
        assert_same(episode, played, ("obs", "rewards"))
        assert not (played["terminated"] & ~episode["terminated"]).any() and not episode["truncated"].any()
        wrong_turn = (episode["actions"][-1] != 2) and episode["obs"][-2][0] < length
        ended = played["terminated"][-1] or played["truncated"][-1]
        assert ended or wrong_turn
        early += wrong_turn
    assert early > 5


@every_id
def test_single_steps_are_those_of_the_batch(env_id):
    group = {"TMaze-Endless": "endless of 3"}.get(env_id, env_id.removeprefix("TMaze-").lower())
    name = GROUPS[group][-1 if group == "active" else 0]
    index = 9 if env_id == "TMaze-Endless" else 3
    _, options, layout, episode = list(recorded(name))[index]
    env, params = envs.make(env_id, **options)
    obs, state = env.reset_to(layout, params)
    for t in range(min(len(episode["actions"]), 12)):
        np.testing.assert_allclose(obs, episode["obs"][t], rtol=0, atol=1e-6)
        obs, state, reward, terminated, _ = env.step_env(
            jax.random.key(t), state, int(episode["actions"][t]), params
        )
        assert abs(float(reward) - episode["rewards"][t]) < 1e-6 and bool(terminated) == episode["terminated"][t]


# Draws


def assert_uniform(counts, expected=None):
    """counts of equally likely values; one in 10^5 tests of a right law fails."""
    assert stats.chisquare(counts, expected).pvalue > 1e-5, counts


def layouts_of(env_id, count, **options):
    env, params = envs.make(env_id, **options)
    keys = jax.random.split(jax.random.key(1), count)

    @jax.jit
    @jax.vmap
    def draw(key):
        layout = env.draw_layout(key, params)
        return layout, env.reset_env(key, params), env.reset_to(layout, params)

    layouts, starts, placed = jax.tree.map(np.asarray, draw(keys))
    jax.tree.map(np.testing.assert_array_equal, starts, placed)  # a reset is nothing but a draw
    return layouts


def test_goals_cues_and_colours_are_fair():
    n = 20_000
    for env_id, values in (("TMaze-Passive", (-1, 1)), ("TMaze-Active", (-1, 1)), ("TMaze-Pobax", (0, 1))):
        goals = layouts_of(env_id, n)
        assert goals.shape == (n,) and goals.dtype == np.int32
        assert_uniform([(goals == value).sum() for value in values])
    colours = layouts_of("TMaze-Traces", n)
    assert colours.shape == (n, 2) and set(np.unique(colours)) == {0, 1}
    assert_uniform(np.bincount(2 * colours[:, 0] + colours[:, 1]))


def test_endless_corridors_are_fair_and_independent():
    fixed = layouts_of("TMaze-Endless", 4096, corridor_len=7, num_corridors=3)
    assert (fixed["lengths"] == 7).all()
    assert_uniform(np.bincount(((fixed["hints"] + 1) // 2) @ [4, 2, 1]))
    drawn = layouts_of("TMaze-Endless", 4096, corridor_len=4, num_corridors=2, uniform_lengths=True)
    cases = (drawn["hints"] + 1) // 2 * 4 + drawn["lengths"] - 1  # [4096, 2], of 8
    assert cases.min() == 0 and cases.max() == 7
    assert_uniform(np.bincount(cases @ [8, 1], minlength=64))


def test_without_a_last_corridor_cues_and_lengths_are_drawn_on_the_way():
    env, params = envs.make("TMaze-Endless", corridor_len=3, num_corridors=0, uniform_lengths=True)
    assert params.max_steps_in_episode == 6 * 4 * 10

    @jax.jit
    def walk(key):
        """The expert who sees where the junction is: 240 steps."""
        obs, state = env.reset_env(key, params)

        def step(state, key):
            turn = jnp.where(state.hints[0] < 0, 1, 2)
            action = jnp.where(state.x == state.lengths[0], turn, 0)
            before = state
            obs, state, reward, terminated, info = env.step_env(key, state, action, params)
            return state, (before, action, reward, terminated, info)

        return jax.lax.scan(step, state, jax.random.split(jax.random.fold_in(key, 1), 240))[1]

    before, action, reward, terminated, info = jax.tree.map(
        np.asarray, jax.vmap(walk)(jax.random.split(jax.random.key(2), 50))
    )
    assert not terminated.any() and set(info) == {"episode_corridors_done"}
    turns = action > 0
    np.testing.assert_array_equal(reward, turns.astype(np.float32))
    np.testing.assert_array_equal(info["episode_corridors_done"], np.cumsum(turns, 1))
    cases = (before.hints[..., 0] + 1) // 2 * 3 + before.lengths[..., 0] - 1
    assert_uniform(np.bincount(cases[turns], minlength=6))
    pairs = np.concatenate([6 * row[at][:-1] + row[at][1:] for row, at in zip(cases, turns, strict=True)])
    assert_uniform(np.bincount(pairs, minlength=36))


def test_what_comes_next_can_be_given_to_a_step():
    env, params = envs.make("TMaze-Endless", corridor_len=2, num_corridors=0)
    corridor = {"hints": [-1], "lengths": [1]}
    obs, state = env.reset_to(corridor, params)
    assert obs.tolist() == [0, 1, 0]
    following = {"hints": [1], "lengths": [2]}
    obs, state, *_ = env.step_with(following, state, 0, params)
    assert obs.tolist() == [0.5, 0, 0] and state.hints.tolist() == [-1]  # not yet
    obs, state, reward, terminated, _ = env.step_with(following, state, 1, params)
    assert obs.tolist() == [0, 0, 1] and state.lengths.tolist() == [2] and reward == 1 and not terminated
    for action in (0, 0):
        obs, state, *_ = env.step_with(corridor, state, action, params)
    *_, reward, terminated, _ = env.step_with(corridor, state, 0, params)  # forward at the junction
    assert obs.tolist() == [1, 0, 0] and terminated and reward == np.float32(-0.01)


# What policies earn: (observation, memory, key) -> (action, memory), memory two integers that begin as 0


@functools.cache
def maze(env_id, **structure):
    return envs.make(env_id, **structure)[0]


@functools.partial(jax.jit, static_argnums=(0, 2, 3, 4))
def earn(env, params, policies, batch, steps, key):
    """Episodes by every policy: (whether they ended, returns, successes, lengths), each [policies, batch]."""

    def act(which, obs, memory, key):
        actions, memories = zip(*(policy(obs, memory, key) for policy in policies), strict=True)
        memories = jnp.array(memories)
        return jnp.array(actions)[which], (memories[which, 0], memories[which, 1])

    def one(which, key):
        key, reset_key = jax.random.split(key)
        obs, state = env.reset_env(reset_key, params)

        def step(carry, key):
            obs, state, memory, done, total, success, length = carry
            key_act, key_step = jax.random.split(key)
            action, memory = act(which, obs, memory, key_act)
            obs, state, reward, terminated, info = env.step_env(key_step, state, action, params)
            total += jnp.where(done, 0, reward)
            success += jnp.where(done, 0, info["episode_success"])
            length += ~done
            done |= terminated | env.is_truncated(state, params)
            return (obs, state, memory, done, total, success, length), None

        carry = (obs, state, (jnp.int32(0), jnp.int32(0)), jnp.bool_(False), 0.0, 0.0, 0)
        return jax.lax.scan(step, carry, jax.random.split(key, steps))[0][3:]

    each = jnp.repeat(jnp.arange(len(policies)), batch)
    out = jax.vmap(one)(each, jax.random.split(key, len(each)))
    return jax.tree.map(lambda x: x.reshape(len(policies), batch), out)


def play(env_id, policies, steps, batch, **options):
    """(returns, successes, lengths), each [policies, batch], of episodes that all end."""
    structure = {name: options[name] for name in ("num_corridors", "uniform_lengths", "no_ops") if name in options}
    _, params = envs.make(env_id, **options)
    out = earn(maze(env_id, **structure), params, policies, batch, steps, jax.random.key(len(env_id)))
    done, *rest = jax.tree.map(np.asarray, out)
    assert done.all()
    return rest


def assert_mean(values, expected):
    assert values.std() > 0.01
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) < 4 * error, (values.mean(), expected, error)


def at_random(num_actions):
    return lambda obs, memory, key: (jax.random.randint(key, (), 0, num_actions), memory)


THREE, FOUR, SIX = map(at_random, (3, 4, 6))


def hold_passive(obs, memory, key):
    """Keeps the cue and goes to its arm."""
    held = jnp.where((obs[0] == 0) & (obs[1] != 0), obs[1], memory[0]).astype(jnp.int32)
    return jnp.where(obs[0] == 1, jnp.where(held > 0, 1, 3), 0), (held, memory[1])


def hold_active(obs, memory, key):
    action, memory = hold_passive(obs, memory, key)
    return jnp.where(memory[0] == 0, 2, action), memory  # first to the cue


def hold_endless(obs, memory, key):
    held = jnp.where(obs[1] + obs[2] > 0, jnp.where(obs[1] > obs[2], 1, 2), memory[0]).astype(jnp.int32)
    return jnp.where(obs[0] == 1, held, 0), (held, memory[1])


def try_endless(obs, memory, key):
    """The cue's turn once at every place, then on."""
    at_start = obs[1] + obs[2] > 0
    held = jnp.where(at_start, jnp.where(obs[1] > obs[2], 1, 2), memory[0]).astype(jnp.int32)
    tries = ~at_start & (memory[1] == 0)
    return jnp.where(tries, held, 0), (held, tries.astype(jnp.int32))


def hold_traces(obs, memory, key):
    """Forward where there is floor ahead, else to the side where the cue's colour is."""
    held = jnp.where(memory[0] == 0, obs[2, 1, 1], memory[0]).astype(jnp.int32)
    to_the_left = obs[2, 0, 1] == held
    return jnp.where(obs[1, 1, 0] == 1, 0, jnp.where(to_the_left, 2, 1)), (held, memory[1])


def hold_pobax(obs, memory, key):
    held = jnp.where(memory[1] == 0, obs[0], memory[0]).astype(jnp.int32)
    return jnp.where(obs[2] == 1, held, 2), (held, memory[1] + 1)


def straight_on_and_1(obs, memory, key):
    """Up, or left in TMaze-Endless, where the first entry is 1."""
    return jnp.where(obs[0] == 1, 1, 0), memory


def to_the_green_arm(obs, memory, key):
    return hold_traces(obs, (jnp.int32(2), memory[1]), key)[0], memory


def decline(obs, memory, key):
    """Stands still where the first bit says down, else goes up."""
    return jnp.where(obs[0] == 1, 3, jnp.where(obs[2] == 1, 0, 2)), memory


ENDLESS_SHORT = {"corridor_len": 4, "num_corridors": 3, "max_episode_steps": 45}
MAZES = [
    # id, policies with memory, without, at random; steps at most; options
    ("TMaze-Passive", (hold_passive, straight_on_and_1, FOUR), 31, [{"corridor_len": 1}, {"corridor_len": 30}]),
    ("TMaze-Active", (hold_active, straight_on_and_1, FOUR), 33, [{"corridor_len": 1}, {"corridor_len": 30}]),
    ("TMaze-Endless", (hold_endless, straight_on_and_1, THREE), 45, [ENDLESS_SHORT]),
    ("TMaze-Traces", (hold_traces, to_the_green_arm, THREE), 60, [{"corridor_len": 4, "max_episode_steps": 60}]),
    (
        "TMaze-Pobax",
        (hold_pobax, decline, FOUR),
        60,
        [{"corridor_len": 1, "max_episode_steps": 60}, {"corridor_len": 4, "max_episode_steps": 30}],
    ),
]


@pytest.mark.parametrize(("env_id", "policies", "steps", "options"), MAZES, ids=[maze[0] for maze in MAZES])
def test_the_best_policies_and_random_ones_earn_what_is_known(env_id, policies, steps, options):
    for each in options:
        known = envs.reference(env_id, **each)
        returns, successes, _ = play(env_id, policies, steps, 2000, **each)
        np.testing.assert_allclose(returns[0], known["with_memory"]["value"], rtol=1e-6)
        assert (successes[0] == 1).all()
        assert_mean(returns[1], known["without_memory"]["value"])
        assert_mean(returns[2], known["random"]["value"])
        assert [known[name]["mark"] for name in known] == ["computed", "exact", "exact"]


MORE = [
    # id, policy, which of the known returns it earns, steps at most, options
    ("TMaze-v1", FOUR, "random", 60, [{"max_episode_steps": 60}, {"corridor_len": 5, "max_episode_steps": 25}]),
    ("TMaze-v2", FOUR, "random", 60, [{"corridor_len": 4, "max_episode_steps": 60}]),
    ("TMazeOurs", FOUR, "random", 60, [{"corridor_len": 3, "goal_penalty": 0.5, "max_episode_steps": 60}]),
    ("TMaze-Passive", FOUR, "random", 5, [{"corridor_len": 4, "distract_reward": 0.2, "lag_penalty": 0.5}]),
    ("TMaze-Endless", THREE, "random", 12, [{"corridor_len": 2, "max_episode_steps": 9}]),
    ("TMaze-Endless", THREE, "random", 36, [{"corridor_len": 5, "uniform_lengths": True, "num_corridors": 1}]),
    ("TMaze-Endless", try_endless, "with_memory", 108, [{"corridor_len": 5, "uniform_lengths": True}]),
    ("TMaze-Traces", SIX, "random", 90, [{"corridor_len": 4, "max_episode_steps": 90, "no_ops": True}]),
]
SLOW = (1, 4, 7)  # each much like another


@pytest.mark.parametrize(
    ("env_id", "policy", "name", "steps", "options"),
    [pytest.param(*case, marks=slow_if(i in SLOW)) for i, case in enumerate(MORE)],
)
def test_policies_earn_what_is_computed(env_id, policy, name, steps, options):
    for each in options:
        if env_id == "TMaze-Endless":
            each = {"num_corridors": 3, "forward_reward": -0.1} | each
        known = envs.reference(env_id, **each)[name]
        assert known["mark"] == "computed"
        ((returns,), *_) = play(env_id, (policy,), steps, 4000, **each)
        assert_mean(returns, known["value"])


def test_corridors_of_1500_are_solved_by_who_remembers():
    for env_id, policy, way in (
        ("TMaze-Passive", hold_passive, 1501),
        ("TMaze-Active", hold_active, 1503),
        ("TMaze-Traces", hold_traces, 1501),
    ):
        returns, successes, lengths = play(env_id, (policy,), way, 8, corridor_len=1500)
        assert (returns == 1).all() and (successes == 1).all() and (lengths == way).all()


def play_everything(env_id, layouts, steps, **options):
    """All sequences of actions from all layouts [E, ...].

    Returns:
        (numbers of the observations, int [sequences, E, steps], the last one left out; returns [sequences, E]).
    """
    env, params = envs.make(env_id, **options)
    count = len(jax.tree.leaves(layouts)[0])
    sequences = np.array(list(itertools.product(range(env.num_actions), repeat=steps)))
    actions = np.repeat(sequences, count, 0)
    tiled = jax.tree.map(lambda x: np.tile(x, (len(sequences), *[1] * (x.ndim - 1))).astype(np.int32), layouts)
    batched = jax.tree.map(lambda x: np.full(len(actions), x), params)
    first, out = jax.tree.map(np.asarray, replay(env, batched, tiled, actions))
    obs = np.concatenate([first[:, None], out["obs"][:, :-1]], 1).reshape(len(actions) * steps, -1)
    numbers = np.unique(obs, axis=0, return_inverse=True)[1]
    done = np.cumsum(out["terminated"] | out["truncated"], 1)
    running = np.pad(done, ((0, 0), (1, 0)))[:, :-1] == 0
    assert done[:, -1].all()
    returns = (out["rewards"] * running).sum(1)
    return numbers.reshape(len(sequences), count, steps), returns.reshape(len(sequences), count)


def best_map(numbers, returns, num_actions):
    """The best mean return over layouts of all maps from observations to actions."""
    maps = np.array(list(itertools.product(range(num_actions), repeat=numbers.max() + 1)))
    steps, layouts = numbers.shape[2], np.arange(numbers.shape[1])
    sequence = np.zeros((len(maps), len(layouts)), int)  # the number of one that begins with the actions so far
    for t in range(steps):
        action = np.take_along_axis(maps, numbers[sequence, layouts, t], 1)
        sequence += action * num_actions ** (steps - 1 - t)
    return returns[sequence, layouts].mean(1).max()


HINTS = np.array(list(itertools.product([-1, 1], repeat=2)))


@pytest.mark.parametrize(
    ("env_id", "layouts", "steps", "options"),
    [
        ("TMaze-Passive", np.array([-1, 1]), 5, {"corridor_len": 4, "goal_reward": 2.0, "lag_penalty": 0.5}),
        ("TMaze-Active", np.array([-1, 1]), 5, {"corridor_len": 2}),
        ("TMaze-Pobax", np.array([0, 1]), 6, {"corridor_len": 2, "max_episode_steps": 6}),
        (
            "TMaze-Endless",
            {"hints": HINTS, "lengths": np.full((4, 2), 2)},
            8,
            {"corridor_len": 2, "num_corridors": 2, "max_episode_steps": 8},
        ),
        ("TMaze-Traces", HINTS > 0, 7, {"corridor_len": 3, "max_episode_steps": 7}),
    ],
)
def test_what_is_known_of_small_mazes_is_what_all_ways_through_them_say(env_id, layouts, steps, options):
    known = envs.reference(env_id, **options)
    numbers, returns = play_everything(env_id, layouts, steps, **options)
    assert abs(returns.mean() - known["random"]["value"]) < 1e-5
    assert abs(returns.max(0).mean() - known["with_memory"]["value"]) < 1e-5
    if known["without_memory"]:
        assert numbers.max() < 7
        best = best_map(numbers, returns, envs.make(env_id)[0].num_actions)
        assert abs(best - known["without_memory"]["value"]) < 1e-5


# Known returns

UNIFORM = {  # (corridor_len, num_corridors): (best, without memory), computed elsewhere to three digits
    (5, 1): (0.980, 0.340),
    (5, 3): (2.940, 0.544),
    (5, 5): (4.900, 0.582),
    (5, 10): (9.800, 0.590),
    (10, 1): (0.955, 0.266),
    (10, 3): (2.865, 0.402),
    (10, 5): (4.775, 0.422),
    (10, 10): (9.550, 0.426),
}


def values(env_id, **options):
    known = envs.reference(env_id, **options)
    return [known[name] and known[name]["value"] for name in ("random", "without_memory", "with_memory")]


def test_known_returns_follow_the_options():
    for (length, count), (best, guess) in UNIFORM.items():
        options = dict(corridor_len=length, num_corridors=count)
        _, *known = values("TMaze-Endless", uniform_lengths=True, **options)
        np.testing.assert_allclose(known, [guess, best], atol=1e-3)
        _, *known = values("TMaze-Endless", **options)
        np.testing.assert_allclose(known, [0.99 * (1 - 2.0**-count), count], atol=1e-9)
    assert values("TMaze-Endless", num_corridors=0)[1:] == [None, 60.0]
    assert values("TMaze-v1", corridor_len=31)[1:] == pytest.approx([1.5 - 3, 4 - 3])
    assert values("TMaze-v2", corridor_len=120) == pytest.approx([-100, 1.5 - 11.9, 4 - 11.9])
    assert values("TMazeOurs", goal_reward=2.0)[1:] == pytest.approx([0.5 - 16, 2 - 16])
    for env_id in ("TMaze-Passive", "TMaze-Active"):
        chance, *rest = values(env_id, corridor_len=1500)
        assert -1.0 - 1 / 1500 < chance < -0.99 and rest == [0.5, 1.0]
        assert values(env_id, goal_reward=3.0)[1:] == [1.5, 3.0]
        assert values(env_id, distract_reward=0.1)[1:] == [None, None]
    assert values("TMaze-Traces", corridor_len=1500)[1:] == [0.5, 1.0]
    assert values("TMaze-Traces", corridor_len=3)[1:] == [None, 1.0]  # the cue is seen from the junction
    assert values("TMaze-Pobax")[1:] == [2.0, 4.0]


@pytest.mark.parametrize("env_id", ["TMaze-v1", "TMazeOurs", "TMaze-Pobax", "TMaze-Traces"])
def test_no_arm_is_reached_in_less_steps_than_the_way_is_long(env_id):
    way = {"TMaze-v1": 5, "TMazeOurs": 6, "TMaze-Pobax": 7, "TMaze-Traces": 6}[env_id]
    step = {"TMaze-v1": -0.1, "TMazeOurs": -0.1}.get(env_id, 0.0)
    out_of_reach = values(env_id, corridor_len=5, max_episode_steps=way - 1)
    np.testing.assert_allclose(out_of_reach, [step * (way - 1)] * 3, atol=1e-12)
    assert values(env_id, corridor_len=5, max_episode_steps=way)[2] > 0.9
    if env_id == "TMaze-v1":  # waiting for the end then costs less than the wrong arm
        assert values(env_id, corridor_len=5, max_episode_steps=way)[1] is None


# Options


def test_defaults_and_names():
    ni = {"corridor_len": 50, "goal_reward": 1.0, "lag_penalty": 1.0, "distract_reward": 0.0}
    assert envs.options("TMaze-Passive") == envs.options("TMaze-Active") == ni
    assert envs.options("TMaze-Endless") == {
        "corridor_len": 10,
        "num_corridors": 10,
        "uniform_lengths": False,
        "correct_reward": 1.0,
        "wrong_reward": -0.01,
        "corridor_penalty": -0.01,
        "forward_reward": 0.0,
        "max_episode_steps": 0,
    }
    traces = {"corridor_len": 64, "observation": "symbolic", "no_ops": False, "max_episode_steps": 0}
    assert envs.options("TMaze-Traces") == traces
    assert envs.options("TMaze-Pobax") == {"corridor_len": 10, "max_episode_steps": 1000}
    for env_id in IDS:
        env, params = envs.make(env_id)
        assert env.name == env_id and env.default_params == params


def test_rewards_and_actions_are_options():
    env, params = envs.make(
        "TMaze-Passive", corridor_len=4, goal_reward=3.0, lag_penalty=2.0, distract_reward=0.25
    )
    _, state = env.reset_to(1, params)
    rewards = []
    for action in (2, 0, 0, 0, 0):
        _, state, reward, terminated, _ = env.step_env(jax.random.key(0), state, action, params)
        rewards.append(float(reward))
    assert rewards == [-0.25, -0.5, -0.5, -0.5, 0.0] and terminated
    _, params = envs.make("TMaze-Passive", corridor_len=4, goal_reward=3.0)
    _, state = env.reset_to(1, params)
    for action in (0, 0, 0, 0, 1):
        _, state, reward, *_ = env.step_env(jax.random.key(0), state, action, params)
    assert reward == 3.0

    options = dict(correct_reward=2.0, wrong_reward=-1.0, corridor_penalty=-0.5, forward_reward=-0.25)
    env, params = envs.make("TMaze-Endless", corridor_len=1, num_corridors=2, **options)
    _, state = env.reset_to({"hints": [1, -1], "lengths": [1, 1]}, params)
    rewards = []
    for action in (1, 0, 2, 0, 2):
        _, state, reward, terminated, _ = env.step_env(jax.random.key(0), state, action, params)
        rewards.append(float(reward))
    assert rewards == [-0.5, -0.25, 2.0, -0.25, -1.0] and terminated

    for no_ops, count in ((False, 3), (True, 6)):
        env, params = envs.make("TMaze-Traces", no_ops=no_ops)
        assert env.num_actions == env.action_space(params).n == count


def test_traces_one_hot_shows_the_same_places():
    symbolic, params = envs.make("TMaze-Traces", corridor_len=4)
    one_hot, _ = envs.make("TMaze-Traces", corridor_len=4, observation="one_hot")
    tiles = [(2, 6), (1, 7), (1, 2), (1, 3), (0, 0)]
    seen = set()
    for layout in ([0, 1], [1, 1]):
        _, state = symbolic.reset_to(layout, params)
        for column, row, direction in itertools.product(range(1, 5), (2, 1), range(4)):
            state = state.replace(row=jnp.int32(row), column=jnp.int32(column if row == 2 else 4))
            state = state.replace(direction=jnp.int32(direction))
            places = np.asarray(symbolic.step_env(jax.random.key(0), state, 5, params)[0]).reshape(9, 2)
            flat = np.asarray(one_hot.step_env(jax.random.key(0), state, 5, params)[0])
            assert flat.shape == (45,) and flat.dtype == np.float32
            assert flat.reshape(9, 5).argmax(1).tolist() == [
                tiles.index(tuple(place)) for place in places.tolist()
            ]
            assert (flat.reshape(9, 5).sum(1) == 1).all()
            seen |= set(map(tuple, places.tolist()))
    assert seen == set(tiles)


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("TMaze-Passive", {"corridor_len": 0}, r"env.corridor_len=0: must be from 1 to 1048576 in TMaze-Passive"),
        ("TMaze-Active", {"corridor_len": -1}, r"env.corridor_len=-1: must be from 1"),
        ("TMaze-Active", {"max_episode_steps": 5}, r"env.max_episode_steps=5: not an option of TMaze-Active"),
        ("TMaze-Passive", {"lag_penalty": float("inf")}, r"env.lag_penalty=inf: must be a finite"),
        ("TMaze-Endless", {"corridor_len": 2**16 + 1}, r"env.corridor_len=65537: must be from 1 to 65536"),
        ("TMaze-Endless", {"num_corridors": -1}, r"env.num_corridors=-1: must be from 0 to 1024"),
        ("TMaze-Endless", {"num_corridors": 1025}, r"env.num_corridors=1025: must be from 0 to 1024"),
        ("TMaze-Endless", {"max_episode_steps": -1}, r"env.max_episode_steps=-1: must be at least 0, where 0 is"),
        ("TMaze-Endless", {"uniform_lengths": 1}, r"env.uniform_lengths=1: must be of type bool"),
        ("TMaze-Traces", {"corridor_len": 2**14 + 1}, r"env.corridor_len=16385: must be from 1 to 16384"),
        ("TMaze-Traces", {"observation": "onehot"}, r"env.observation='onehot': .*did you mean one_hot"),
        ("TMaze-Traces", {"max_episode_steps": -5}, r"env.max_episode_steps=-5: must be at least 0"),
        ("TMaze-Pobax", {"corridor_len": 0}, r"env.corridor_len=0: must be from 1"),
        ("TMaze-Pobax", {"max_episode_steps": 0}, r"env.max_episode_steps=0: must be at least 1"),
    ],
)
def test_bad_options_are_one_line_that_names_the_field_and_what_is_allowed(env_id, options, message):
    with pytest.raises(ValueError, match="^" + message) as error:
        envs.make(env_id, **options)
    assert "\n" not in str(error.value)


# Pictures


def pictures(env_id, actions, layout=None, **options):
    env, params = envs.make(env_id, **options)
    start = env.reset_env(jax.random.key(0), params) if layout is None else env.reset_to(layout, params)
    frames, state = [env.render(start[1], params)], start[1]
    for action in actions:
        state = env.step_env(jax.random.key(0), state, action, params)[1]
        frames.append(env.render(state, params))
    return frames


def agents_place(frame):
    """(x, y) of the middle of what has the agent's colour."""
    y, x = np.where((np.abs(frame.astype(int) - (46, 58, 118)) < 24).all(-1))
    return x.mean(), y.mean()


def bright(frame):
    """Pixels of the sign of a cue in view."""
    return (np.abs(frame.astype(int) - (247, 178, 44)) < 10).all(-1).sum()


def test_pictures_show_the_agent_the_cue_and_the_goals_arm():
    frames = pictures("TMaze-Passive", [0, 0, 0, 1], 1, corridor_len=3)
    places = np.array([agents_place(frame) for frame in frames])
    assert (np.diff(places[:4, 0]) > 20).all() and np.ptp(places[:4, 1]) < 2  # along the corridor
    assert places[4, 1] < places[3, 1] - 20  # up
    assert bright(frames[0]) > 500 and not any(map(bright, frames[1:]))
    lower = pictures("TMaze-Passive", [0, 0, 0, 3], -1, corridor_len=3)
    assert agents_place(lower[4])[1] > places[3, 1] + 20
    for frame, arm in ((frames[0], -1), (lower[0], 1)):
        green = (np.abs(frame.astype(int) - (94, 176, 110)) < 10).all(-1)
        assert green.sum() > 800 and np.sign(np.where(green)[0].mean() - places[0, 1]) == arm

    active = pictures("TMaze-Active", [2, 0], -1, corridor_len=5)
    assert [bright(frame) > 500 for frame in active] == [False, True, False]
    endless = pictures(
        "TMaze-Endless", [0, 2], {"hints": [1, -1], "lengths": [1, 2]}, corridor_len=2, num_corridors=2
    )
    assert [bright(frame) > 500 for frame in endless] == [True, False, True]


@pytest.mark.parametrize("env_id", ["TMaze-v1", "TMaze-v2", "TMazeOurs", *IDS])
def test_every_maze_has_pictures_that_change_with_its_state(env_id):
    forward = 0 if env_id in IDS[:4] or env_id == "TMazeOurs" else (2 if env_id == "TMaze-Pobax" else 3)
    for length in (2, 120):
        first, second = pictures(env_id, [forward], corridor_len=length)
        assert first.shape == second.shape == (176, 480, 3) and first.dtype == np.uint8
        assert (first != second).any()
