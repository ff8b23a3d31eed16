"""How a trained agent uses its memory: one page of figures and their numbers.

    python scripts/diagnose.py runs/NAME                       # runs/NAME/diagnosis.png and diagnosis.json
    python scripts/diagnose.py runs/NAME --episodes 64 --output cue.png
    python scripts/diagnose.py runs/NAME --env.corridor-len 40 # with other options of the environment

Loads the newest whole checkpoint and plays fresh episodes with the mode of the policy and frozen statistics. With
c_t the core's carry before the observation of step t, and T the last step of the median episode:

* Delay: return and success when the cue lies further back than it did in training. Needs an environment with such
  an option (corridor_len of the T-Mazes, memory_length of MemoryChain).
* Interventions, each at one step t of episodes that are otherwise the same, draws of the environment included:
    zeroed      c_t is cleared as the core itself clears it at an episode's start: AReLiT's phase, a clock that
                starts do not touch, runs on; GTrXL's count of steps in memory becomes 0.
    frozen      every step from t on starts from c_t: what a step writes is dropped. AReLiT's phase runs on here
                too, for a memory that stands still is asked for, not a clock; GTrXL's counters belong to its
                memory and are frozen with it.
    exchanged   c_t is that of another environment at its step t, all of it. Where a cue is known, also apart by
                whether the giver's cue was the same or the other one.
* Probe: a linear readout of c_t, fitted to one half of the episodes and scored on the other. It reads off the cue
  (accuracy; T-Mazes, MemoryChain), elsewhere what varies in the first observation (R^2).
* Gradient of the action at T with respect to the observation at t: Frobenius norm of the Jacobian of the policy's
  mean, or, for discrete actions, of the log-odds of the likeliest, which do not fade as the policy becomes sure. A
  trainer of Q values has no such odds: there it is that of the lead of the best Q value over the second best.

Episodes that end before a step have no part in what is said of it. A longer corridor is also a longer walk: where
success is lost because the agent does not arrive, episodes run into the time limit, which the page shows apart.
"""

# Before JAX, of whose variables it says which are unusable.
from algos import harness  # isort: skip  # noqa: F401

import argparse
import functools
import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import envs
from algos.harness import BadInput, OneLineParser, evaluation, exit_codes, load_run, loop, pictures, user_path
from algos.harness.errors import check_output, writing
from algos.harness.statistics import mean_and_interval

# Sets the keys apart from those of training and of scripts/evaluate.py.
FRESH = 0x64696167
UNDISTURBED, ZEROED, FROZEN, EXCHANGED = range(4)
INTERVENTIONS = {"zeroed": ZEROED, "frozen": FROZEN, "exchanged": EXCHANGED}
NEVER = np.int32(2**31 - 1)
MAX_POINTS = 24  # steps at which interventions and probes are made
MAX_SEGMENT = 256  # steps that the gradient reaches back
GRADIENT_EPISODES = 32
DELAY_OPTIONS = ("corridor_len", "memory_length")
DELAY_FACTORS = (0.5, 1, 1.5, 2, 3, 4, 8)
CLOCKS = ("phase",)  # entries of a carry that tell the time and nothing of what was seen
CUES = ("cue", "context")  # fields of environment states that hold what must be remembered
MAX_COMPONENTS = 8  # of the first observation, for the probe
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#7f7f7f")
# Interventions may have the same effect: markers of several sizes keep lines visible that lie on one another.
LOOKS = tuple(zip(COLORS, ("o-", "s-", "^-", "v--", "d--"), (8, 6, 4, 6, 4), strict=False))


class Played(NamedTuple):
    """What `play` returns of B episodes, played to their end or up to a step `until`.

    Attributes:
        report: return, length, terminated (1 where it ended otherwise than by the time limit) and what else the
            environment reports, each [B].
        carry: the core's carry before the observation of step `until`, leaves [B, ...].
        running: whether the episode had not ended by then, bool [B].
        cue: what must be remembered, [B]; None where it is not known.
        first_obs: [B, ...].
    """

    report: dict[str, jax.Array]
    carry: Any
    running: jax.Array
    cue: jax.Array | None
    first_obs: jax.Array


