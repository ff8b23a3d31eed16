"""What gymnax imports to draw with is loaded when it is used, and is then the module itself."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
from algos import harness
import gymnax
assert "scipy.stats" not in sys.modules and "pandas" not in sys.modules
import matplotlib.pyplot as plt, seaborn as sns
assert callable(plt.subplots) and callable(sns.lineplot) and "scipy.stats" in sys.modules
from matplotlib.pyplot import figure
from seaborn.utils import despine
assert figure is plt.figure and sys.modules["seaborn"].utils.despine is despine
"""


def test_drawing_is_loaded_when_it_is_used():
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, check=True)
