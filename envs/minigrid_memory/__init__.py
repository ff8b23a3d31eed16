"""MiniGrid-Memory (minigrid 3.2.0): see an object, walk down a hallway, and turn to the other one like it.

Ids `MiniGrid-Memory{S7,S9,S11,S13,S13Random,S17Random}-v0`, after the side n of the grid; with Random the length
of the hallway is drawn too. Rules, rewards, views and pixels are those of minigrid 3.2.0.

    #######   n = 7. A start room with the cue k, a hallway to column h, a junction, an object above it and one
    #####b#   below. h = n - 3; with Random h is uniform from 4 to n - 3. The agent starts in the hallway's row,
    #k..#.#   uniformly from column 1 to h, and looks to the right: often with its back to the cue.
    #..>..#   The cue is a key k or a ball b; one of the two objects at the junction is a key and the other a ball.
    #...#.#   Both draws are fair.
    #####k#
    #######

Actions: 0 turn left, 1 turn right, 2 forward (into a wall or an object it stays); 3 to 6, the original's pickup,
drop, toggle and done, change nothing here and take their step. The junction's cells beside the two objects end
the episode: the one beside the cue's like pays 1 - 0.9 time / max_steps, the other one 0. `info` holds
`episode_success`, 1 where a step ends the episode at the right one. `time_limit` truncates sooner, as an outer
wrapper does, and leaves the reward alone.

Observations are uint8; with V = agent_view_size and t = tile_size:

    "symbolic"  [V, V, 3] = [i, j, (object, colour, state)], i from the agent's left to its right, j from far to
                near, the transpose of a picture. The agent is at (V // 2, V - 1), shown as an empty cell, and
                looks to j = 0. Walls block sight, objects do not. unseen (0, 0, 0), empty (1, 0, 0), wall
                (2, 5, 0), also beyond the grid, key (5, 1, 0), ball (6, 1, 0).
                The bytes are names, not brightnesses: `env.observation_categories` is (11, 6, 3), how many values
                each channel has, and `envs.one_hot` encodes them by it. It is None for frames.
    "frame"     [V t, V t, 3] = [row, column, rgb], the same view drawn, the agent pointing up.

Neither tells where the agent looks to. show_direction adds a fourth channel that is the direction everywhere
(0 right, 1 down, 2 left, 3 up; in frames times 85, so 0 to 255); `env.observation_categories` then is
(11, 6, 3, 4). The first three channels stay what they are.

What proves memory: with a view of 3 all six ids; with a view of 7 only S11 and S13. With the wide one the cue is
seen from the junction in S7 and S9, and with Random wherever h <= 6, so a policy of the current image alone looks
back until it likes what it sees. `envs.reference` has the numbers. Where the cue is not seen from the junction, no
policy without memory succeeds in more than half of the episodes.
"""

from typing import Any

from envs.checks import check_choice
from envs.minigrid_memory.environment import EnvParams, EnvState, MiniGridMemory

__all__ = ["IDS", "EnvParams", "EnvState", "MiniGridMemory", "make", "options", "reference"]

# Cells of the grid's side, and whether the hallway's length is drawn.
_WORLDS = {
    "S7": (7, False),
    "S9": (9, False),
    "S11": (11, False),
    "S13": (13, False),
    "S13Random": (13, True),
    "S17Random": (17, True),
}
IDS = tuple(f"MiniGrid-Memory{name}-v0" for name in _WORLDS)
_WIDEST_VIEW = 33  # cells; from everywhere in the largest grid it shows all
_LARGEST_FRAME = 512  # pixels
_ZERO_MEANS = {"max_steps": "5 times the grid's side squared", "time_limit": "none"}


def options(env_id: str) -> dict[str, Any]:
    """The original's arguments, an outer limit, and what is observed.

    observation: "symbolic" or "frame". agent_view_size: cells of the view's side, odd. tile_size: pixels of a cell
    in a frame. max_steps: the environment's own limit, by which the reward falls; 0: 5 n^2. time_limit: an outer
    one, which leaves the reward alone; 0: none. show_direction: whether a fourth channel tells it.
    """
    return {
        "observation": "symbolic",
        "agent_view_size": 7,
        "tile_size": 8,
        "max_steps": 0,
        "time_limit": 0,
        "show_direction": False,
    }


