"""Each test fails when the fault it names is put back (see 'Known faults' of the reference in the README)."""

from dataclasses import fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import networks
from algos.ppo_arelit_continuous import PRESETS, Config, Trainer, Transition, make_train
from tests.algos.toy import next_observation, use_toy

SMALL_CORES = {
    "arelit": dict(name="arelit", n_layers=2, d_model=16, d_head=8, d_ffc=16, n_heads=2, eta=2, r=3),
    "feedforward": dict(name="feedforward", n_layers=1, d_model=16),
}


def small_core(name):
    """Small hyperparameters of any registered core."""
    small = {key: min(value, 8) for key, value in networks.hyperparameters(name).items() if type(value) is int}
    return SMALL_CORES.get(name, {"name": name, **small, "n_layers": 2, "d_model": 16})


def small_config(**settings):
    defaults = dict(
        num_envs=4,
        num_steps=16,
        sequence_length=8,
        num_minibatches=2,
        update_epochs=2,
        total_timesteps=4 * 16 * 3,
        eval_episodes=3,
        actor_hidden=16,
        critic_hidden=16,
        core=SMALL_CORES["feedforward"],
    )
    return Config(**defaults | settings)


@pytest.mark.parametrize("core", networks.CORES)
def test_the_ratio_is_one_before_the_first_gradient_step(monkeypatch, core):
    # Episodes of 5 steps put resets inside sequences of 8; from the second sequence on the memory is not empty.
    use_toy(monkeypatch, max_steps=5, termination=0.1)
    trainer = make_train(small_config(core=small_core(core)))
    state = jax.jit(trainer.init)(jax.random.key(0))
    update = jax.jit(trainer.update)
    for _ in range(3):
        state, metrics = update(state)
        assert metrics["initial_ratio_error"] < 1e-4


def rollout(config, seed=0) -> tuple[Trainer, tuple]:
    trainer = make_train(config)
    state = jax.jit(trainer.init)(jax.random.key(seed))
    return trainer, (state, *jax.jit(trainer.collect)(state, jax.random.key(seed + 1)))


def test_the_gradient_is_that_of_the_stored_unclipped_action(monkeypatch):
    """With advantage = action, the policy gradient with respect to the mean is -1 in units of the deviation.

    Normalised advantages are (action - mean) / std, so d loss / d mean = -E[(a - mean)^2] / std^3 = -1 / std.
    Drawing new actions in the loss would give 0; clipped ones would give less.
    """
    use_toy(monkeypatch, max_steps=1000)
    config = small_config(num_envs=64, num_steps=64, sequence_length=64, critic_hidden=1, vf_coef=0.0)
    trainer, (state, _, batch, carries, _) = rollout(config)
    # One bias of the head is the mean itself: zero the last layer, then the policy is N(bias, exp(bias')).
    params = jax.tree.map(lambda x: x, state.params)
    head = params["params"]["actor"]
    for name, bias in (("mean", 0.3), ("log_std", np.log(2.0))):
        kernel = head[name]["Dense_1"]["kernel"]
        head[name]["Dense_1"] = {"kernel": jnp.zeros_like(kernel), "bias": jnp.array([bias])}
    state = state.replace(params=params)
    _, batch, carries, _ = jax.jit(trainer.collect)(state, jax.random.key(5))
    actions = batch.action[..., 0]
    assert abs(float(actions.std()) - 2.0) < 0.1, "stored actions must not be clipped to [-1, 1]"
    carry = jax.tree.map(lambda x: x[0], carries)
    gradient, metrics = jax.jit(jax.grad(trainer.loss, has_aux=True))(params, carry, batch, actions, batch.value)
    slope = float(gradient["params"]["actor"]["mean"]["Dense_1"]["bias"][0])
    assert slope == pytest.approx(-0.5, abs=0.03)  # -1 / std
    # A larger deviation is better or worse to no first order: E[z (z^2 - 1)] = 0.
    assert abs(float(gradient["params"]["actor"]["log_std"]["Dense_1"]["bias"][0])) < 0.1
    assert metrics["approx_kl"] == pytest.approx(0, abs=1e-6)


