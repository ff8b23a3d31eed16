"""The table of envs/README.md says what the environments and `envs.reference` say, of every task it should."""

import math
from pathlib import Path

import pytest

import envs

PAGE = Path(envs.__file__).with_name("README.md").read_text(encoding="utf-8")
CELLS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines()]
ROWS = {cells[0].strip("`"): cells for cells in CELLS if len(cells) == 9 and cells[0].startswith("`")}


def shown(value, mark):
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}") + f" {mark[0]}"


def size(space):
    if hasattr(space, "n"):
        return f"{space.n:,}"
    return " x ".join(map(str, space.shape))


def test_every_task_that_hides_something_has_a_row():
    """Brax's tasks and Mystery Path, of which little is known, stand in tables of their own."""

    def belongs(env_id):
        shows_all = env_id.startswith("gymnax/") and not env_id.endswith(("-P", "-V"))
        return not shows_all and not env_id.startswith(("brax/", "MysteryPath", "Endless"))

    assert set(ROWS) == {env_id for env_id in envs.ENV_IDS if belongs(env_id) and envs.reference(env_id)}


@pytest.mark.parametrize("env_id", ROWS)
def test_a_row_says_what_is_known(env_id):
    _, _, horizon, obs, actions, *returns, _ = ROWS[env_id]
    env, params = envs.make(env_id)
    known = envs.reference(env_id)
    assert horizon == f"{params.max_steps_in_episode:,}"
    assert obs == size(env.observation_space(params))
    space = env.action_space(params)
    assert actions == (size(space) if hasattr(space, "n") else f"{math.prod(space.shape)} float")
    expected = [known[name] for name in ("random", "without_memory", "with_memory")]
    assert returns == [shown(each["value"], each["mark"]) for each in expected]
