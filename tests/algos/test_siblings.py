"""Trainers are siblings: what is the same step of the method in several of them is the same code.

Each file is read on its own, so the code stands in each; that it does not drift apart is tested here.
"""

import ast
import inspect
import itertools

import pytest

import algos
from algos import ppo_arelit, ppo_arelit_continuous, pqn_arelit

PPO = (ppo_arelit, ppo_arelit_continuous)
EVERYWHERE = tuple(algos.TRAINERS.values())
# Functions by their place, and the trainers in which they are equal.
SAME = {
    "Config.num_updates": EVERYWHERE,
    "make_train.normalize": EVERYWHERE,
    "make_train.init": EVERYWHERE,
    "make_train.collect": PPO,
    "make_train.collect.sequence": (*PPO, pqn_arelit),
    "make_train.learn.to_sequences": (*PPO, pqn_arelit),
    "make_train.collect.policy": EVERYWHERE,
    "make_train.collect.step.value_of_final_obs": EVERYWHERE,
    "make_train.update_statistics": EVERYWHERE,
    "make_train.advantages": EVERYWHERE,
    "make_train.loss": PPO,
    "make_train.learn": PPO,
    "make_train.update": (*PPO, pqn_arelit),
    "make_train.train": EVERYWHERE,
    "make_train.forward": EVERYWHERE,
    "make_train.act": EVERYWHERE,
    "Config.__post_init__": PPO,
}


def functions(module) -> dict[str, str]:
    """Every function and method of a module by its place, as a syntax tree without docstrings."""
    found = {}

    def visit(node, place):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                visit(child, (*place, child.name))
                if isinstance(child, ast.FunctionDef):
                    found[".".join((*place, child.name))] = ast.dump(without_docstrings(child))
            else:
                visit(child, place)

    visit(ast.parse(inspect.getsource(module)), ())
    return found


def without_docstrings(function: ast.FunctionDef) -> ast.FunctionDef:
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return function


@pytest.mark.parametrize("place", SAME)
def test_a_step_that_trainers_share_is_the_same_code(place):
    codes = {module.__name__: functions(module)[place] for module in SAME[place]}
    for (one, code), (other, its) in itertools.combinations(codes.items(), 2):
        assert code == its, f"{place} differs between {one} and {other}"


def sections(module) -> list[str]:
    """The headings between rules, in their order."""
    lines = inspect.getsource(module).splitlines()
    return [
        line.strip(" #")
        for rule, line in itertools.pairwise(lines)
        if rule.strip().startswith("# ---") and line.strip().startswith("# ")
    ]


def test_trainers_have_the_same_sections_in_the_same_order():
    named = [sections(module) for module in EVERYWHERE]
    assert all(each == named[0] for each in named), named
    assert named[0][:2] == ["Config", "Runner state"]
