"""The notebooks run from top to bottom on a small budget, and what is committed of them is clean."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.marks import slow_if

NOTEBOOKS = Path(__file__).parents[2] / "scripts/notebooks"
# In the order in which they are to be read.
NAMES = ("1_quickstart", "2_tmaze", "3_own_core", "4_own_env", "5_mystery_path", "6_costs")
# In every test run the one that needs no training; all of them among the slow.
FAST = ("5_mystery_path",)
MAX_PICTURE = 60_000


def read(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def outputs(notebook):
    """(cell, output) of every output."""
    return [(cell, each) for cell in notebook.cells for each in cell.get("outputs", [])]


def pictures(notebook):
    """Base64 texts of all pictures."""
    return [
        data for _, each in outputs(notebook) for kind, data in each.get("data", {}).items() if "image" in kind
    ]


def execute(name):
    """The notebook with the outputs of a run on two thousandths of its training steps."""
    notebook = read(name)
    environment = os.environ | {"NOTEBOOK_BUDGET": "0.002"}
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(NOTEBOOKS)}})
    return client.execute(env=environment)


def printed(notebook):
    """Texts of the cells tagged as fixed, which depend on committed results alone."""
    tables = [cell for cell in notebook.cells if "fixed" in cell.metadata.get("tags", [])]
    texts = []
    for cell in tables:
        # A stream may come in several pieces; the text of a picture is its size.
        texts.append("".join(each.text for each in cell.outputs if each.output_type == "stream"))
        texts += [each.data["text/plain"] for each in cell.outputs if "data" in each]
    return texts


@pytest.mark.parametrize("name", [pytest.param(name, marks=slow_if(name not in FAST)) for name in NAMES])
def test_a_notebook_runs_and_prints_the_committed_tables(name):
    executed = execute(name)
    assert not [each for _, each in outputs(executed) if each.output_type == "stream" and each.name == "stderr"]
    assert len(pictures(executed)) == len(pictures(read(name)))
    assert printed(executed) == printed(read(name))


def test_every_notebook_is_tested():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_committed_outputs_are_those_of_one_run_from_top_to_bottom(name):
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_committed_outputs_are_clean_and_small(name):
    notebook = read(name)
    for cell, each in outputs(notebook):
        assert each.output_type != "error", cell.source
        assert each.get("name") != "stderr", each
        text = each.text if each.output_type == "stream" else "".join(
            str(value) for kind, value in each.data.items() if kind.startswith("text")
        )  # fmt: skip
        for word in (r"/(tmp|home|root|work|Users|usr|mnt)/", r"site-packages", r"Warning"):
            assert not re.search(word, text), text
    assert all(len(each) * 3 // 4 < MAX_PICTURE for each in pictures(notebook))
    assert pictures(notebook) or name == "3_own_core"
