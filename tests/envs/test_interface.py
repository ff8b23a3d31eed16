"""What every environment owes: gymnax's interface, alone and batched. A new one joins by adding its id."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import envs
from envs import popgym, popgym_control
from tests.marks import slow_if

B, T, LIMIT = 3, 25, 10
# id, and the option that shortens its episodes to LIMIT steps
IDS = {
    "brax/inverted_pendulum-P": "episode_length",
    "brax/reacher": "episode_length",
    "gymnax/CartPole-v1": "max_steps_in_episode",
    "gymnax/Pendulum-v1": "max_steps_in_episode",
    "gymnax/CartPole-v1-P": "max_steps_in_episode",
    "gymnax/Acrobot-v1-P": "max_steps_in_episode",
    "gymnax/MountainCar-v0-P": "max_steps_in_episode",
    "gymnax/MountainCarContinuous-v0-P": "max_steps_in_episode",
    "gymnax/Pendulum-v1-V": "max_steps_in_episode",
    "TMaze-v1": "max_episode_steps",
    "TMaze-v2": "max_episode_steps",
    "TMazeOurs": "max_episode_steps",
    "TMaze-Passive": "corridor_len",
    "TMaze-Active": "corridor_len",
    "TMaze-Endless": "max_episode_steps",
    "TMaze-Traces": "max_episode_steps",
    "TMaze-Pobax": "max_episode_steps",
    "MysteryPath-v0": "max_steps",
    "MysteryPath-Easy-v0": "max_steps",
    "MysteryPath-Grid-v0": "max_steps",
    "MysteryPath-Grid-Easy-v0": "max_steps",
    "Endless-MysteryPath-v0": "max_steps",
    "MiniGrid-MemoryS7-v0": "max_steps",
    "MiniGrid-MemoryS9-v0": "time_limit",
    "MiniGrid-MemoryS11-v0": "max_steps",
    "MiniGrid-MemoryS13-v0": "time_limit",
    "MiniGrid-MemoryS13Random-v0": "max_steps",
    "MiniGrid-MemoryS17Random-v0": "time_limit",
}
IDS |= dict.fromkeys(popgym_control.IDS, "max_episode_length") | {
    "rocksample": "max_episode_steps",
    "battleship": "max_episode_steps",
}
SLOW = {each for each in IDS if each.startswith("gymnax/") and each.endswith(("-P", "-V"))}
# No option shortens them. Those with a time limit get one of LIMIT steps, the others last as long as their cards.
IDS |= dict.fromkeys(popgym.IDS)
SLOW |= set(popgym.IDS) - {f"popgym/{task}Easy" for task in ("Autoencode", "MineSweeper", "LabyrinthEscape")}
SLOW |= set(popgym_control.IDS) - {"popgym/NoisyPositionOnlyCartPoleEasy"}
MORE = {
    "gymnax/MountainCarContinuous-v0-P": {"gymnasium_wall": True},
    "gymnax/Pendulum-v1-V": {"zero_hidden": True},
    # Episodes of LIMIT steps, whatever happens in them.
    "TMaze-Passive": {"corridor_len": LIMIT - 1},
    "TMaze-Active": {"corridor_len": LIMIT - 3},
    # Without the bar, a last frame can be the same as a first one: the agent is always in the same column.
    "Endless-MysteryPath-v0": {"show_stamina": True},
    "MiniGrid-MemoryS9-v0": {"observation": "frame"},
    "MiniGrid-MemoryS13-v0": {"show_direction": True},
    "MiniGrid-MemoryS17Random-v0": {"observation": "frame", "show_direction": True},
}
# An episode's end can look like a beginning.
LIKE_A_START = ("TMaze-Active", "TMaze-Endless", "TMaze-Traces", "TMaze-Pobax")
LIKE_A_START += tuple(id for id in popgym.IDS if not any(task in id for task in ("Auto", "Conc", "Labyrinth")))


@pytest.fixture(scope="module", params=[pytest.param(each, marks=slow_if(each in SLOW)) for each in IDS])
def made(request):
    """(environment, parameters with a short time limit, a jitted random rollout of its VectorEnv)."""
    limit = {} if IDS[request.param] is None else {IDS[request.param]: LIMIT}
    env, params = envs.make(request.param, **limit | MORE.get(request.param, {}))
    if request.param in popgym.IDS and hasattr(params, "time_limit_terminates"):
        params = params.replace(max_steps_in_episode=LIMIT)
    vec = envs.VectorEnv(env, B, pool_size=64)
    space = env.action_space(params)

    @jax.jit
    def rollout(key):
        obs, state = vec.reset(key, params)

        def step(state, key):
            action = jax.vmap(space.sample)(jax.random.split(key, B))
            obs, state, reward, terminated, truncated, info = vec.step(key, state, action, params)
            out = {"obs": obs, "reward": reward, "terminated": terminated, "truncated": truncated}
            return state, {**out, **info}

        return obs, *jax.lax.scan(step, state, jax.random.split(key, T - LIMIT + longest(env, params)))

    return env, params, rollout


def longest(env, params):
    """Steps of the longest episode: LIMIT, or those of a deck of cards."""
    cards = env.name in popgym.IDS and not hasattr(params, "time_limit_terminates")
    return params.max_steps_in_episode if cards else LIMIT


def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype), tree)


def weak_types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


def test_reset_and_step_keep_their_types(made):
    env, params, _ = made
    key = jax.random.key(0)
    action = env.action_space(params).sample(key)
    space = env.observation_space(params)
    obs, state = jax.eval_shape(env.reset_env, key, params)
    stepped = jax.eval_shape(env.step_env, key, state, action, params)
    assert types((obs, state)) == types(stepped[:2])
    assert obs.shape == space.shape and obs.dtype == space.dtype
    assert stepped[2].shape == stepped[3].shape == () and stepped[3].dtype == bool
    whole = jax.eval_shape(env.step, key, state, action, params)  # gymnax's own, with its auto-reset
    assert types(whole[:2]) == types((obs, state))
    assert types(whole[5]["final_observation"]) == types(obs)


def test_the_batched_state_keeps_its_types_so_that_nothing_is_compiled_twice(made):
    env, params, _ = made
    vec = envs.VectorEnv(env, B, pool_size=4)
    key = jax.random.key(0)
    action = jnp.zeros((B, *env.action_space(params).shape), env.action_space(params).dtype)
    started = jax.eval_shape(vec.reset, key, params)
    stepped = jax.eval_shape(vec.step, key, started[1], action, params)
    refreshed = jax.eval_shape(vec.refresh, key, started[1], params)
    assert weak_types(started) == weak_types(stepped[:2])
    assert weak_types(started[1]) == weak_types(refreshed)
    assert weak_types(stepped[2:5]) == tuple(((B,), dtype, False) for dtype in (jnp.float32, bool, bool))


def test_observations_lie_in_the_space(made):
    env, params, rollout = made
    first, _, out = rollout(jax.random.key(0))
    contains = jax.vmap(env.observation_space(params).contains)
    flat = out["final_observation"].reshape(-1, *first.shape[1:])
    running = ~out["terminated"].ravel()  # gymnax's bounds need not hold beyond a terminal state
    assert contains(first).all() and contains(flat)[running].all()
    assert contains(out["obs"].reshape(flat.shape))[running].all()


def test_actions_lie_in_the_space(made):
    env, params, _ = made
    space = env.action_space(params)
    assert isinstance(space, spaces.Box | spaces.Discrete)
    assert jax.vmap(space.contains)(jax.vmap(space.sample)(jax.random.split(jax.random.key(0), 16))).all()


def test_episodes_end_at_the_time_limit_at_the_latest(made):
    env, params, rollout = made
    limit = longest(env, params)
    _, _, out = jax.tree.map(np.asarray, rollout(jax.random.key(0)))
    assert (out["terminated"] | out["truncated"]).sum() >= B * (len(out["reward"]) // limit)
    assert out["episode_length"].max() <= limit
    np.testing.assert_array_equal(out["truncated"], (out["episode_length"] == limit) & ~out["terminated"])


def test_the_final_observation_differs_from_the_next_first_one(made):
    env, _, rollout = made
    _, _, out = jax.tree.map(np.asarray, rollout(jax.random.key(0)))
    done = out["terminated"] | out["truncated"]
    differs = (out["obs"] != out["final_observation"]).reshape(*done.shape, -1).any(-1)
    np.testing.assert_array_equal(differs, done if env.name not in LIKE_A_START else differs & done)


def test_the_same_key_gives_the_same_episode_and_another_key_another(made):
    _, _, rollout = made
    one, again, other = rollout(jax.random.key(0)), rollout(jax.random.key(0)), rollout(jax.random.key(1))
    np.testing.assert_array_equal(one[2]["obs"], again[2]["obs"])
    assert (one[2]["obs"] != other[2]["obs"]).any()


def test_everything_is_finite(made):
    _, _, rollout = made
    _, _, out = rollout(jax.random.key(0))
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(out))


def test_the_previous_action_and_reward_can_be_appended(made):
    env, params, _ = made
    wrapped = envs.PreviousActionReward(env)
    space = wrapped.observation_space(params)
    obs, state = jax.eval_shape(wrapped.reset_env, jax.random.key(0), params)
    action = env.action_space(params).sample(jax.random.key(0))
    stepped = jax.eval_shape(wrapped.step_env, jax.random.key(0), state, action, params)
    assert obs.shape == stepped[0].shape == space.shape == space.low.shape == space.high.shape
