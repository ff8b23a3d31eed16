"""The run directory: config.yaml, metrics.csv, checkpoints/, curve.png, episode.gif.

config.yaml holds every field of the Config and `algo`, the trainer's module; comments above them hold the
command line, the commit, the versions and the hardware. It is read by yaml.safe_load: nothing in it can
execute code.
"""

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import shlex
import subprocess
import time
import types
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from algos.harness.errors import BadInput

NAME_KEYS = {"env": "id", "core": "name"}
"""The dictionaries of a Config, and which of their keys names the environment and the core."""

CONFIG = "config.yaml"
METRICS = "metrics.csv"
CHECKPOINTS = "checkpoints"
CURVE = "curve.png"
EPISODE = "episode.gif"


def default_path(config: Any, algo: str) -> Path:
    """runs/<algo>-<env>-<core>-s<seed>-<time>."""
    return timestamped(algo, config.env["id"], config.core["name"], f"s{config.seed}")


def timestamped(*names: str) -> Path:
    """runs/<names>-<time>; microseconds tell runs apart that one script starts."""
    now = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    return Path("runs") / "-".join((*names, now)).replace("/", "_")


def create(path: Path, config: Any, algo: str, command: list[str]) -> None:
    """Makes the directory of a new run and writes its config.yaml.

    Raises:
        BadInput: the directory cannot be written, or already holds a run.
    """
    held = [name for name in (CONFIG, METRICS, CHECKPOINTS) if os.path.lexists(path / name)]
    if held:
        raise BadInput(f"run_dir={str(path)!r}: already holds a run ({', '.join(held)}); choose another "
                       f"directory, or continue that run with --resume {shlex.quote(str(path))}")  # fmt: skip
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe_write(path)
        temporary = path / f".{CONFIG}.tmp"
        temporary.write_text(header(command) + dump_config(config, algo), encoding="utf-8")
        temporary.rename(path / CONFIG)
    except OSError as error:
        raise BadInput(_cannot_write(path, error)) from error


def release(path: Path) -> None:
    """Lets the directory of a new run that failed be used again, if the run had not written a row yet."""
    rows = path / METRICS
    if rows.exists() and rows.read_bytes().count(b"\n") > 1:
        return
    for file in (rows, path / CONFIG):
        file.unlink(missing_ok=True)


def probe_write(path: Path) -> None:
    """Writes a file into the directory and removes it; an OSError says why that is not possible."""
    probe = path / ".write_probe"
    try:
        with open(probe, "wb") as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
    finally:
        probe.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raises BadInput if the directory of an earlier run cannot be written."""
    try:
        probe_write(path)
    except OSError as error:
        raise BadInput(_cannot_write(path, error)) from error


def _cannot_write(path: Path, error: OSError) -> str:
    reason = error.strerror or error
    return f"run_dir={str(path)!r}: cannot be written ({reason}); must be a writable directory"


def dump_config(config: Any, algo: str) -> str:
    """YAML of every field of the Config, after `algo`, in the Config's order."""
    return yaml.safe_dump(
        {"algo": algo, **_plain(dataclasses.asdict(config))}, sort_keys=False, allow_unicode=True, width=1000
    )


def read_config(path: Path, field: str) -> dict[str, Any]:
    """The mapping in config.yaml, `algo` included; `field` is what to name in an error.

    Raises:
        BadInput: the directory holds no run, or its config.yaml cannot be read.
    """
    place = f"{field}={str(path)!r}"
    file = path / CONFIG
    if not file.is_file():
        raise BadInput(f"{place}: holds no run; must be a run directory, with a {CONFIG}")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    # Damaged text makes PyYAML raise nearly anything: ValueError, KeyError, RecursionError, ...
    except Exception as error:
        raise BadInput(f"{place}: {CONFIG} cannot be read: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("algo"), str):
        raise BadInput(f"{place}: {CONFIG} is no run's configuration: it lacks `algo`")
    for name, key in NAME_KEYS.items():
        entry = values.get(name)
        if not isinstance(entry, dict) or not isinstance(entry.get(key), str):
            raise BadInput(f"{place}: {CONFIG} is no run's configuration: it lacks {name}.{key}")
    for each in [values, *(values[name] for name in NAME_KEYS)]:
        if others := [key for key in each if not isinstance(key, str)]:
            raise BadInput(f"{place}: {CONFIG} is no run's configuration: {others[0]!r} is no name of a field")
    return values


def load_config(path: Path, Config: type, algo: str, field: str = "resume") -> Any:
    """The Config of the run in `path`.

    Raises:
        BadInput: as read_config; or the run is another trainer's, or a field is unknown, missing, of the
            wrong type or out of range.
    """
    values = read_config(path, field)
    place = f"{field}={str(path)!r}"
    if (found := values.pop("algo")) != algo:
        raise BadInput(f"{place}: is a run of algos/{found}.py, not of algos/{algo}.py")
    defaults = {each.name: each for each in dataclasses.fields(Config)}
    for name in values:
        if name not in defaults:
            raise BadInput(f"{place}: {CONFIG} has the unknown field {name}={values[name]!r}")
    for name in defaults:
        if name not in values:
            raise BadInput(f"{place}: {CONFIG} lacks the field {name}")
    hints = get_type_hints(Config)
    try:
        return Config(**{name: _typed(hints[name], name, value) for name, value in values.items()})
    except (ValueError, OverflowError) as error:
        raise BadInput(f"{place}: {CONFIG}: {error}") from error


def _plain(value: Any) -> Any:
    """Tuples as lists: what YAML knows."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _typed(kind: Any, name: str, value: Any) -> Any:
    """The value from YAML as the type a field is declared with; ValueError if it is of another type."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        for each in args:
            with contextlib.suppress(ValueError):
                return _typed(each, name, value)
    elif origin is Literal:
        if value in args:
            return value
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(repr, args))}")
    elif origin is tuple:  # tuple[X, ...]
        if isinstance(value, list):
            return tuple(_typed(args[0], name, each) for each in value)
    elif origin is dict:
        if isinstance(value, dict):
            return {key: _option(f"{name}.{key}", each) for key, each in value.items()}
    elif kind is float and type(value) is int:
        return float(value)
    elif type(value) is kind:
        return value
    raise ValueError(f"{name}={value!r}: must be of type {getattr(kind, '__name__', kind)}")


def _option(name: str, value: Any) -> Any:
    """The value of an environment's or core's option, which checks it further itself."""
    for each in value if type(value) is list else [value]:
        if type(each) not in (bool, int, float, str):
            raise ValueError(f"{name}={value!r}: must be a number, a flag, a text or a list of them")
    return value


def header(command: list[str]) -> str:
    """What identifies the code and the machine, as YAML comments."""
    import jax

    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", "flax", "optax")
    )
    devices = jax.local_devices()
    lines = {
        # A line break in an argument would end the comment.
        "command": shlex.join(command).encode("unicode_escape").decode(),
        "commit": _commit(),
        "versions": f"python {platform.python_version()}, {versions}",
        "hardware": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform}), "
        f"{os.cpu_count()} CPU cores, {platform.platform()}",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    return "".join(f"# {name}: {text}\n" for name, text in lines.items() if text)


def _commit() -> str:
    """The commit of the code, with a mark for uncommitted changes; empty outside a git checkout."""
    root = Path(__file__).resolve().parents[2]
    try:
        found = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True, text=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""  # no git on this machine: the run does not depend on it
    return found.stdout.strip() if (root / ".git").exists() and found.returncode == 0 else ""