def cue_of(env_state: Any) -> jax.Array | None:
    """The cue in environment states of B episodes as integers [B], None where there is none or more than one."""
    for name in CUES:
        if hasattr(env_state, name):
            cue = jnp.asarray(getattr(env_state, name))
            return cue.reshape(-1) if cue.size == len(cue) else None
    return None


def held(carry: Any, written: Any) -> Any:
    """The carry as it was, but for clocks, which are as after the step."""

    def choose(path, old, new):
        return new if path and getattr(path[-1], "name", None) in CLOCKS else old

    return jax.tree_util.tree_map_with_path(choose, carry, written)


def make_play(trainer: Any, episodes: int, delay_option: str | None) -> Callable[..., Played]:
    """The function that plays B episodes, compiled once for all interventions and delays.

    Args:
        trainer: the Trainer.
        episodes: B.
        delay_option: the field of env_params that `delay` sets; None if there is none.

    Returns:
        play(state, key, kind, at, donor [B], until, delay) -> Played. `kind` is what is done to the carry before
        the observation of step `at`; for EXCHANGED, environment b takes that of donor[b]. With the same key,
        episodes differ by what is done to them only.
    """

    @jax.jit
    def compiled(state, key, kind, at, donor, until, delay):
        env_params = trainer.env_params.replace(**{delay_option: delay}) if delay_option else trainer.env_params

        def step(timed):
            t, playing = timed
            exchange = (kind == EXCHANGED) & (t == at)
            carry = jax.lax.cond(
                exchange, lambda c: jax.tree.map(lambda x: x[donor], c), lambda c: c, playing.carry
            )
            playing = playing.replace(carry=carry, reset=playing.reset | ((kind == ZEROED) & (t == at)))
            after = evaluation.step(trainer, state, playing, loop.DETERMINISTIC, env_params)
            hold = (kind == FROZEN) & (t >= at)
            carry = jax.lax.cond(hold, held, lambda old, new: new, carry, after.carry)
            return t + 1, after.replace(carry=carry)

        def goes_on(timed):
            t, playing = timed
            return (t < until) & ~playing.done.all()

        first = evaluation.begin(trainer, key, episodes, env_params)
        _, end = jax.lax.while_loop(goes_on, step, (jnp.int32(0), first))
        report = {name.removeprefix("episode_"): values for name, values in end.report.items()}
        report["terminated"] = end.terminated.astype(jnp.float32)
        return Played(report, end.carry, ~end.done, cue_of(first.env_state), first.obs)

    trained = getattr(trainer.env_params, delay_option) if delay_option else 0
    nobody = np.arange(episodes)

    def play(state, key, kind=UNDISTURBED, at=NEVER, donor=nobody, until=NEVER, delay=trained) -> Played:
        # Always the same types, or it would be compiled again.
        return compiled(state, key, *(np.asarray(x, np.int32) for x in (kind, at, donor, until, delay)))

    return play


