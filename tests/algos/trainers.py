"""The trainers in one table, and small runs of them that several tests look at.

What a case builds is cached for the file that asks for it: most of the time of these tests goes into compiling.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any, NamedTuple

import jax
import pytest

import algos
import networks
from algos import a2c_arelit, ppo_arelit, ppo_arelit_continuous, pqn_arelit
from tests.algos.toy import Toy, environment_is
from tests.marks import slow_if, stands_for_others


@dataclass(frozen=True)
class Case:
    """A trainer and the kind of actions it is tested with."""

    name: str
    module: ModuleType
    num_actions: int  # 0: continuous

    @property
    def has_minibatches(self) -> bool:
        return "sequence_length" in self.field_names

    @property
    def field_names(self) -> list[str]:
        return [field.name for field in fields(self.module.Config)]

    @property
    def env_id(self) -> str:
        """A small real environment with this kind of actions."""
        return "gymnax/CartPole-v1" if self.num_actions else "gymnax/Pendulum-v1"


CASES = {
    case.name: case
    for case in (
        Case("ppo_continuous", ppo_arelit_continuous, 0),
        Case("ppo_discrete", ppo_arelit, 3),
        Case("a2c_discrete", a2c_arelit, 3),
        Case("a2c_continuous", a2c_arelit, 0),
        Case("pqn", pqn_arelit, 3),
    )
}
MODULES = algos.TRAINERS


def cases(*names: str, slow: Sequence[str] = ()):
    """Parametrise a test over these cases, those of `slow` in the slow tests only.

    None given: over all, for what does not depend on the kind of actions; PPO and A2C each with one kind in every
    test run, PQN, which shares their code, in the slow tests.
    """
    if not names:
        names, slow = tuple(CASES), ("ppo_discrete", "a2c_continuous", "pqn")
    values = [pytest.param(CASES[n], id=n, marks=slow_if(n in slow)) for n in names]
    return pytest.mark.parametrize("case", values)


def cases_and_cores(*names: str):
    """Parametrise a test over these cases: the first with every core, the others with one of each kind of memory,
    of which AReLiT is in every test run.

    How a trainer hands a core its memory and resets does not depend on which core it is.
    """
    triples = [(names[0], core, not stands_for_others(core)) for core in networks.CORES]
    triples += [(name, core, core != "arelit") for name in names[1:] for core in ("arelit", "gtrxl", "gru")]
    values = [pytest.param(CASES[n], core, id=f"{n}-{core}", marks=slow_if(slow)) for n, core, slow in triples]
    return pytest.mark.parametrize(("case", "core"), values)


def small_core(name: str) -> dict[str, Any]:
    """Small hyperparameters of any registered core."""
    sizes = {key: value for key, value in networks.hyperparameters(name).items() if type(value) is int}
    named = {"n_layers": 1, "d_model": 16}
    return {"name": name} | {key: named.get(key, min(value, 4)) for key, value in sizes.items()}


def small_config(module: ModuleType, **settings: Any):
    """A Config small enough to compile and run in a second, without what only other trainers have."""
    defaults = dict(
        num_envs=4,
        num_steps=16,
        total_timesteps=4 * 16 * 3,
        eval_episodes=3,
        actor_hidden=16,
        critic_hidden=16,
        q_hidden=16,
        core=small_core("feedforward"),
        normalize_observations=True,
        normalize_rewards=True,
        sequence_length=8,
        num_minibatches=2,
        update_epochs=2,
    )
    has, others = field_names(module), set().union(*map(field_names, MODULES.values()))
    # A name that no trainer has is an error.
    settings = {name: value for name, value in (defaults | settings).items() if name in has or name not in others}
    return module.Config(**settings)


def field_names(module: ModuleType) -> set[str]:
    return {field.name for field in fields(module.Config)}


class Built(NamedTuple):
    """A trainer with its functions compiled on first use."""

    trainer: Any
    init: Any
    update: Any
    collect: Any  # (state, key) -> (state, transitions, last value)
    evaluate: Any
    act: Any
    train: Any


def compiled(trainer) -> Built:
    def collect(state, key):
        state, rollout = trainer.collect(state, key)
        return state, rollout.transitions, rollout.last_value

    return Built(
        trainer=trainer,
        init=jax.jit(trainer.init),
        update=jax.jit(trainer.update),
        collect=jax.jit(collect),
        evaluate=jax.jit(trainer.evaluate, static_argnums=2),
        act=jax.jit(trainer.act),
        train=jax.jit(trainer.train),
    )


@functools.cache
def on_toy(
    case: Case, reward: float | str = "action", max_steps=10, termination=0.0, core="feedforward", **settings
) -> Built:
    """The case's trainer on a Toy."""
    with environment_is(
        Toy(reward, num_actions=case.num_actions), max_steps_in_episode=max_steps, termination=termination
    ):
        return compiled(case.module.make_train(small_config(case.module, core=small_core(core), **settings)))


@functools.cache
def trained(case: Case, **settings):
    """(built, state, metrics) after the whole run from seed 0."""
    built = on_toy(case, **settings)
    return built, *built.train(jax.random.key(0))


def leaves(state) -> list[jax.Array]:
    """The arrays of a state, its key as plain numbers."""
    return jax.tree.leaves(state.replace(key=jax.random.key_data(state.key)))


def set_last_layers(params: Any, head: str, **biases: Any) -> Any:
    """params in which these outputs of a head are constants: the last kernel is 0, the bias as given."""
    params = jax.tree.map(lambda x: x, params)  # copies the dictionaries, not the arrays
    for name, bias in biases.items():
        layer = params["params"][head][name]["Dense_1"]
        layer["kernel"] = 0 * layer["kernel"]
        layer["bias"] = 0 * layer["bias"] + bias
    return params
