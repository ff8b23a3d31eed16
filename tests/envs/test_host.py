"""The bridge to environments of the host, with small environments: no MuJoCo, no pictures."""

import os
import pathlib
import signal
import subprocess
import sys
import time
from multiprocessing import reduction
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import envs
from algos.harness import RunError, loop
from envs.host import workers as host_workers
from envs.host.environment import HostEnvironment
from envs.host.workers import WorkerError, Workers
from tests.envs.host_environments import LIMIT
from tests.processes import gone, wait_until

MODULE = "tests.envs.host_environments"
ROOT = pathlib.Path(__file__).parents[2]
S, B, T = 3, 4, 15  # seeds, environments, steps


def make(function, **options):
    return envs.make(f"host/{MODULE}:{function}", **{"max_steps_in_episode": 50, "workers": 2} | options)


@pytest.fixture(scope="module")
def counter():
    env, params = make("counter")
    yield env, params
    env.workers.close()


ODD = """
import time
import gymnasium
import numpy as np
from tests.envs.host_environments import Counter

class Odd(Counter):
    def __init__(self, obs, dtype=np.float32, small_at=99, actions=None):
        super().__init__()
        self.observation_space = gymnasium.spaces.Box(0, 255, (2,), dtype)
        self.action_space = actions or self.action_space
        self._obs, self._small_at = obs, small_at

    def _observation(self):
        return self._obs[:1] if self._steps == self._small_at else self._obs

class OldStep(Odd):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated or truncated, {"TimeLimit.truncated": truncated}

class OldReset(Odd):
    def reset(self, *, seed=None):
        return super().reset(seed=seed)[0]

class Unpaid(Odd):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, None, *rest

def old_step():
    return OldStep(np.zeros(2))

def old_reset():
    return OldReset(np.zeros(2))

def unpaid():
    return Unpaid(np.zeros(2))

def no_environment():
    return None

def buttons():
    return Odd(np.zeros(2), actions=gymnasium.spaces.MultiBinary(3))

def short():
    return Odd(np.zeros(2), small_at=0)

def shrinks():
    return Odd(np.zeros(2), small_at=2)

def dark():
    return Odd(np.full(2, 0.5), np.uint8)

def late():
    time.sleep(1)
    return Odd(np.zeros(2))

def prints():
    print("hello from the environment")
    return Odd(np.zeros(2))
"""


@pytest.fixture
def odd(tmp_path):
    """A file with environments that are not what they say, or say too much."""
    path = tmp_path / "odd.py"
    path.write_text(ODD)
    return path.as_posix()


def rollout(env, params, num_envs=B, length=T):
    """key -> (first observations [B, ...], everything of the steps [T, B, ...]), random actions."""
    vec = envs.vectorize(env, num_envs, pool_size=1)

    def run(key):
        obs, state = vec.reset(key, params)

        def step(state, key):
            action = jax.vmap(env.action_space(params).sample)(jax.random.split(key, num_envs))
            obs, state, reward, terminated, truncated, info = vec.step(key, state, action, params)
            out = {"obs": obs, "action": action, "reward": reward}
            return state, out | info | {"terminated": terminated, "truncated": truncated}

        return obs, jax.lax.scan(step, state, jax.random.split(key, length))[1]

    return run


def keys(*shape):
    return jax.random.split(jax.random.key(0), shape)


# ----------------------------------------------------------------------------------------------------------------
# The bridge


@pytest.mark.parametrize("seeds", [None, S])
def test_any_nesting_of_vmap_is_one_host_call_a_step(counter, monkeypatch, seeds):
    env, params = counter
    calls = []
    for kind in ("reset", "step"):
        original = getattr(env._episodes[True, False], kind)

        def counted(*args, kind=kind, original=original):
            calls.append((kind, np.shape(args[0])))
            return original(*args)

        monkeypatch.setattr(env._episodes[True, False], kind, counted)
    run = rollout(env, params)
    if seeds:
        jax.block_until_ready(jax.jit(jax.vmap(run))(keys(seeds)))
    else:
        jax.block_until_ready(jax.jit(run)(keys()))
    shape = (seeds, B) if seeds else (B,)
    assert calls == [("reset", shape)] + [("step", shape)] * T