def make_gradient(trainer: Any, episodes: int, num_steps: int, obs_scale: float) -> Callable:
    """The function that plays the first steps of B episodes and differentiates the action in the last of them.

    Args:
        trainer: the Trainer.
        episodes: B.
        num_steps: T + 1, steps played.
        obs_scale: what the policy divides integer observations by; the gradient is with respect to the quotient.

    Returns:
        gradient(state, key) -> (norms [num_steps, B], whether the episode has that last step bool [B]).
    """

    @jax.jit
    def gradient(state, key):
        def step(playing, _):
            after = evaluation.step(trainer, state, playing, loop.DETERMINISTIC)
            return after, (playing.obs, playing.reset, playing.done)

        start = evaluation.begin(trainer, key, episodes)
        _, (obs, reset, done) = jax.lax.scan(step, start, length=num_steps)  # [T, B, ...]

        def action(obs):  # -> [B, entries]
            _, distribution, _ = trainer.forward(state, start.carry, obs, reset)
            if hasattr(distribution, "preferences"):  # Q values
                best, second = jnp.moveaxis(jax.lax.top_k(distribution.preferences[-1], 2)[0], -1, 0)
                return (best - second)[:, None]
            if not hasattr(distribution, "logits"):
                return distribution.mode()[-1]
            logits = distribution.logits[-1]
            chosen = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=bool)
            others = jnp.where(chosen, -jnp.inf, logits)
            return logits.max(-1, keepdims=True) - jax.nn.logsumexp(others, axis=-1, keepdims=True)

        values, pullback = jax.vjp(action, obs.astype(jnp.float32) / obs_scale)  # no gradient enters integers

        def squares(entry):  # of the gradient of one entry of the action: [T, B]
            (by_obs,) = pullback(jnp.broadcast_to(entry, values.shape))
            return jnp.square(by_obs).reshape(num_steps, episodes, -1).sum(-1)

        return jnp.sqrt(jax.lax.map(squares, jnp.eye(values.shape[1])).sum(0)), ~done[-1]

    return gradient


def diagnose(
    run_dir: str | Path, seed: int | None = None, episodes: int = 256, env_flags: Sequence[str] = ()
) -> dict:
    """The page's numbers, as they are written to JSON; a value that does not exist is None.

    Args:
        run_dir: a run directory with a checkpoint.
        seed: which of the run's seeds; None: its first.
        episodes: fresh episodes of every measurement.
        env_flags: other options of the environment, as --env.<option> flags.

    Raises:
        BadInput: the directory holds no run that can be played here, or not this seed.
    """
    loaded = load_run(run_dir, lambda line: print(line, file=sys.stderr), env_flags)
    config, trainer = loaded.config, loaded.trainer
    if trainer.lives_on_host:
        raise BadInput(f"env.id={config.env['id']!r}: must be an environment in JAX, to play hundreds at once")
    seed, state = loaded.of_seed(seed)
    state = jax.device_put(state)
    key = jax.random.fold_in(jax.random.key(seed), FRESH)

    option = next((name for name in DELAY_OPTIONS if name in envs.options(config.env["id"])), None)
    play = functools.partial(make_play(trainer, episodes, option), state, key)
    undisturbed = jax.device_get(play())
    last = int(np.median(undisturbed.report["length"])) - 1  # T
    steps = np.unique(np.linspace(1, last, min(MAX_POINTS, last)).round().astype(int)) if last > 0 else []
    result = {
        "run_dir": str(run_dir),
        "algo": loaded.algo,
        "env": config.env,
        "core": config.core,
        "seed": seed,
        "env_steps": loaded.update * config.num_envs * config.num_steps,
        "episodes": episodes,
        "undisturbed": {name: mean_and_interval(values) for name, values in undisturbed.report.items()},
        "delay": _delay(config, trainer, play, option),
    }
    if not len(steps):
        skipped = {"skipped": "the median episode has a single step: there is nothing to remember"}
        return result | dict.fromkeys(("interventions", "probe", "gradient"), skipped)
    # Bytes that no statistics normalise are scaled by the encoder of images.
    image = undisturbed.first_obs.dtype == np.uint8 and undisturbed.first_obs.ndim == 4
    obs_scale = 255.0 if image and not config.normalize_observations else 1.0
    gradient = make_gradient(trainer, min(episodes, GRADIENT_EPISODES), min(last + 1, MAX_SEGMENT), obs_scale)
    return result | {
        "interventions": _interventions(play, undisturbed, steps),
        "probe": _probe(play, undisturbed, steps),
        "gradient": _gradient(*jax.device_get(gradient(state, key))),
    }