def test_advantages_match_a_slow_loop(monkeypatch):
    use_toy(monkeypatch)
    config = small_config(gamma=0.9, gae_lambda=0.8)
    trainer = make_train(config)
    rng = np.random.default_rng(0)
    steps, batch_size = 40, 6
    terminated = rng.random((steps, batch_size)) < 0.15
    truncated = (rng.random((steps, batch_size)) < 0.15) & ~terminated
    value, final_value, reward = rng.normal(size=(3, steps, batch_size))
    last_value = rng.normal(size=batch_size)
    batch = Transition(*[None] * 4, value, reward, terminated, truncated, final_value, None, None)
    ours = trainer.advantages(jax.tree.map(jnp.asarray, batch), jnp.asarray(reward), jnp.asarray(last_value))

    expected = np.zeros((steps, batch_size))
    for b in range(batch_size):
        for t in range(steps):
            # Sum (gamma lambda)^k delta_{t+k} up to the end of the episode or of the rollout.
            for k in range(t, steps):
                if terminated[k, b]:
                    following = 0.0
                elif truncated[k, b]:
                    following = final_value[k, b]
                else:
                    following = value[k + 1, b] if k + 1 < steps else last_value[b]
                delta = reward[k, b] + 0.9 * following - value[k, b]
                expected[t, b] += (0.9 * 0.8) ** (k - t) * delta
                if terminated[k, b] or truncated[k, b]:
                    break
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("core", networks.CORES)
def test_the_final_observation_is_valued_through_the_memory(monkeypatch, core):
    """V(final observation) equals stepping the agent by hand over the whole rollout and one step further."""
    use_toy(monkeypatch, max_steps=5)
    trainer, (state, _, batch, carries, last_value) = rollout(small_config(core=small_core(core)))
    assert batch.truncated.sum() > 4 and not batch.terminated.any()
    carry = trainer.initial_carry(4)
    act = jax.jit(lambda carry, obs, reset: trainer.act(state, carry, obs, reset, jax.random.key(0)))
    for t in range(16):
        carry, _, value = act(carry, batch.raw_obs[t], batch.reset[t])
        np.testing.assert_allclose(value, batch.value[t], atol=1e-5)
        if batch.truncated[t].any():
            _, _, final_value = act(carry, next_observation(batch.raw_obs[t]), jnp.zeros(4, bool))
            where = np.asarray(batch.truncated[t])
            np.testing.assert_allclose(batch.final_value[t][where], final_value[where], atol=1e-5)


def test_the_value_under_truncation_is_that_of_an_endless_task(monkeypatch):
    """Reward 1 for ever with a time limit of 5: V = 1 / (1 - gamma); as a termination it would be below 2.5."""
    use_toy(monkeypatch, reward=1.0, max_steps=5)
    config = small_config(
        gamma=0.8,
        gae_lambda=0.9,
        normalize_rewards=False,
        learning_rate=3e-3,
        num_envs=8,
        num_minibatches=2,
        update_epochs=4,
        total_timesteps=8 * 16 * 150,
    )
    trainer = make_train(config)
    state, _ = jax.jit(trainer.train)(jax.random.key(0))
    _, batch, _, _ = trainer.collect(state, jax.random.key(1))
    assert float(batch.value.mean()) == pytest.approx(5.0, rel=0.1)


def test_a_termination_cuts_the_bootstrap(monkeypatch):
    """Every step terminates: V = 1, whatever gamma is."""
    use_toy(monkeypatch, reward=1.0, termination=1.0)
    config = small_config(normalize_rewards=False, learning_rate=3e-3, total_timesteps=4 * 16 * 100)
    trainer = make_train(config)
    state, _ = jax.jit(trainer.train)(jax.random.key(0))
    assert float(trainer.collect(state, jax.random.key(1))[1].value.mean()) == pytest.approx(1.0, abs=0.1)