def callbacks(jaxpr):
    """Every primitive with a callback in a program, with all its inner programs."""
    for equation in jaxpr.eqns:
        if "callback" in equation.primitive.name:
            yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from callbacks(inner)


def test_calls_are_ordered_and_take_only_small_arrays():
    env, params = make("image")
    found = list(callbacks(jax.make_jaxpr(jax.vmap(rollout(env, params)))(keys(S)).jaxpr))
    env.workers.close()
    assert [each.primitive.name for each in found] == ["io_callback"] * 2  # a reset and, in the scan, a step
    for each in found:
        assert each.params["ordered"]
        # Seeds, or slots and actions. Observations come out and never go in.
        assert all(variable.aval.shape == (S, B) and variable.aval.dtype.itemsize == 4 for variable in each.invars)


def test_seeds_in_one_program_are_the_same_as_alone(counter):
    env, params = counter
    run = rollout(env, params)
    together = jax.jit(jax.vmap(run))(keys(S))
    for index in range(S):
        alone = jax.jit(run)(keys(S)[index])
        jax.tree.map(lambda a, b, index=index: np.testing.assert_array_equal(a[index], b), together, alone)


def test_a_run_reproduces_from_its_key(counter):
    env, params = counter
    run = jax.jit(rollout(env, params))
    one, again, other = run(jax.random.key(0)), run(jax.random.key(0)), run(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert (one[0][:, 2] != other[0][:, 2]).all() and len(set(one[0][:, 2].tolist())) == B


def test_each_environment_gets_its_own_action_whatever_their_order(counter):
    env, params = counter
    params = params.replace(restarts=True)
    _, state = jax.vmap(env.reset_env, (0, None))(keys(B), params)
    order = jnp.array([2, 0, 3, 1])
    state = jax.tree.map(lambda x: x[order], state)
    actions = jnp.array([0, 1, 2, 1])
    _, _, reward, *_ = jax.vmap(env.step_env, (0, 0, 0, None))(keys(B), state, actions, params)
    np.testing.assert_allclose(reward, actions + state.obs[:, 2], rtol=1e-6)


def test_a_worker_never_imports_jax(counter):
    env, params = counter
    obs, _ = jax.jit(rollout(env, params))(jax.random.key(0))
    assert (obs[:, 3] == 0).all()


# ----------------------------------------------------------------------------------------------------------------
# Episodes


def test_the_end_is_a_truncation_with_the_final_observation(counter):
    env, params = counter
    _, out = jax.tree.map(np.asarray, jax.jit(rollout(env, params))(jax.random.key(0)))
    done = out["truncated"]
    np.testing.assert_array_equal(done, (np.arange(1, T + 1) % LIMIT == 0)[:, None].repeat(B, 1))
    assert not out["terminated"].any()
    assert (out["final_observation"][done][:, 0] == LIMIT).all() and (out["obs"][done][:, 0] == 0).all()
    np.testing.assert_array_equal(out["final_observation"][~done], out["obs"][~done])
    # The next episode draws anew.
    assert (out["final_observation"][done][:, 2] != out["obs"][done][:, 2]).all()
    assert (out["episode_length"] == (np.arange(T) % LIMIT + 1)[:, None]).all()
    first = out["reward"][:LIMIT].sum(0)
    np.testing.assert_allclose(out["episode_return"][LIMIT - 1], first, rtol=1e-6)
    assert (out["episode_return"][LIMIT] == out["reward"][LIMIT]).all()


def test_a_terminal_state_is_no_truncation():
    env, params = make("terminating", max_steps_in_episode=LIMIT)  # both at the same step
    _, out = jax.jit(rollout(env, params))(jax.random.key(0))
    env.workers.close()
    assert out["terminated"][LIMIT - 1].all() and not out["truncated"].any()


def test_a_time_limit_can_be_set():
    env, params = make("counter", max_steps_in_episode=4)
    _, out = jax.jit(rollout(env, params))(jax.random.key(0))
    env.workers.close()
    np.testing.assert_array_equal(out["truncated"][:, 0], np.arange(1, T + 1) % 4 == 0)


def test_without_restarts_an_environment_stays_at_its_end(counter):
    env, params = counter
    obs, state = jax.vmap(env.reset_env, (0, None))(keys(2), params)
    for step in range(1, LIMIT + 3):
        obs, state, reward, terminated, _ = jax.vmap(env.step_env, (0, 0, 0, None))(
            keys(2), state, jnp.ones(2, int), params
        )
        assert (obs[:, 0] == min(step, LIMIT)).all()
        assert (env.is_truncated(state, params) == (step >= LIMIT)).all() and not terminated.any()
        assert ((reward == 0) == (step > LIMIT)).all()


def test_episodes_without_restarts_leave_the_others_alone(counter):
    env, params = counter
    vec = envs.vectorize(env, B, pool_size=1)

    def run(disturb):
        _, state = vec.reset(jax.random.key(0), params)
        for step in range(3):
            if disturb and step == 1:
                _, other = jax.vmap(env.reset_env, (0, None))(keys(2), params)
                jax.vmap(env.step_env, (0, 0, 0, None))(keys(2), other, jnp.ones(2, int), params)
            obs, state, *rest = vec.step(jax.random.key(1), state, jnp.ones(B, int), params)
        return obs, rest

    jax.tree.map(np.testing.assert_array_equal, run(False), run(True))


def test_states_of_an_earlier_reset_are_refused(counter):
    env, params = counter
    reset = jax.vmap(env.reset_env, (0, None))
    _, old = reset(keys(2), params)
    reset(keys(2), params)
    with pytest.raises(Exception, match="must be each of the 2 environments that the last reset made"):
        jax.block_until_ready(jax.vmap(env.step_env, (0, 0, 0, None))(keys(2), old, jnp.ones(2, int), params))


def test_the_previous_action_and_reward_can_be_appended(counter):
    env, params = counter
    wrapped = envs.PreviousActionReward(env)
    assert envs.lives_on_host(wrapped)
    first, out = jax.jit(rollout(wrapped, params))(jax.random.key(0))
    assert first.shape == (B, *wrapped.observation_space(params).shape) and (first[:, 4:] == 0).all()
    np.testing.assert_array_equal(out["final_observation"][..., -1], out["reward"])
    np.testing.assert_array_equal(out["final_observation"][..., 4:7], jax.nn.one_hot(out["action"], 3))
    assert (out["obs"][LIMIT - 1][:, 4:] == 0).all()


# ----------------------------------------------------------------------------------------------------------------
# What can be plugged in


def test_a_gymnasium_environment_by_its_id():
    env, params = envs.make("gymnasium/CartPole-v1", workers=1)
    assert params.max_steps_in_episode == 500 and env.action_space(params).n == 2
    obs, out = jax.jit(rollout(env, params))(jax.random.key(0))
    env.workers.close()
    assert "gymnasium.envs.classic_control" not in sys.modules  # nothing of it runs in this process
    assert obs.shape == (B, 4) and obs.dtype == jnp.float32 and out["terminated"].any()
    assert (out["reward"] == 1).all() and len(np.unique(obs)) == obs.size


def test_an_environment_that_a_module_of_the_users_registers():
    env, params = envs.make(f"gymnasium/{MODULE}:CartPoleP-v1", workers=1)
    assert env.observation_space(params).shape == (2,)
    obs, _ = jax.jit(rollout(env, params))(jax.random.key(0))
    env.workers.close()
    assert obs.shape == (B, 2)


def test_a_dm_env_environment():
    env, params = make("dm_counter")
    assert env.observation_space(params).shape == (3,) and isinstance(env.action_space(params), spaces.Discrete)
    obs, out = jax.jit(rollout(env, params))(jax.random.key(0))
    env.workers.close()
    assert len(set(obs[:, 2].tolist())) > 1  # seeds differ
    np.testing.assert_array_equal(out["reward"], out["action"])
    assert (out["terminated"][LIMIT - 1] == (obs[:, 1] == 1)).all()
    assert (out["truncated"][LIMIT - 1] == (obs[:, 1] == 0)).all()


def test_continuous_actions():
    env, params = make("undrawn_continuous")
    space = env.action_space(params)
    assert space.shape == (1,) and space.low == -1
    _, out = jax.jit(rollout(env, params))(jax.random.key(0))
    env.workers.close()
    np.testing.assert_array_equal(out["reward"], out["action"][..., 0])


def test_pictures_are_what_the_agent_saw():
    env, params = make("image")
    _, state = env.reset_env(jax.random.key(0), params)
    _, state, *_ = env.step_env(jax.random.key(0), state, jnp.int32(0), params)
    picture = env.render(jax.device_get(state), params)
    env.workers.close()
    assert picture.shape == (192, 192, 3) and picture.dtype == np.uint8 and (picture == 40).all()
    assert not hasattr(make("counter")[0], "render")
    for shape in ((8, 8), (8, 8, 2), (8, 8, 4)):
        state = SimpleNamespace(obs=np.arange(np.prod(shape), dtype=np.uint8).reshape(shape))
        picture = env.render(state)
        assert picture.shape == (192, 192, 3)
        np.testing.assert_array_equal(picture[::24, ::24, 0], state.obs.reshape(8, 8, -1)[:, :, 0])


@pytest.mark.parametrize(
    ("env_id", "options", "message"),
    [
        ("gymnasium/CartPol-v1", {}, r"worker 0 raised NameNotFound: .*CartPol"),
        (f"host/{MODULE}:cannot_be_made", {}, "worker 0 raised OSError: no such maze in the second line"),
        (f"host/{MODULE}:nothing", {}, "worker 0 raised AttributeError: .*nothing"),
        ("host/no_such_module:f", {}, "worker 0 raised ModuleNotFoundError: .*no_such_module"),
        ("host/no_function", {}, "must name a module and a function"),
        ("host/ODD:buttons", {}, r"worker 0 raised TypeError: actions of MultiBinary\(3\): must be Discrete"),
        ("host/ODD:short", {}, r"worker 0 raised ValueError: observation of shape \(1,\): must be \(2,\)"),
        ("host/ODD:dark", {}, "worker 0 raised TypeError: observation of float64: must be uint8"),
        ("host/ODD:old_step", {}, r"worker 0 raised TypeError: step returned no \(observation, reward, term"),
        ("host/ODD:old_reset", {}, r"worker 0 raised TypeError: reset returned no \(observation, info\), as"),
        ("host/ODD:unpaid", {}, "worker 0 raised TypeError: reward None: must be a number"),
        ("host/ODD:no_environment", {}, "worker 0 raised TypeError: the function returned None: must be a"),
    ],
)
def test_what_cannot_be_made_is_one_line(env_id, options, message, odd):
    env_id = env_id.replace("ODD", odd)
    with pytest.raises(ValueError, match=f"^env.id='{env_id}': {message}") as error:
        envs.make(env_id, **options)
    assert "\n" not in str(error.value)


def test_an_observation_of_another_shape_is_refused_whenever_it_comes(odd):
    env, params = envs.make(f"host/{odd}:shrinks", max_steps_in_episode=3, workers=1)
    with pytest.raises(jax.errors.JaxRuntimeError, match="observation of shape"):
        jax.block_until_ready(jax.jit(rollout(env, params))(jax.random.key(0)))
    assert "raised ValueError: observation of shape (1,): must be (2,)" in env.failure


def test_what_an_environment_prints_goes_to_stderr(odd, capfd):
    workers = Workers(f"{odd}:prints", {}, 1, 60)
    workers.close()
    out, err = capfd.readouterr()
    assert out == "" and "hello from the environment" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps_in_episode": 0}, r"env.max_steps_in_episode=0: must be at least 1, for .* no time limit"),
        ({"max_steps_in_episode": -1}, "env.max_steps_in_episode=-1: must be at least 1"),
        ({"workers": -1}, "env.workers=-1: must be at least 0"),
        ({"timeout_s": 0.0}, "env.timeout_s=0.0: must be greater than 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make("counter", **options)


def test_a_time_limit_beyond_the_environments_own_is_refused():
    message = "^env.max_steps_in_episode=501: must be at most 500, the time limit of gymnasium/CartPole-v1 itself$"
    with pytest.raises(ValueError, match=message):
        envs.make("gymnasium/CartPole-v1", max_steps_in_episode=501, workers=1)
    env, params = envs.make("gymnasium/CartPole-v1", max_steps_in_episode=500, workers=1)
    env.workers.close()
    assert params.max_steps_in_episode == 500


# ----------------------------------------------------------------------------------------------------------------
# Faults


FAULTS = {
    "raises": ("worker [01] raised EOFError: the ball is gone", 'EOFError("the ball is gone")'),
    "dies": (r"worker [01] \(process \d+\) died, exit code -9", ""),
    "hangs": (r"worker [01] \(process \d+\) gave no sign of life for 1 s", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_worker_ends_the_program_with_its_reason(fault):
    reason, source_line = FAULTS[fault]
    env, params = make(fault, timeout_s=1.0 if fault == "hangs" else 60.0)
    run = jax.jit(rollout(env, params))
    begin = time.monotonic()
    with pytest.raises(jax.errors.JaxRuntimeError, match=reason) as error:
        jax.block_until_ready(run(jax.random.key(0)))
    assert source_line in str(error.value)  # the worker's own traceback
    assert time.monotonic() - begin < 15
    assert "\n" not in env.failure
    wait_until(lambda: all(gone(pid) for pid in env.workers.pids))
    with pytest.raises(jax.errors.JaxRuntimeError, match=reason):  # at once, and again with the reason
        jax.block_until_ready(run(jax.random.key(0)))
    assert jax.jit(lambda x: x + 1)(1) == 2


@pytest.mark.parametrize(
    ("function", "action", "message"),
    [
        ("undrawn", -1, "action -1: must be from 0 to 2"),
        ("undrawn", 3, "action 3: must be from 0 to 2"),
        ("undrawn_continuous", np.nan, "action nan: must be finite"),
        ("undrawn_continuous", np.inf, "action inf: must be finite"),
    ],
)
def test_actions_of_a_policy_that_diverged_are_no_fault_of_the_environment(function, action, message):
    env, params = make(function)
    actions = np.zeros((B, *env.spec.action_shape), env.spec.action_dtype)
    actions[2] = action

    @jax.jit
    def run(actions):
        _, state = jax.vmap(env.reset_env, (0, None))(keys(B), params)
        return jax.vmap(env.step_env, (0, 0, 0, None))(keys(B), state, actions, params)

    message = f"{message}; the policy's parameters are likely not finite"
    config, trainer = SimpleNamespace(env={"id": "host/x"}), SimpleNamespace(env=env)
    with (
        pytest.raises(RunError, match=f"^env.id='host/x': {message}; go on$"),
        loop.environment_failures(config, trainer, lambda: "; go on"),
    ):
        jax.block_until_ready(run(actions))
    assert env.failure == message and all(gone(pid) for pid in env.workers.pids)


def test_other_errors_pass_where_no_environment_failed(counter):
    trainer = SimpleNamespace(env=counter[0])
    with pytest.raises(ValueError, match="^something else$"), loop.environment_failures(None, trainer):
        raise ValueError("something else")


def test_a_worker_that_dies_before_it_gets_the_memory_is_named(monkeypatch):
    workers = Workers(f"{MODULE}:counter", {}, 1, 60)
    workers.limit(50)
    send_handle = reduction.send_handle

    def killed_before(connection, handle, pid):
        (process, _), *_ = workers._started
        process.kill()
        process.wait()  # for all its threads: the last one closes the socket
        send_handle(connection, handle, pid)

    monkeypatch.setattr(reduction, "send_handle", killed_before)
    with pytest.raises(WorkerError, match=r"worker 0 \(process \d+\) died, exit code -9"):
        workers.open(2, restarts=True)
    assert "died, exit code -9" in workers.broken


def test_a_slow_group_is_no_hanging_one():
    """The time-out is of a single environment: 30 steps of 0.1 s in one worker take longer than 2 s."""
    workers = Workers(f"{MODULE}:slow", {}, 1, 2.0)
    workers.limit(50)
    group = workers.open(30, restarts=True)
    group.reset(np.arange(30))
    assert group.step(np.zeros(30, np.int32))[2].shape == (30,)
    workers.close()


def test_start_up_has_its_own_time_out(odd, monkeypatch):
    """The first environment takes longer to be made than a step may."""
    workers = Workers(f"{odd}:late", {}, 1, 0.5)
    workers.close()
    monkeypatch.setattr(host_workers, "START_UP_S", 0.6)
    with pytest.raises(WorkerError, match=r"gave no sign of life for 0.6 s"):
        Workers(f"{odd}:late", {}, 1, 0.5)


def test_signals_that_stop_a_job_reach_workers_through_their_parent_only():
    workers = Workers(f"{MODULE}:counter", {}, 1, 60)
    workers.limit(50)
    (pid,) = workers.pids
    assert os.getpgid(pid) == pid  # not that of the terminal's job
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    group = workers.open(1, restarts=True)
    assert group.reset(np.zeros(1, int)).shape == (1, 4)
    workers.close()


def test_closing_ends_the_workers():
    workers = Workers(f"{MODULE}:counter", {}, 2, 60)
    HostEnvironment("x", workers, 50)
    workers.open(2, restarts=True)
    assert len(workers.pids) == 2
    workers.close()
    assert all(gone(pid) for pid in workers.pids)
    with pytest.raises(WorkerError, match="closed"):
        workers.open(2, restarts=True)


PARENT = """
import sys, threading, time
import numpy as np
from envs.host.workers import Workers

workers = Workers(sys.argv[1], {}, 2, 3600)
workers.limit(50)
group = workers.open(4, restarts=True)
group.reset(np.arange(4))

def play():
    while True:
        group.step(np.zeros(4, np.int32))

threading.Thread(target=play, daemon=True).start()
time.sleep(0.3)
print(*workers.pids, flush=True)
sys.stdin.readline()
"""


def test_when_the_parent_ends_nothing_is_left():
    """By a signal it cannot catch while a worker hangs, by one it does not catch, and by itself.

    Shared memory has no name and goes with the processes.
    """
    ends = [("hangs", signal.SIGKILL), ("counter", signal.SIGTERM), ("counter", None)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    command = [sys.executable, "-c", PARENT]
    parents = [subprocess.Popen([*command, f"{MODULE}:{function}"], **pipes) for function, _ in ends]
    for parent, (_, how) in zip(parents, ends, strict=True):
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2 and not any(gone(pid) for pid in pids)
        if how is not None:
            parent.send_signal(how)
        parent.communicate("end\n" if how is None else None, timeout=20)
        assert parent.returncode == (0 if how is None else -how)
        wait_until(lambda pids=pids: all(gone(pid) for pid in pids))