def _delay(config: Any, trainer: Any, play: Callable, option: str | None) -> dict:
    """What undisturbed episodes are worth by the delay between the cue and its use."""
    if option is None:
        return {"skipped": f"{config.env['id']} has no option for the delay"}
    trained = int(getattr(trainer.env_params, option))
    points = []
    options, refused = {name: value for name, value in config.env.items() if name != "id"}, []
    for delay in sorted({max(1, round(trained * factor)) for factor in DELAY_FACTORS}):
        try:  # the environment knows its limits
            envs.make(config.env["id"], **options | {option: delay})
        except ValueError as error:
            refused.append(str(error))
            continue
        report = jax.device_get(play(delay=delay).report)
        points.append({option: delay} | {name: mean_and_interval(values) for name, values in report.items()})
    return {"option": option, "trained": trained, "points": points, "refused": refused}


def _interventions(play: Callable, undisturbed: Played, steps: np.ndarray) -> dict:
    """What touching the carry before step t costs, each episode against the same one left alone."""
    lengths, cue = undisturbed.report["length"], undisturbed.cue
    result = {name: [] for name in INTERVENTIONS}
    for t in steps:
        reach = np.flatnonzero(lengths > t)
        donor = np.arange(len(lengths))
        donor[reach] = np.roll(reach, 1)
        for name, kind in INTERVENTIONS.items():
            report = jax.device_get(play(kind=kind, at=t, donor=donor).report)
            groups = {name: reach}
            if kind == EXCHANGED and cue is not None:
                same = cue[donor] == cue
                groups |= {"exchanged, same cue": reach[same[reach]], "exchanged, other cue": reach[~same[reach]]}
            for group, chosen in groups.items():
                point = {"t": int(t), "episodes": len(chosen)}
                for measure, values in report.items():
                    before = undisturbed.report[measure][chosen]
                    point[measure] = mean_and_interval(values[chosen])
                    point[f"{measure}_cost"] = mean_and_interval(before - values[chosen])
                result.setdefault(group, []).append(point)
    return result