def test_raw_returns_are_reported_whatever_is_normalised(monkeypatch):
    use_toy(monkeypatch, reward=7.0, max_steps=10)
    trainer = make_train(small_config(num_steps=40, previous_action_reward=True))
    state, metrics = jax.jit(trainer.train)(jax.random.key(0))
    np.testing.assert_allclose(metrics["episode_return"], 70.0)
    np.testing.assert_allclose(metrics["episode_length"], 10.0)
    np.testing.assert_allclose(metrics["episodes"], 16.0)
    np.testing.assert_allclose(jax.jit(trainer.evaluate)(state, jax.random.key(1))["episode_return"], 70.0)


def test_rewards_are_scaled_by_the_deviation_of_the_discounted_return(monkeypatch):
    use_toy(monkeypatch, reward=7.0, max_steps=10)
    config = small_config(num_steps=40, sequence_length=8)
    trainer = make_train(config)
    state, _ = jax.jit(trainer.update)(jax.jit(trainer.init)(jax.random.key(0)))
    returns, running = [], 0.0
    for _ in range(10):
        running = 0.99 * running + 7.0
        returns.append(running)
    assert float(state.return_statistics.variance) == pytest.approx(np.var(returns), rel=1e-4)


def test_evaluation_uses_the_statistics_of_training(monkeypatch):
    """Other statistics, other actions: the reward of this toy is the action."""
    use_toy(monkeypatch)
    trainer = make_train(small_config(actor_scale=1.0))
    state, _ = jax.jit(trainer.update)(jax.jit(trainer.init)(jax.random.key(0)))
    moved = state.replace(obs_statistics=state.obs_statistics.replace(mean=state.obs_statistics.mean + 3))
    evaluate = jax.jit(lambda state: trainer.evaluate(state, jax.random.key(1), True)["episode_return"])
    assert np.abs(evaluate(state) - evaluate(moved)).max() > 1e-3


def test_evaluation_leaves_the_training_state_untouched(monkeypatch):
    use_toy(monkeypatch)
    trainer = make_train(small_config())
    state, _ = jax.jit(trainer.update)(jax.jit(trainer.init)(jax.random.key(0)))
    before = [np.array(x) for x in jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))]
    first = jax.jit(trainer.evaluate)(state, jax.random.key(1))
    after = jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    second = jax.jit(trainer.evaluate)(state, jax.random.key(1))
    np.testing.assert_array_equal(first["episode_return"], second["episode_return"])


def test_observations_of_the_rollout_change_the_statistics_after_it(monkeypatch):
    use_toy(monkeypatch)
    trainer, (state, after, batch, _, _) = rollout(small_config())
    np.testing.assert_array_equal(after.obs_statistics.mean, state.obs_statistics.mean)
    updated, _ = jax.jit(trainer.update)(state)
    assert updated.obs_statistics.count == 64
    assert np.abs(updated.obs_statistics.mean).max() > 0.01


def test_nothing_is_nan_when_no_episode_ends(monkeypatch):
    use_toy(monkeypatch, max_steps=1000)
    _, metrics = jax.jit(make_train(small_config()).train)(jax.random.key(0))
    assert metrics["episodes"].sum() == 0
    for name, values in metrics.items():
        assert np.isfinite(values).all(), name


def test_the_entropy_bonus_raises_the_entropy(monkeypatch):
    use_toy(monkeypatch, reward=0.0)
    settings = dict(learning_rate=1e-2, total_timesteps=64 * 20, normalize_rewards=False, vf_coef=0.0)

    def entropy(coefficient):
        _, metrics = jax.jit(make_train(small_config(ent_coef=coefficient, **settings)).train)(jax.random.key(0))
        return metrics["entropy"]

    with_bonus = entropy(0.1)
    assert with_bonus[-1] > with_bonus[0] + 0.2
    assert with_bonus[-1] > entropy(0.0)[-1] + 0.2


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize("env_id", ["gymnax/Pendulum-v1", "brax/inverted_pendulum-P"])
def test_one_dimensional_actions_and_one_environment(num_envs, env_id):
    config = small_config(
        env={"id": env_id}, num_envs=num_envs, num_steps=8, total_timesteps=num_envs * 16, num_minibatches=1
    )
    state, metrics = jax.jit(make_train(config).train)(jax.random.key(0))
    assert metrics["loss"].shape == (2,)
    assert state.obs.shape[0] == num_envs
    assert np.isfinite(metrics["loss"]).all()


