"""What an agent's memory does: that of the agent that ships holds the cue, a memoryless one nothing."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import networks
from algos import a2c_arelit, ppo_arelit, ppo_arelit_continuous
from algos.harness import evaluation, load_run
from networks.agent import action_for_env
from scripts import diagnose

AGENT = Path(__file__).parents[2] / "scripts/notebooks/results/TMaze-v2-20/agent"
SMALL = "--eval-episodes 2 --num-envs 4 --num-steps 16 --total-timesteps 128 --core.n-layers 1 --core.d-model 8"
HEADS = " --core.d-head 4 --core.n-heads 2"


def train(path, trainer, flags):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [trainer.__name__, *SMALL.split(), *flags.split(), "--run-dir", str(path)])
        trainer.main()
    return path


def run(monkeypatch, capsys, *flags):
    monkeypatch.setattr(sys, "argv", ["diagnose.py", *map(str, flags)])
    code = 0
    try:
        diagnose.main()
    except SystemExit as end:
        code = end.code
    return code, *capsys.readouterr()


def means(points, name):
    return np.array([point[name]["mean"] for point in points])


@pytest.fixture(scope="module")
def shipped():
    return diagnose.diagnose(AGENT, episodes=64)


@pytest.fixture(scope="module")
def memoryless(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "feedforward"
    flags = "--core.name feedforward --env.corridor-len 3 --env.max-episode-steps 9 --num-seeds 2 --seed 4"
    return train(path, a2c_arelit, flags)


@pytest.fixture(scope="module")
def continuous(tmp_path_factory):
    flags = "--env.id gymnax/Pendulum-v1 --env.max-steps-in-episode 8 --num-minibatches 1 --sequence-length 16"
    flags += HEADS + " --core.d-ffc 8"
    return train(tmp_path_factory.mktemp("runs") / "pendulum", ppo_arelit_continuous, flags)


def test_the_cue_is_read_off_the_shipped_agents_carry_at_every_step(shipped):
    assert shipped["undisturbed"]["success"]["mean"] > 0.98
    probe = shipped["probe"]
    assert (probe["target"], probe["measure"]) == ("the cue", "accuracy")
    assert [point["t"] for point in probe["points"]] == list(range(1, 20))
    assert min(point["score"] for point in probe["points"]) > 0.95
    assert max(point["chance"] for point in probe["points"]) < 0.75


def test_without_its_memory_the_shipped_agent_guesses_and_with_anothers_it_follows_that_ones_cue(shipped):
    success = {name: means(points, "success") for name, points in shipped["interventions"].items()}
    for name in ("zeroed", "exchanged"):
        assert len(success[name]) == 19 and np.all(np.abs(success[name] - 0.5) < 0.2), (name, success[name])
    assert success["exchanged, same cue"].min() > 0.95
    assert success["exchanged, other cue"].max() < 0.05
    # This agent needs a memory that changes for its first seven steps. Later, what the cue left in it at step 0
    # need not be written again. Interventions are at t = 1 .. 19.
    assert success["frozen"][7:].min() > 0.95 and success["frozen"].min() > 0.5
    np.testing.assert_allclose(
        means(shipped["interventions"]["exchanged, other cue"], "return_cost"), 5, rtol=0.05
    )


def test_the_shipped_agents_choice_depends_on_the_cue_more_than_on_the_corridor(shipped):
    assert shipped["gradient"]["at"] == 19
    norm = [point["median"] for point in shipped["gradient"]["points"]]
    assert norm[0] > 10 * np.median(norm[1:19]) and norm[0] > 0.1


def test_success_is_told_for_shorter_and_longer_corridors(shipped):
    delay = shipped["delay"]
    assert (delay["option"], delay["trained"]) == ("corridor_len", 20)
    assert [point["corridor_len"] for point in delay["points"]] == [10, 20, 30, 40, 60, 80, 160]
    assert delay["points"][1]["success"]["mean"] > 0.98 and delay["points"][1]["length"]["mean"] < 21
    assert means(delay["points"], "length")[-1] >= 160


def test_delays_that_the_environment_refuses_are_told(memoryless):
    trainer = SimpleNamespace(env_params=envs.make("TMaze-v2", corridor_len=200)[1])
    config = SimpleNamespace(env={"id": "TMaze-v2", "corridor_len": 200})
    report = {"return": np.zeros(4)}
    result = diagnose._delay(config, trainer, lambda delay: SimpleNamespace(report=report), "corridor_len")
    assert [point["corridor_len"] for point in result["points"]] == [100, 200]
    assert "env.corridor_len=300: must be from 2 to 256" in result["refused"][0]


def test_a_memoryless_agent_holds_nothing_loses_nothing_and_looks_at_the_present_only(
    memoryless, tmp_path, monkeypatch, capsys
):
    page = tmp_path / "page.png"
    code, out, _ = run(monkeypatch, capsys, memoryless, "--episodes", 64, "--seed", 5, "--output", page)
    assert code == 0 and page.read_bytes().startswith(b"\x89PNG")
    result = json.loads(page.with_suffix(".json").read_text())
    assert (result["seed"], result["core"]["name"], result["episodes"]) == (5, "feedforward", 64)
    assert all(line in out for line in diagnose.summary(result))
    for name, points in result["interventions"].items():
        assert not means(points, "return_cost").any(), name
        assert not means(points, "success_cost").any(), name
    for point in result["probe"]["points"]:
        assert point["carry_size"] == 0 and point["score"] == point["chance"] and abs(point["score"] - 0.5) < 0.25
    *earlier, last = [point["quartiles"][1] for point in result["gradient"]["points"]]
    assert len(earlier) >= 2 and not any(earlier) and last > 0


@pytest.mark.slow
def test_continuous_actions_and_environments_without_a_cue_or_a_delay(continuous, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, continuous, "--episodes", 32)
    assert code == 0
    assert "delay: skipped, gymnax/Pendulum-v1 has no option for the delay" in out
    assert (continuous / "diagnosis.png").is_file()
    result = json.loads((continuous / "diagnosis.json").read_text())
    assert set(result["interventions"]) == {"zeroed", "frozen", "exchanged"}
    assert means(result["interventions"]["zeroed"], "return_cost").any()  # its memory matters a little already
    assert result["probe"]["measure"] == "R^2" and result["probe"]["points"][0]["score"] > 0.25
    assert len(result["gradient"]["points"]) == 8
    assert all(point["median"] > 0 for point in result["gradient"]["points"])


@pytest.mark.slow
def test_ppo_with_discrete_actions_and_a_memory_with_counters(tmp_path):
    flags = "--env.id gymnax/MemoryChain-bsuite --env.memory-length 4 --core.name gtrxl --core.memory-len 4"
    path = train(tmp_path / "run", ppo_arelit, f"{flags}{HEADS} --num-minibatches 1 --sequence-length 16")
    result = diagnose.diagnose(path, episodes=32)
    assert result["delay"]["option"] == "memory_length"
    assert result["probe"]["measure"] == "accuracy" and result["probe"]["points"][0]["score"] == 1.0
    assert [point["episodes"] for point in result["interventions"]["frozen"]] == [32] * 4
    diagnose.draw(result, tmp_path / "page.png")


@pytest.mark.parametrize("run_dir", [AGENT, pytest.param("continuous", marks=pytest.mark.slow)])
def test_a_segments_policy_is_the_one_that_acts_step_by_step(run_dir, request):
    path = request.getfixturevalue(run_dir) if run_dir == "continuous" else run_dir
    loaded = load_run(path)
    trainer, state = loaded.trainer, jax.tree.map(lambda x: x[0], loaded.state)
    shape = trainer.env.observation_space(trainer.env_params).shape
    obs = jax.random.normal(jax.random.key(0), (3, 2, *shape)) * 3  # [T, B, ...]
    reset = jnp.array([[True, True], [False, True], [False, False]])
    _, distribution, values = jax.jit(trainer.forward)(state, trainer.initial_carry(2), obs, reset)
    act = jax.jit(trainer.act, static_argnums=5)
    carry = trainer.initial_carry(2)
    for t in range(3):
        carry, action, value = act(state, carry, obs[t], reset[t], jax.random.key(1), True)
        np.testing.assert_allclose(value, values[t], rtol=1e-4, atol=1e-5)
        mode = distribution.mode()[t]
        if mode.ndim > 1:
            mode = action_for_env(trainer.env.action_space(trainer.env_params))(mode)
        np.testing.assert_allclose(action, mode, rtol=1e-4, atol=1e-5)


def test_a_frozen_memory_keeps_its_counters_but_no_clock():
    arelit = networks.make_core("arelit", n_layers=1, d_model=8, d_head=4, d_ffc=8, n_heads=2)
    old = arelit.initialize_carry((3,))
    kept = diagnose.held(old, jax.tree.map(lambda x: x + 1, old))
    assert kept.phase.tolist() == [2, 2, 2]
    assert all(not leaf.any() for leaf in jax.tree.leaves(kept.layers))
    gtrxl = networks.make_core("gtrxl", n_layers=1, d_model=8, d_head=4, n_heads=2, memory_len=4)
    old = gtrxl.initialize_carry((3,))
    kept = diagnose.held(old, jax.tree.map(lambda x: x + 1, old))
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), kept, old))
    assert diagnose.held((), ()) == ()


class Leaky:
    """A policy over m_t = m_{t-1} / 2 + w . obs_t, as a trainer of the T-Maze; it always walks on."""

    w = jnp.array([3.0, 4.0] + [0.0] * 14)  # of norm 5

    def __init__(self, discrete, q_values=False):
        self.env, self.env_params = envs.make("TMaze-v2", corridor_len=4, max_episode_steps=4)
        self.discrete, self.q_values = discrete, q_values

    def initial_carry(self, batch):
        return jnp.zeros(batch)

    def act(self, state, carry, obs, reset, key, deterministic):
        return carry / 2 + obs @ self.w, jnp.full(len(obs), 3), jnp.zeros(len(obs))

    def forward(self, state, carry, obs, reset):
        _, memory = jax.lax.scan(lambda m, x: (m / 2 + x @ self.w,) * 2, carry, obs)  # [T, B]
        if not self.discrete:
            return carry, SimpleNamespace(mode=lambda: jnp.stack([memory, 2 * memory], axis=-1)), memory
        if self.q_values:
            q = jnp.stack([memory, 0 * memory, memory - 100], axis=-1)
            return carry, SimpleNamespace(preferences=q, logits=-jnp.inf * q), memory
        return carry, SimpleNamespace(logits=jnp.stack([memory, 0 * memory, 0 * memory], axis=-1)), memory


@pytest.mark.parametrize("discrete, scale", [(True, 1.0), (False, np.sqrt(5))])
def test_gradients_are_those_of_the_log_odds_or_of_every_entry_of_the_mean(discrete, scale):
    norms, reach = diagnose.make_gradient(Leaky(discrete), 3, 4, 1.0)(0, jax.random.key(0))
    assert reach.all()
    expected = 5 * scale * 0.5 ** np.array([3, 2, 1, 0])
    np.testing.assert_allclose(norms, np.broadcast_to(expected[:, None], (4, 3)), rtol=1e-5)
    halves, _ = diagnose.make_gradient(Leaky(discrete), 3, 4, 0.5)(0, jax.random.key(0))
    np.testing.assert_allclose(halves, norms, rtol=1e-5)  # with respect to what the policy sees


def test_gradients_of_q_values_are_those_of_the_lead_of_the_best_over_the_second():
    norms, _ = diagnose.make_gradient(Leaky(True, q_values=True), 3, 4, 1.0)(0, jax.random.key(0))
    expected = 5 * 0.5 ** np.array([3, 2, 1, 0])
    np.testing.assert_allclose(norms, np.broadcast_to(expected[:, None], (4, 3)), rtol=1e-5)


def played_to(trainer, state, key, episodes, num_steps):
    """Observations [T, B, ...] of the episodes that make_gradient plays with this key."""
    playing, seen = evaluation.begin(trainer, key, episodes), []
    for _ in range(num_steps):
        seen.append(playing.obs)
        playing = evaluation.step(trainer, state, playing, deterministic=True)
    return np.stack(seen)


@pytest.mark.parametrize("run_dir", [pytest.param(AGENT, marks=pytest.mark.slow), "continuous"])
def test_gradients_are_finite_differences_of_acting_step_by_step(run_dir, request):
    loaded = load_run(request.getfixturevalue(run_dir) if run_dir == "continuous" else run_dir)
    trainer, (_, state) = loaded.trainer, loaded.of_seed(None)
    episodes, num_steps, key = 2, 4, jax.random.key(7)
    norms, reach = diagnose.make_gradient(trainer, episodes, num_steps, 1.0)(state, key)
    assert reach.all()
    obs = played_to(trainer, state, key, episodes, num_steps)

    @jax.jit
    def last(obs):  # the logits or the mean at T of one episode's observations [T, ...]
        carry = trainer.initial_carry(1)
        for t in range(num_steps):
            before, first = carry, jnp.array([t == 0])
            carry = trainer.act(state, before, obs[t][None], first, jax.random.key(0), True)[0]
        distribution = trainer.forward(state, before, obs[-1:, None], first[None])[1]
        return (distribution.logits if hasattr(distribution, "logits") else distribution.mode())[0, 0]

    def entries(outputs, chosen):  # of the action: its log-odds, or the mean itself
        if run_dir == "continuous":
            return outputs
        weights = np.exp(outputs - outputs.max(-1, keepdims=True))
        return np.log(weights[..., chosen] / (weights.sum(-1) - weights[..., chosen]))[..., None]

    step = 3e-3
    for episode in range(episodes):
        alone = obs[:, episode]
        directions = step * np.eye(alone.size, dtype=np.float32).reshape(-1, *alone.shape)
        chosen = int(last(alone).argmax())
        both = (np.asarray(jax.vmap(last)(alone + d), float) for d in (directions, -directions))
        up, down = (entries(outputs, chosen) for outputs in both)
        jacobian = ((up - down) / (2 * step)).reshape(num_steps, -1)  # [T, observation x entries]
        np.testing.assert_allclose(norms[:, episode], np.linalg.norm(jacobian, axis=1), rtol=0.03, atol=3e-3)


def test_interventions_do_to_the_carry_what_they_say():
    trainer = Leaky(True)
    play = diagnose.make_play(trainer, 8, None)
    key = jax.random.key(3)
    carry = {t: np.asarray(play(0, key, until=t).carry) for t in (1, 2, 3)}
    assert {*carry[1].tolist()} == {3.0, 4.0}  # both cues
    seen = carry[3] - carry[2] / 2  # what the observation of t = 2 adds
    frozen = play(0, key, kind=diagnose.FROZEN, at=1, until=3).carry
    np.testing.assert_allclose(frozen, carry[1], rtol=1e-6)
    donor = np.roll(np.arange(8), 1)
    exchanged = play(0, key, kind=diagnose.EXCHANGED, at=2, donor=donor, until=3).carry
    np.testing.assert_allclose(exchanged, carry[2][donor] / 2 + seen, rtol=1e-5, atol=1e-6)
    assert (np.asarray(exchanged) != carry[3]).any()


def test_the_probe_is_scored_on_running_episodes_to_which_it_was_not_fitted(monkeypatch):
    number = np.arange(40, dtype=np.float32)[:, None]  # of the episode
    running, cue = np.arange(40) % 4 > 0, np.arange(40) % 2
    played = diagnose.Played({}, number, running, cue, np.zeros((40, 1)))
    given = []

    def ridge(inputs, targets, new_inputs):
        given.extend([inputs, new_inputs])
        return np.eye(2)[cue[new_inputs[:, 0].astype(int)]], targets.mean(0)

    monkeypatch.setattr(diagnose, "ridge", ridge)
    (point,) = diagnose._probe(lambda until: played, played, np.array([1]))["points"]
    fit, test = ({*each[:, 0].astype(int).tolist()} for each in given)
    assert not fit & test and fit | test == {*np.flatnonzero(running).tolist()} and len(fit) == len(test)
    assert point["score"] == 1 and point["episodes"] == running.sum()


def test_ridge_finds_a_line_among_more_inputs_than_examples_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(200, 400)) @ np.diag(np.logspace(0, 3, 400))
    target = (inputs[:, :2] @ [[1.0], [-1.0]]) + 7
    mixed = np.concatenate([target, target * 2 + rng.normal(size=(200, 1)) * 0.01, inputs[:, 300:310]], axis=1)
    predicted, constant = diagnose.ridge(mixed[:100], target[:100], mixed[100:])
    assert np.corrcoef(predicted[:, 0], target[100:, 0])[0, 1] > 0.999
    assert constant == pytest.approx(target[:100].mean())
    noise, _ = diagnose.ridge(rng.normal(size=(100, 300)), target[:100], rng.normal(size=(100, 300)))
    residual = np.sum((target[100:] - noise) ** 2) / np.sum((target[100:] - constant) ** 2)
    assert residual > 0.85
    # One example far outside decides no score.
    far, _ = diagnose.ridge(mixed[:100], target[:100], mixed[100:] * np.array([1e6] + [1] * 99)[:, None])
    assert np.abs(far).max() < 3 * np.abs(target).max()
    empty, _ = diagnose.ridge(np.zeros((100, 0)), target[:100], np.zeros((3, 0)))
    assert (empty == constant).all()


@pytest.mark.parametrize(
    "flags, words",
    [
        (["nowhere"], ["run_dir='nowhere'"]),
        ([AGENT, "--seed", "1"], ["seed=1", "from 0 to 0"]),
        ([AGENT, "--episodes", "2"], ["episodes=2", "from 16"]),
        ([AGENT, "--episodes", "65537"], ["episodes=65537", "to 2^16"]),
        ([AGENT, "--epis", "16"], ["--epis"]),
        ([AGENT, "--output", "a.svg"], ["output='a.svg'", ".png"]),
        ([AGENT, "--output", "nowhere/a.png"], ["output='nowhere/a.png'"]),
        ([], ["run_dir"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(monkeypatch, capsys, flags, words):
    code, _, err = run(monkeypatch, capsys, *flags)
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, err
    for word in words:
        assert word in err


def test_environments_in_other_processes_are_refused(monkeypatch, capsys):
    outside = SimpleNamespace(lives_on_host=True)
    config = SimpleNamespace(env={"id": "gymnasium/CartPole-v1"})
    monkeypatch.setattr(diagnose, "load_run", lambda *_: SimpleNamespace(config=config, trainer=outside))
    code, _, err = run(monkeypatch, capsys, "anywhere")
    assert code == 2 and err.startswith("error: env.id='gymnasium/CartPole-v1': must be an environment in JAX")