def _probe(play: Callable, undisturbed: Played, steps: np.ndarray) -> dict:
    """How well a linear readout of the carry before step t tells the cue, or the first observation."""
    if undisturbed.cue is not None:
        classes, label = np.unique(undisturbed.cue, return_inverse=True)
        target, what, measure = np.eye(len(classes))[label], "the cue", "accuracy"
    else:
        target, what, measure = _components(undisturbed.first_obs), "what varies in the first observation", "R^2"
    if target.shape[1] < 1 + (measure == "accuracy"):
        return {"skipped": f"{what} is the same in all episodes: there is nothing to read off"}
    result = {"target": what, "measure": measure, "points": []}
    for t in steps:
        played = play(until=t)
        running = np.flatnonzero(played.running)
        leaves = [x.reshape(len(x), -1) for x in jax.device_get(jax.tree.leaves(played.carry))]
        leaves = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.floating)]
        inputs = np.concatenate([np.zeros((len(target), 0)), *leaves], axis=1)  # [B, D], D = 0 without a memory
        fit, test = running[: len(running) // 2], running[len(running) // 2 :]
        predicted, constant = ridge(inputs[fit], target[fit], inputs[test])
        if measure == "accuracy":
            right = target[test].argmax(1)
            score, chance = (np.mean(x.argmax(-1) == right) for x in (predicted, constant))
        else:
            score = 1 - np.sum((target[test] - predicted) ** 2) / np.sum((target[test] - constant) ** 2)
            chance = 0.0
        point = {"t": int(t), "episodes": len(running), "carry_size": inputs.shape[1]}
        result["points"].append(point | {"score": float(score), "chance": float(chance)})
    return result


def ridge(inputs: np.ndarray, targets: np.ndarray, new_inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression, its penalty chosen by the leave-one-out error.

    Inputs are standardised; those that do not vary are left out. Solved among the N examples, because a carry has
    often many more entries D (Hastie, Tibshirani and Friedman, 2009, sec. 18.3.5).

    Args:
        inputs: [N, D].
        targets: [N, K].
        new_inputs: [M, D].

    Returns:
        (predictions [M, K], the prediction without inputs [K]).
    """
    constant = targets.mean(0)
    mean, std = inputs.mean(0, dtype=float), inputs.std(0, dtype=float)
    varies = std > 1e-6 * np.abs(inputs).max(0, initial=0)
    if not varies.any():
        return np.broadcast_to(constant, (len(new_inputs), len(constant))), constant
    x, new_x = ((each[:, varies] - mean[varies]) / std[varies] for each in (inputs, new_inputs))
    new_x = np.clip(new_x, x.min(0), x.max(0))  # one entry far outside of what was fitted would decide alone
    eigenvalues, vectors = np.linalg.eigh(x @ x.T)
    rotated = vectors.T @ (targets - constant)
    best = None
    for penalty in eigenvalues[-1] * np.logspace(-7, 1, 9):
        shrink = np.maximum(eigenvalues, 0) / (np.maximum(eigenvalues, 0) + penalty)
        leverage = np.einsum("nk,k,nk->n", vectors, shrink, vectors) + 1 / len(x)
        residual = targets - constant - vectors @ (shrink[:, None] * rotated)
        error = np.square(residual / (1 - leverage)[:, None]).sum()
        if best is None or error < best[0]:
            best = error, penalty
    weights = vectors @ (rotated / (np.maximum(eigenvalues, 0) + best[1])[:, None])
    return new_x @ (x.T @ weights) + constant, constant


def _components(obs: np.ndarray) -> np.ndarray:
    """The leading principal components [B, at most MAX_COMPONENTS] of what varies in observations [B, ...]."""
    obs = obs.reshape(len(obs), -1).astype(float)
    obs = obs[:, obs.std(0) > 1e-6 * np.abs(obs).max(0, initial=0)]
    if not obs.shape[1]:
        return obs
    obs = (obs - obs.mean(0)) / obs.std(0)
    left, values, _ = np.linalg.svd(obs, full_matrices=False)
    kept = min(MAX_COMPONENTS, int(np.sum(values > 1e-6 * values[0])))
    return (left * values)[:, :kept]


def _gradient(norms: np.ndarray, reach: np.ndarray) -> dict:
    """The gradient of the action at T by the observation at t = 0 .. T, from norms [T + 1, B]."""
    quartiles = np.quantile(norms[:, reach].astype(float), (0.25, 0.5, 0.75), axis=1)
    points = [
        {"t": t, "median": m, "quartiles": [low, high]} for t, (low, m, high) in enumerate(quartiles.T.tolist())
    ]
    return {"at": len(norms) - 1, "episodes": int(reach.sum()), "points": points}


# --------------------------------------------------------------------------------------------------------------
# Page


def draw(result: dict, output: Path) -> None:
    """One page of figures of what `diagnose` returns.

    Raises:
        RunError: the picture cannot be written.
    """
    with pictures.own_settings():
        _draw(result, output)


def _draw(result: dict, output: Path) -> None:
    figure = pictures.new_figure(12, 6.6)
    panels = figure.subplots(2, 3)
    options = [f"{name} {value}" for name, value in result["env"].items() if name in DELAY_OPTIONS]
    title = [result["env"]["id"], *options, result["core"]["name"], result["algo"]]
    counts = f"seed {result['seed']}, {result['env_steps']:,} environment steps, {result['episodes']} episodes"
    figure.suptitle(f"{', '.join(title)}; {counts}; bands: 95 % confidence, if not named", fontsize=11)
    measure = "success" if "success" in result["undisturbed"] else "return"

    axes = _panel(panels[0, 0], "Delay", result["delay"])
    if axes:
        option, points = result["delay"]["option"], result["delay"]["points"]
        _line(axes, [(point[option], point[measure]) for point in points], COLORS[0], label=measure)
        if measure == "success":
            ended = [(point[option], point["terminated"]) for point in points]
            _line(axes, ended, COLORS[5], "o--", label="ended before the time limit")
            axes.set_ylim(-0.03, 1.03)
        axes.axvline(result["delay"]["trained"], color="0.5", linestyle=":", label="as trained")
        axes.set(xlabel=option, ylabel=f"{measure}, undisturbed")
        axes.legend(fontsize=8)

    for place, name, label in ((panels[0, 1], measure, measure), (panels[0, 2], "return_cost", "return lost")):
        axes = _panel(place, "Intervention on the memory at step t", result["interventions"])
        if axes:
            for (kind, points), look in zip(result["interventions"].items(), LOOKS, strict=False):
                _line(axes, [(point["t"], point[name]) for point in points], *look, label=kind)
            # The same episodes without the intervention: those that last until t.
            at, after, cost = ([point[x] for point in result["interventions"]["zeroed"]]
                               for x in ("t", measure, f"{measure}_cost"))  # fmt: skip
            before = [a["mean"] + c["mean"] if name == measure else 0 for a, c in zip(after, cost, strict=True)]
            axes.plot(at, before, ":", color="0.5", label="no intervention")
            axes.set(xlabel="t", ylabel=f"{label} of the whole episode")
            if name == measure == "success":
                axes.set_ylim(-0.03, 1.03)
    if "skipped" not in result["interventions"]:
        figure.legend(*panels[0, 1].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=9,
                      title="memory at step t", frameon=False)  # fmt: skip

    axes = _panel(panels[1, 0], "Linear probe of the memory before step t", result["probe"])
    if axes:
        points = result["probe"]["points"]
        at, score, chance = ([point[name] for point in points] for name in ("t", "score", "chance"))
        size = f"memory of {points[0]['carry_size']:,} numbers"
        axes.plot(at, score, "o-", color=COLORS[0], markersize=3, label=size)
        axes.plot(at, chance, ":", color="0.5", label="without it")
        label = f"{result['probe']['measure']} of {result['probe']['target']}"
        axes.set(xlabel="t", ylabel=textwrap.fill(label, 28))
        axes.set_ylim(np.clip(min(score), -1, 0) - 0.03, 1.03)
        axes.legend(fontsize=8)

    axes = _panel(panels[1, 1], "Gradient of the action at T by the observation at t", result["gradient"])
    if axes:
        points = [(point["t"], point["median"], point["quartiles"]) for point in result["gradient"]["points"]]
        points = [(t, {"mean": median, "interval": quartiles}) for t, median, quartiles in points]
        _line(axes, points, COLORS[0], label=f"T = {result['gradient']['at']}")
        norms = np.array([norm["mean"] for _, norm in points])
        if norms[:-1].any():  # rounding and clipping leave zeros that say no more than the smallest norms
            axes.set_yscale("log", nonpositive="clip")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("")
            axes.set_ylim(max(norms[norms > 0].min() / 3, norms.max() * 1e-8), norms.max() * 3)
        axes.set(xlabel="t", ylabel="norm, median and quartiles")
        axes.legend(fontsize=8)

    panels[1, 2].axis("off")
    text = "\n".join(textwrap.fill(line, 62, subsequent_indent="    ") for line in summary(result))
    panels[1, 2].text(0, 1, text, va="top", fontsize=9)
    with writing(output):
        figure.savefig(output, dpi=130)


def _panel(axes: Any, title: str, section: dict) -> Any:
    """The axes with their title; None, and the reason in words, where there is nothing to draw."""
    axes.set_title(title, fontsize=10)
    if "skipped" not in section:
        axes.grid(alpha=0.25)
        return axes
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, textwrap.fill(section["skipped"], 36), ha="center", va="center", transform=axes.transAxes)
    return None


def _line(axes: Any, points: list, color: str, style: str = "o-", size: int = 3, *, label: str) -> None:
    """A line of (x, {mean, interval}) with its band."""
    points = [(x, each) for x, each in points if each["mean"] is not None]
    x = [x for x, _ in points]
    mean = [each["mean"] for _, each in points]
    low, high = np.array([each["interval"] or (each["mean"],) * 2 for _, each in points]).reshape(-1, 2).T
    axes.plot(x, mean, style, color=color, markersize=size, markerfacecolor="none", label=label)
    axes.fill_between(x, low, high, color=color, alpha=0.12, linewidth=0)


def summary(result: dict) -> list[str]:
    """The page in a few lines."""
    measure = "success" if "success" in result["undisturbed"] else "return"
    lines = [f"undisturbed: {measure} {_text(result['undisturbed'][measure])}"]
    if "skipped" in result["delay"]:
        lines.append(f"delay: skipped, {result['delay']['skipped']}")
    else:
        option = result["delay"]["option"]
        values = [f"{point[option]}: {point[measure]['mean']:.2f}" for point in result["delay"]["points"]]
        lines.append(f"{measure} by {option} (trained: {result['delay']['trained']}): {', '.join(values)}")
        if refused := result["delay"]["refused"]:
            lines.append(f"left out: {refused[0]}")
    if "skipped" in result["interventions"]:
        return [*lines, f"memory: skipped, {result['interventions']['skipped']}"]
    for name, points in result["interventions"].items():
        worst = max(points, key=lambda point: point["return_cost"]["mean"] or 0)
        ends = f"{measure} {_text(points[-1][measure])} if at t = {points[-1]['t']}"
        lines.append(f"{name}: {ends}; return lost {_text(worst['return_cost'])} at most (t = {worst['t']})")
    probe = result["probe"]
    if "skipped" in probe:
        lines.append(f"probe: skipped, {probe['skipped']}")
    else:
        first, last = probe["points"][0], probe["points"][-1]
        scores = f"{first['score']:.3f} at t = {first['t']}, {last['score']:.3f} at t = {last['t']}"
        scores += f" (without memory {last['chance']:.3f})"
        lines.append(f"probe, {probe['measure']} of {probe['target']}: {scores}")
    norms = [point["median"] for point in result["gradient"]["points"]]
    largest = int(np.argmax(norms[:-1]))
    lines.append(f"gradient of the action at T = {len(norms) - 1}, norm by observation: {norms[-1]:.3g} at t = T, "
                 f"{norms[0]:.3g} at t = 0; largest before T: {norms[largest]:.3g} at t = {largest}")  # fmt: skip
    return lines


def _text(values: dict) -> str:
    mean, interval = values["mean"], values["interval"]
    if mean is None:
        return "of no episode"
    return f"{mean:.3g}" + (f" [{interval[0]:.3g}, {interval[1]:.3g}]" if interval else "")


def main() -> None:
    parser = OneLineParser(
        prog="scripts/diagnose.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run_dir", type=user_path, help="run directory of a trainer")
    parser.add_argument("--seed", type=int, help="which of the run's seeds (default: its first)")
    parser.add_argument("--episodes", type=int, default=256, help="of every measurement (default: 256)")
    parser.add_argument("--output", type=user_path, help="the page, .png; the numbers go beside it as .json "
                        "(default: RUN_DIR/diagnosis.png)")  # fmt: skip
    with exit_codes():
        args, flags = parser.parse_known_args()
        if not 16 <= args.episodes <= 2**16:
            raise BadInput(f"episodes={args.episodes}: must be from 16 to 2^16")
        output = args.output or Path(args.run_dir) / "diagnosis.png"
        if output.suffix != ".png":
            raise BadInput(f"output={str(output)!r}: must end in .png")
        if args.output:
            check_output(output)
        result = diagnose(args.run_dir, args.seed, args.episodes, flags)
        numbers = output.with_suffix(".json")
        with writing(numbers):
            numbers.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        draw(result, output)
        print(*summary(result), f"written: {output}, {numbers}", sep="\n")


if __name__ == "__main__":
    main()
