"""The run directory: config.yaml, metrics.csv, checkpoints/, curve.png, episode.gif.

config.yaml holds every field of the Config and `algo`, the trainer's module; comments above them hold the
command line, the commit, the versions and the hardware. It is read by yaml.safe_load: nothing in it can
execute code.
"""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import os
import platform
import shlex
import subprocess
import time
import types
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from algos.harness.errors import BadInput, replace_file

NAME_KEYS = {"env": "id", "core": "name"}
"""The dictionaries of a Config, and which of their keys names the environment and the core."""

CONFIG = "config.yaml"
METRICS = "metrics.csv"
CHECKPOINTS = "checkpoints"
CURVE = "curve.png"
EPISODE = "episode.gif"
LOCK = ".lock"
MOST_NAMED = 10
"""Untracked files that are named in config.yaml."""

PACKAGES: tuple[str, ...] = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "distrax",
    "gymnax",
    "brax",
    "mujoco",
    "mujoco-mjx",
    "gymnasium",
)
PACKAGES += ("craftax", "memory-maze", "dm-control", "numpy")
"""Those whose version can change a number."""


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
        replace_file(path / CONFIG, header(command) + dump_config(config, algo))
    except OSError as error:
        raise BadInput(_cannot_write(path, error)) from error


@contextlib.contextmanager
def locked(path: Path, field: str) -> Iterator[None]:
    """Keeps other processes from writing into a directory, which is made if it is not there.

    The kernel lets go of the lock with the process, however it ends. What was made and is still empty at the end
    is removed: the directory of a run that was refused.

    Args:
        path: the directory.
        field: what to name in an error.

    Raises:
        BadInput: another process has it, or it cannot be written.
    """
    file = path / LOCK
    made = [each for each in (path, *path.parents) if not os.path.lexists(each)]
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        while True:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if file.exists() and os.path.samestat(os.stat(file), os.fstat(descriptor)):
                break
            os.close(descriptor)  # of a file that its holder has just removed
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(descriptor, 0)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        os.write(descriptor, f"process {os.getpid()} on {platform.node()} since {since}".encode())
    except BlockingIOError as error:
        holder = os.read(descriptor, 1000).decode(errors="replace") or "a process that has just begun"
        os.close(descriptor)
        raise BadInput(f"{field}={str(path)!r}: is being written by {holder}") from error
    except OSError as error:
        _remove_empty(made)
        raise BadInput(_cannot_write(path, error, field)) from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)
        _remove_empty(made)


def _remove_empty(directories: Sequence[Path]) -> None:
    """Removes directories, the innermost first, up to the first that holds something."""
    for each in directories:
        try:
            each.rmdir()
        except FileNotFoundError:
            continue  # it could not be made
        except OSError:
            return


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


def go_on(path: Path, config: Any, algo: str, command: list[str]) -> None:
    """Adds to the config.yaml of an earlier run that it is resumed, by what, and the Config it goes on with.

    Raises:
        BadInput: the directory cannot be written.
    """
    try:
        probe_write(path)
        lines = (path / CONFIG).read_text(encoding="utf-8").splitlines()
        about = [line for line in lines if line.startswith("#")]
        resumed = [f"# resumed, {line[2:]}" for line in header(command).splitlines()]
        text = "".join(f"{line}\n" for line in [*about, *resumed])
        replace_file(path / CONFIG, text + dump_config(config, algo))
    except OSError as error:
        raise BadInput(_cannot_write(path, error)) from error


def _cannot_write(path: Path, error: OSError, field: str = "run_dir") -> str:
    reason = error.strerror or error
    return f"{field}={str(path)!r}: cannot be written ({reason}); must be a writable directory"


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
    if not os.path.isfile(file):  # unlike Path.is_file false also for a name that is too long
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
    elif kind is float and type(value) in (int, str):
        return float(value)  # YAML takes 1e-4 for a text
    elif kind is int and (whole := whole_number(value)) is not None:
        return whole
    elif type(value) is kind:
        return value
    raise ValueError(f"{name}={value!r}: must be of type {getattr(kind, '__name__', kind)}")


def whole_number(value: Any) -> int | None:
    """The integer that an int, or a number such as 1e6, stands for; None if there is none."""
    if type(value) is int:
        return value
    with contextlib.suppress(ValueError):
        if type(value) is str:
            return int(value)  # a float would round it from 2^53 on
    with contextlib.suppress(ValueError, OverflowError):
        if type(value) in (float, str) and float(value).is_integer():
            return int(float(value))
    return None


def _option(name: str, value: Any) -> Any:
    """The value of an environment's or core's option, which checks it further itself."""
    for each in value if type(value) is list else [value]:
        if type(each) not in (bool, int, float, str):
            raise ValueError(f"{name}={value!r}: must be a number, a flag, a text or a list of them")
    return value


def header(command: list[str]) -> str:
    """What identifies the code and the machine, as YAML comments."""
    import jax

    found = {name: _version(name) for name in PACKAGES}
    versions = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    variables = [f"{name}={os.environ[name]}" for name in sorted(os.environ) if is_of_jax(name)]
    devices = jax.local_devices()
    lines = {
        # A line break in an argument would end the comment.
        "command": shlex.join(command).encode("unicode_escape").decode(),
        "commit": _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
        "untracked": ", ".join(_git("ls-files", "--others", "--exclude-standard").splitlines()[:MOST_NAMED]),
        "variables": shlex.join(variables).encode("unicode_escape").decode(),
        "versions": f"python {platform.python_version()}, {versions}",
        "hardware": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform}), "
        f"{os.cpu_count()} CPU cores, {platform.platform()}",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    return "".join(f"# {name}: {text}\n" for name, text in lines.items() if text)


def is_of_jax(variable: str) -> bool:
    """Whether a variable of the operating system changes what JAX and XLA compute."""
    return variable.startswith("JAX_") or variable in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")


def _version(package: str) -> str:
    """The version of an installed package, empty where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _git(*command: str) -> str:
    """What git says of the checkout that this code stands in; empty outside of one."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    # Variables such as GIT_DIR speak of another checkout.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        found = subprocess.run(
            ["git", "-C", str(root), *command], capture_output=True, text=True, timeout=10, env=variables
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""  # no git on this machine: the run does not depend on it
    return found.stdout.strip() if found.returncode == 0 else ""