def test_vmapped_training_equals_single_runs(monkeypatch):
    use_toy(monkeypatch, max_steps=5)
    trainer = make_train(small_config(total_timesteps=64, core=SMALL_CORES["arelit"]))
    keys = jax.vmap(jax.random.key)(jnp.arange(4))
    states, metrics = jax.jit(jax.vmap(trainer.train))(keys)
    single = jax.jit(trainer.train)
    for k in range(4):
        state, one = single(jax.random.key(k))
        np.testing.assert_array_equal(
            jax.random.key_data(state.key), jax.random.key_data(jax.tree.map(lambda x, k=k: x[k], states.key))
        )
        for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(states.params), strict=True):
            np.testing.assert_allclose(a, b[k], atol=1e-5)
        np.testing.assert_allclose(one["episode_return"], metrics["episode_return"][k], rtol=1e-5)


def test_initial_parameters_of_vmapped_seeds_are_those_of_single_runs(monkeypatch):
    use_toy(monkeypatch)
    trainer = make_train(small_config(core=SMALL_CORES["arelit"]))
    states = jax.jit(jax.vmap(trainer.init))(jax.vmap(jax.random.key)(jnp.arange(2)))
    for k in range(2):
        state = jax.jit(trainer.init)(jax.random.key(k))
        for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(states.params), strict=True):
            np.testing.assert_allclose(a, b[k], atol=1e-6)


# What each field of the algorithm is changed to; every one must change what is learned.
CHANGED = {
    "total_timesteps": 64 * 4,
    "eval_episodes": 4,
    "env": {"id": "gymnax/Pendulum-v1"},
    "num_envs": 8,
    "previous_action_reward": True,
    "core": SMALL_CORES["arelit"],
    "encoder_widths": (8,),
    "actor_hidden": 8,
    "critic_hidden": 8,
    "actor_scale": 1.0,
    "critic_scale": 0.5,
    "num_steps": 8,
    "sequence_length": 4,
    "learning_rate": 1e-3,
    "anneal_learning_rate": False,
    "adam_eps": 1e-2,
    "max_grad_norm": 1e-9,
    "gamma": 0.5,
    "gae_lambda": 0.5,
    "update_epochs": 1,
    "num_minibatches": 4,
    "clip_eps": 1e-3,
    "value_clip": 1e-3,
    "target_kl": 1e-7,
    "vf_coef": 1.0,
    "ent_coef": 0.1,
    "normalize_observations": False,
    "normalize_rewards": False,
    "normalization_clip": 0.1,
}
# Fields that only the run loop reads; tests/harness holds their tests.
RUN_FIELDS = {"seed", "num_seeds", "run_dir", "resume", "wandb"}


def fingerprint(config):
    trainer = make_train(config)
    state, metrics = jax.jit(trainer.train)(jax.random.key(0))
    evaluated = jax.eval_shape(trainer.evaluate, state, jax.random.key(1))["episode_return"].shape
    norm = sum(float(jnp.abs(x).sum()) for x in jax.tree.leaves(state.params))
    return norm, metrics["loss"].shape, evaluated


BASE_FINGERPRINT = {}


@pytest.mark.parametrize("name", [field.name for field in fields(Config) if field.name not in RUN_FIELDS])
def test_every_field_of_the_config_has_an_effect(name):
    base = small_config(
        env={"id": "gymnax/Pendulum-v1", "max_steps_in_episode": 7},
        learning_rate=3e-3,
        total_timesteps=64 * 2,
    )
    if not BASE_FINGERPRINT:
        BASE_FINGERPRINT["base"] = fingerprint(base)
    assert fingerprint(replace(base, **{name: CHANGED[name]})) != BASE_FINGERPRINT["base"]


