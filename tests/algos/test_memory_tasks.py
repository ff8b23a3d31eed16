"""Tasks that prove memory train in every trainer that takes their actions: one update each."""

import jax
import numpy as np
import pytest

import envs
from algos import a2c_arelit, ppo_arelit, ppo_arelit_continuous, pqn_arelit
from tests.algos.trainers import small_config
from tests.marks import slow_if

# One of a kind in every test run: symbols, frames, planes, floats, many actions, continuous actions.
REPRESENTATIVE = {
    "TMaze-Endless": {},
    "TMaze-Traces": {},
    "MiniGrid-MemoryS7-v0": {"agent_view_size": 3},
    "popgym/CountRecallHard": {},
    "rocksample": {"n": 5, "k": 5},
    "gymnax/Pendulum-v1-P": {},
}
FAMILIES = ("TMaze", "MiniGrid-", "popgym/", "rocksample", "battleship")
OTHERS = [each for each in envs.ENV_IDS if each.startswith(FAMILIES) and each not in REPRESENTATIVE]
OTHERS += [each for each in envs.ENV_IDS if each.startswith("gymnax/") and each[-2:] in ("-P", "-V")]
IDS = REPRESENTATIVE | {each: {} for each in OTHERS if each not in REPRESENTATIVE}


@pytest.mark.parametrize(
    "trainer", ["ppo", *(pytest.param(each, marks=pytest.mark.slow) for each in ("a2c", "pqn"))]
)
@pytest.mark.parametrize(
    "env_id", [pytest.param(each, marks=slow_if(each not in REPRESENTATIVE), id=each) for each in IDS]
)
def test_a_task_trains_one_update(env_id, trainer):
    env, params = envs.make(env_id, **IDS[env_id])
    discrete = hasattr(env.action_space(params), "n")
    ppo = ppo_arelit if discrete else ppo_arelit_continuous
    module = {"a2c": a2c_arelit, "ppo": ppo, "pqn": pqn_arelit}[trainer]
    if trainer == "pqn" and not discrete:
        pytest.skip("PQN takes discrete actions only")
    config = small_config(module, env={"id": env_id, **IDS[env_id]}, normalize_observations=False)
    built = module.make_train(config)
    state, metrics = jax.jit(lambda key: built.update(built.init(key)))(jax.random.key(0))
    assert state.update == 1 and metrics["grad_norm"] > 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