def make(env_id: str, **options: Any):
    """Builds a MiniGrid-Memory; see `envs.make`.

    Raises:
        ValueError: an option the environment cannot take.
    """
    check_choice("env.observation", options["observation"], ("symbolic", "frame"))
    view, tile = options["agent_view_size"], options["tile_size"]
    if view % 2 == 0 or not 3 <= view <= _WIDEST_VIEW:
        raise ValueError(f"env.agent_view_size={view}: must be odd and from 3 to {_WIDEST_VIEW}")
    largest = _LARGEST_FRAME // view
    if not 1 <= tile <= largest:
        raise ValueError(f"env.tile_size={tile}: must be from 1 to {largest} with agent_view_size={view}")
    for name, zero in _ZERO_MEANS.items():
        if options[name] < 0:
            raise ValueError(f"env.{name}={options[name]}: must be at least 0 (0: {zero})")
    size, random_hallway = _world(env_id)
    seen = {name: options[name] for name in ("observation", "agent_view_size", "tile_size", "show_direction")}
    env = MiniGridMemory(env_id, size, random_hallway, **seen)
    limit = options["max_steps"] or 5 * size**2
    return env, EnvParams(max_steps_in_episode=min(limit, options["time_limit"] or limit), max_steps=limit)


# Per id: random; by the view, without memory and with it. The optimum with memory succeeds always.
_RETURNS = {
    "S7": (0.161, {7: (0.899, 0.9780), 3: (0.4917, 0.9697)}),
    "S9": (0.181, {7: (0.922, 0.9841), 3: (0.4939, 0.9748)}),
    "S11": (0.192, {7: (0.4952, 0.9859), 3: (0.4952, 0.9786)}),
    "S13": (0.198, {7: (0.4960, 0.9875), 3: (0.4960, 0.9815)}),
    "S13Random": (0.238, {7: (0.689, 0.9907), 3: (0.4968, 0.9863)}),
    "S17Random": (0.268, {7: (0.623, 0.9932), 3: (0.4978, 0.9901)}),
}
_SUCCESS_BY_LOOKING_BACK = {"S7": 0.957, "S9": 0.966, "S13Random": 0.704, "S17Random": 0.631}  # view 7
_LONGEST = 96  # steps that no policy of the table but the random one comes to
_PUBLISHED = (
    "; BenchNetRL (tile_size 28, time_limit 96, 15 M steps, read off a plot): MLP, GRU, LSTM and Mamba 0.50, "
    "TrXL 0.87, GTrXL 0.93, Mamba-2 0.96"
)


def reference(env_id: str, **options: Any) -> dict[str, dict[str, Any] | None] | None:
    """Known returns with the default max_steps; see `envs.reference`.

    Random is known for every view without a time limit; the others for views of 7 and 3 and a time limit of 96 or
    none. None where none of them is known.
    """
    name, (size, _) = _name(env_id), _world(env_id)
    limit, view = 5 * size**2, options["agent_view_size"]
    if options["max_steps"] not in (0, limit):
        return None
    time_limit = options["time_limit"] or limit
    random, by_view = _RETURNS[name]
    known = dict.fromkeys(("random", "without_memory", "with_memory"))
    if time_limit >= limit:
        known["random"] = _known(random, "computed", "all seven actions")
    if view in by_view and time_limit >= _LONGEST:
        without, best = by_view[view]
        if view == 7 and name in _SUCCESS_BY_LOOKING_BACK:
            success = _SUCCESS_BY_LOOKING_BACK[name]
            note = f"at least; looks back until it sees a match, success {success}: this is no proof of memory"
            known["without_memory"] = _known(without, "measured", note)
        else:
            known["without_memory"] = _known(without, "computed", "success 0.5: straight on, then into one arm")
        note = "the best that always succeeds, all beliefs enumerated"
        published = _PUBLISHED if (name, view) == ("S11", 3) else ""
        known["with_memory"] = _known(best, "computed", note + published)
    return known if any(known.values()) else None


def _known(value: float, mark: str, note: str) -> dict[str, Any]:
    return {"value": value, "mark": mark, "note": note}


def _name(env_id: str) -> str:
    return env_id.removeprefix("MiniGrid-Memory").removesuffix("-v0")


def _world(env_id: str) -> tuple[int, bool]:
    return _WORLDS[_name(env_id)]