def test_the_learning_rate_falls_to_zero_over_the_run(monkeypatch):
    use_toy(monkeypatch)
    trainer = make_train(small_config(anneal_learning_rate=True, learning_rate=0.3, total_timesteps=64 * 4))
    _, metrics = jax.jit(trainer.train)(jax.random.key(0))
    np.testing.assert_allclose(metrics["learning_rate"], [0.3, 0.225, 0.15, 0.075], rtol=1e-6)


def test_the_target_kl_stops_an_update(monkeypatch):
    """The first of 16 gradient steps starts from a KL of 0, the second exceeds any target: one is taken."""
    use_toy(monkeypatch)
    trainer = make_train(small_config(target_kl=1e-9, update_epochs=8, learning_rate=1e-2))
    state, metrics = jax.jit(trainer.update)(jax.jit(trainer.init)(jax.random.key(0)))
    assert optax.tree_utils.tree_get(state.opt_state, "count") == 1
    assert metrics["stopped"] == 15 / 16


def test_value_clipping_is_around_the_old_value(monkeypatch):
    """A value that moved towards its target by more than the clip gets no gradient any more."""
    use_toy(monkeypatch)
    trainer, (state, _, batch, carries, _) = rollout(small_config(value_clip=0.1, sequence_length=16))
    carry = jax.tree.map(lambda x: x[0], carries)
    advantage = jnp.zeros_like(batch.value)

    def value_gradient(old_value, target):
        gradient = jax.grad(trainer.loss, has_aux=True)(
            state.params, carry, batch._replace(value=old_value), advantage, target
        )[0]
        return max(float(jnp.abs(x).max()) for x in jax.tree.leaves(gradient["params"]["critic"]))

    value = batch.value
    assert value_gradient(value - 0.5, value + 1.0) < 1e-6  # moved up by 0.5, target further up: clipped
    assert value_gradient(value, value + 1.0) > 1e-3  # not moved yet
    assert value_gradient(value + 0.5, value + 1.0) > 1e-3  # moved the wrong way: not clipped


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"num_minibatches": 7}, "num_minibatches=7"),
        ({"sequence_length": 5}, "sequence_length=5"),
        ({"num_envs": 0}, "num_envs=0"),
        ({"num_seeds": -1}, "num_seeds=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"total_timesteps": 0}, "total_timesteps=0"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"gamma": 1.5}, "gamma=1.5"),
        ({"clip_eps": float("inf")}, "clip_eps=inf"),
        ({"encoder_widths": (0,)}, "encoder_widths"),
        ({"learning_rate": 1e300}, "learning_rate"),
        ({"num_envs": 10**23}, "num_envs"),
        ({"seed": 2**31 - 1, "num_seeds": 2}, "seed"),
        ({"env": {}}, "env"),
        ({"core": {}}, "core"),
    ],
)
def test_a_bad_config_names_the_field(settings, field):
    with pytest.raises(ValueError, match=field):
        small_config(**settings)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"env": {"id": "brax/no_such_task"}}, "env.id"),
        ({"env": {"id": "gymnax/CartPole-v1"}}, "env.id"),
        ({"core": {"name": "no_such_core"}}, "core.name"),
        ({"core": {"name": "arelit", "n_layer": 2}}, "core.n_layer"),
        ({"core": {"name": "arelit", "n_layers": 0}}, "core.n_layers"),
        ({"core": {"name": "arelit", "r": 10**9}}, "core.r"),
        ({"env": {"id": "gymnax/Pendulum-v1", "max_steps_in_episode": 10**11}}, "env.max_steps_in_episode"),
        ({"env": {"id": "gymnax/Pendulum-v1", "dt": float("nan")}}, "env.dt"),
    ],
)
def test_a_bad_environment_or_core_names_the_field(settings, field):
    with pytest.raises(ValueError, match=field):
        make_train(small_config(**settings))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_valid_config(preset):
    Config(**PRESETS[preset])
