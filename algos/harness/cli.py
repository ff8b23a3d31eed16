"""The command line of a trainer, from its Config.

Every field is a flag; the dictionaries `env` and `core` are flags --env.<option> and
--core.<hyperparameter> of the environment and the core that the command line (or the preset) chooses. Bad
input is one line on stderr and exit code 2, before anything is compiled.
"""

import argparse
import contextlib
import dataclasses
import difflib
import io
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn, TypedDict

from algos.harness import compilation_cache, processes, run_dir, signals
from algos.harness.errors import BadInput, exit_codes, one_line
from algos.harness.jax_variables import check_jax
from algos.harness.run_dir import NAME_KEYS
from algos.presets import PRESETS

Presets = dict[str, dict[str, Any]]


PATHS = ("run_dir", "resume", "init_from")
"""Fields that hold a path."""


class Request(NamedTuple):
    """What a command line asks for: a Config, and the run directory to continue, None for a new run."""

    config: Any
    resume: Path | None


def user_path(text: str) -> Path:
    """A path from the command line, with the home directory for a ~ that no shell has replaced.

    Raises:
        argparse.ArgumentTypeError: it is empty, which Path takes for the current directory.
    """
    if not text:
        raise argparse.ArgumentTypeError("'': must be a path")
    return Path(os.path.expanduser(text))  # Path.expanduser raises where there is no such user


class OneLineParser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are BadInput instead of a usage text."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(message.removeprefix("argument "))


def main(Config: type, make_train: Callable, *, doc: str, algo: str, presets: Presets | None = None) -> None:
    """Runs a trainer from the command line: parse, build, train, save. The whole `main` of a trainer.

    Args:
        Config: frozen dataclass with a default for every field; its ValueErrors are bad input.
        make_train: Config -> Trainer; its ValueErrors are bad input.
        doc: text above the flags in --help.
        algo: name of the trainer's module in `algos`.
        presets: fields to change by name; None: those of algos/presets.py.

    Raises:
        SystemExit: 2 bad input, 128 + a signal's number stopped by it, 1 a run that failed.
    """
    presets = PRESETS[algo] if presets is None else presets
    with signals.stopping_at_once(), exit_codes():

        def build() -> tuple[Request, Any]:
            request = parse(Config, presets, doc, algo, sys.argv[1:])
            compilation_cache.enable()
            check_jax()
            try:
                return request, make_train(request.config)
            except ValueError as error:
                raise BadInput(str(error)) from error

        (config, resume), trainer = processes.on_all(build)
        # Where to write and what to continue from concern the first process alone.
        free = ("run_dir", "resume", "init_from", "wandb")
        processes.check_same({name: value for name, value in _flat(config).items() if name not in free})
        path = resume or Path(config.run_dir or run_dir.default_path(config, algo))

        def write_config() -> None:
            kept, command = dataclasses.replace(config, run_dir=str(path), resume=""), ["python", *sys.argv]
            (run_dir.go_on if resume else run_dir.create)(path, kept, algo, command)

        with contextlib.ExitStack() as lock:

            def open_directory() -> None:
                lock.enter_context(run_dir.locked(path, "resume" if resume else "run_dir"))
                if not resume:
                    write_config()

            processes.on_first(open_directory)
            try:
                from algos.harness import loop  # orbax and matplotlib: a second that bad input need not wait for

                loop.run(config, trainer, algo, path, write_config if resume else None)
            except Exception:
                if not resume and processes.is_first():
                    run_dir.release(path)
                raise


def parse(Config: type, presets: Presets, doc: str, algo: str, argv: Sequence[str]) -> Request:
    """Builds the Config a command line asks for.

    Raises:
        BadInput: with one line that names the field.
        SystemExit: code 0 after --help.
    """
    chosen, rest = _choices(argv)
    if chosen.preset is not None and chosen.preset not in presets:
        raise BadInput(_unknown("preset", chosen.preset, presets))
    if chosen.resume == "":
        raise BadInput("resume='': must be a run directory")
    if chosen.config == "":
        raise BadInput(f"config='': must be a run directory or its {run_dir.CONFIG}")
    if chosen.config is not None and (chosen.preset is not None or chosen.resume):
        raise BadInput(f"config={chosen.config!r}: must stand without --preset and --resume")
    if chosen.preset is not None and chosen.resume:
        raise BadInput(f"preset={chosen.preset!r}: must stand without --config and --resume")
    stored = None
    if chosen.resume and not {"-h", "--help"} & set(argv):
        stored = run_dir.load_config(Path(chosen.resume), Config, algo)
    names = {"env": getattr(chosen, "env.id"), "core": getattr(chosen, "core.name")}
    if stored is not None:
        base = dataclasses.replace(stored, run_dir="", **_others(stored, names))
    elif chosen.config is not None:
        base = preset_config(Config, _repeated(Config, Path(chosen.config), algo), names)
    else:
        base = preset_config(Config, presets[chosen.preset or "default"], names)
    config = _flags(Config, base, f"{doc.strip()}\n\n{_names(presets)}", algo, rest)
    if stored is not None:
        config = _continued(stored, config, Path(chosen.resume))
    check_values(config)
    return Request(config, Path(chosen.resume) if stored is not None else None)


def preset_config(Config: type, preset: dict[str, Any], names: Mapping[str, str | None] | None = None) -> Any:
    """The Config of a preset, with another environment or core where `names` has one for "env" or "core".

    A preset that names its environment (core) starts from that one's own defaults; one that does not changes
    the default Config's. To another environment (core) carries over what the preset or the default Config
    sets and both have; everything else is the new one's default.
    """
    default, fields, names = Config(), dict(preset), names or {}
    for field, name_key in NAME_KEYS.items():
        changes = fields.get(field, {})
        values = changes if name_key in changes else getattr(default, field) | changes
        complete = _complete(field, values[name_key])
        if unknown := values.keys() - complete.keys():
            raise ValueError(f"preset with unknown {field} options: {sorted(unknown)}")
        name = names.get(field)
        if name is not None and name != values[name_key]:
            complete = _complete(field, name)
            values = {key: value for key, value in values.items() if key in complete and key != name_key}
        fields[field] = complete | values
    return dataclasses.replace(default, **fields)


def _repeated(Config: type, path: Path, algo: str) -> dict[str, Any]:
    """The configuration of an earlier run, given by its directory or its config.yaml, as a preset."""
    directory = path.parent if path.name == run_dir.CONFIG else path
    fields = vars(run_dir.load_config(directory, Config, algo, "config")) | {"run_dir": "", "resume": ""}
    for field, name_key in NAME_KEYS.items():
        known = _complete(field, fields[field][name_key])
        for option in sorted(fields[field].keys() - known.keys()):
            raise BadInput(f"config={str(path)!r}: {_unknown(f'option of {field}', option, known)}")
    return fields


def with_env_flags(config: Any, algo: str, flags: Sequence[str]) -> Any:
    """The Config with other options of its environment.

    Args:
        config: of a run.
        algo: name of its trainer.
        flags: --env.<option> VALUE, none of them of another environment.

    Raises:
        BadInput: another flag, or an unknown option or value.
    """
    if not flags:
        return config
    others = [each for each in flags if each.startswith("-") and not each.startswith("--env.")]
    if others or not flags[0].startswith("-"):
        raise BadInput(
            f"{(others or flags)[0]}: unknown flag; --help lists what is allowed, beside --env.<option>"
        )
    changed = _flags(type(config), config, "", algo, flags)
    if changed.env["id"] != config.env["id"]:
        raise BadInput(
            f"env.id={changed.env['id']!r}: must be that of the run, {config.env['id']}; its options may differ"
        )
    check_values(changed)
    return changed


def check_values(config: Any) -> None:
    """Raises BadInput for a number that is NaN or infinite, or a text that cannot be written as UTF-8."""
    for name, value in _flat(config).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInput(f"{name}={value}: must be a finite number")
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            raise BadInput(f"{name}={value!r}: must be UTF-8")


def _choices(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The flags that decide which other flags there are, and argv without --preset and --config, no fields."""

    bases, others = (OneLineParser(add_help=False, allow_abbrev=False) for _ in range(2))
    bases.add_argument("--preset")
    bases.add_argument("--config")
    for flag in ("--env.id", "--core.name", "--resume"):
        others.add_argument(flag)
    known, rest = bases.parse_known_args(argv)
    others.parse_known_args(rest, namespace=known)
    for name in ("config", "resume"):
        if getattr(known, name):
            setattr(known, name, os.path.expanduser(getattr(known, name)))
    return known, rest


def _complete(field: str, name: str) -> dict[str, Any]:
    """Every option of an environment (hyperparameter of a core) with its default, its name first."""
    import envs
    import networks

    defaults = {"env": envs.options, "core": networks.hyperparameters}[field]
    try:
        return {NAME_KEYS[field]: name, **defaults(name)}
    except ValueError as error:
        raise BadInput(str(error)) from error


def _others(config: Any, names: Mapping[str, str | None]) -> dict[str, dict[str, Any]]:
    """The environment and the core in `names` with their defaults, where they are not the Config's own."""
    return {
        field: _complete(field, name)
        for field, name in names.items()
        if name not in (None, getattr(config, field)[NAME_KEYS[field]])
    }


def _flags(Config: type, base: Any, description: str, algo: str, argv: Sequence[str]) -> Any:
    """`base` changed by the flags, by tyro; its errors as BadInput."""
    import tyro

    output = io.StringIO()
    columns = os.environ.get("COLUMNS")
    if {"-h", "--help"} & set(argv):
        Config = _explained(Config, base)
    else:
        os.environ["COLUMNS"] = "10000"  # or tyro breaks the words of its messages
    try:
        with contextlib.redirect_stderr(output):
            return tyro.cli(
                Config,
                args=_as_meant(argv, _flat(base)),
                default=base,
                prog=f"python algos/{algo}.py",
                description=description,
            )
    except SystemExit as end:
        if end.code == 0:
            raise
        raise BadInput(_condense(output.getvalue(), _flat(base), argv)) from None
    finally:
        if columns is None:
            os.environ.pop("COLUMNS", None)
        else:
            os.environ["COLUMNS"] = columns


def _explained(Config: type, base: Any) -> type:
    """The Config for --help: its `core` as a dictionary of which every entry has a line of help."""
    import tyro

    import networks

    lines = networks.hyperparameter_help(base.core["name"])
    lines["name"] = "which core; `--core.name NAME --help` lists another one's hyperparameters"
    helps = {key: f"{line[:1].upper()}{line[1:]}." if line else None for key, line in lines.items()}
    entries = {key: Annotated[type(value), tyro.conf.arg(help=helps[key])] for key, value in base.core.items()}
    kind = TypedDict("core", entries)  # type: ignore[misc]  # the entries are known only now
    core = ("core", kind, dataclasses.field(default_factory=lambda: base.core))
    return dataclasses.make_dataclass(Config.__name__, [core], bases=(Config,), frozen=True)


def _as_meant(argv: Sequence[str], fields: dict[str, Any]) -> list[str]:
    """The flags with whole numbers such as 1e6 written out, and the home directory for a ~ in paths."""
    kinds = {f"--{name.replace('_', '-')}": (name, type(value)) for name, value in fields.items()}

    def meant(flag: str, value: str) -> str:
        name, kind = kinds.get(flag.replace("_", "-"), ("", str))
        if name in PATHS:
            return os.path.expanduser(value)
        whole = run_dir.whole_number(value) if kind is int else None
        return value if whole is None else str(whole)

    found: list[str] = []
    for before, word in zip(["", *argv], argv, strict=False):
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and equals:
            word = f"{flag}={meant(flag, value)}"
        elif before.startswith("--") and not word.startswith("--"):
            word = meant(before, word)
        found.append(word)
    return found


def _condense(box: str, fields: dict[str, Any], argv: Sequence[str]) -> str:
    """tyro's box as one line that begins with the field."""
    # Colours, and rules: of dashes where the terminal knows no better.
    plain = re.sub(r"\x1b\[[0-9;]*m|-{5,}", "", box)
    lines = [line.strip("╭╮╰╯│─|+ ") for line in plain.splitlines()]
    text = one_line(" ".join(line for line in lines[1:] if line))  # the first line is the box's title
    text = text.partition(" For full helptext")[0]
    if found := re.match(r"Unrecognized options: (.*?)(,|$| Perhaps| Arguments)", text):
        flag = found[1].partition("=")[0]
        if not flag.startswith("-"):
            before = [previous for previous, each in zip(argv, argv[1:], strict=False) if each == found[1]]
            place = f" after {before[0]}" if before else ""
            return f"{flag!r}{place}: not a flag, and no flag takes it as its value"
        known = [f"--{name.replace('_', '-')}" for name in fields]
        close = difflib.get_close_matches(flag.replace("_", "-"), known, n=3, cutoff=0.5)
        hint = f"did you mean {_or(close)}? " if close else ""
        return f"{flag}: unknown flag; {hint}--help lists what is allowed"
    if found := re.match(r"Error parsing (--\S+): (.*) Argument helptext: \S+ (\[.*?\]\]|\S+)", text):
        value = re.search(r"'(.*?)'", found[2])
        allowed = _or(_KINDS.get(kind, kind) for kind in found[3].split("|"))
        return f"{found[1]}{f'={value[0]}' if value else ''}: must be {allowed}"
    if found := re.match(r"invalid choice (.*) for argument '(\S+?)'\. Expected one of \((.*?),?\)", text):
        return f"{found[2]}={found[1]}: must be one of {found[3]}"
    if found := re.match(r"Missing value for argument '(\S+?)'", text):
        return f"{found[1]}: must be followed by a value"
    # A ValueError of Config.__post_init__ names its field itself; what tyro may say otherwise stays as it is.
    return re.sub(r"^Error parsing [A-Za-z]\S*: ", "", text)


_KINDS = {
    "INT": "an integer",
    "FLOAT": "a number",
    "{None}": "None",
    "[INT [INT ...]]": "integers separated by blanks",
}


def _or(words: Iterable[str]) -> str:
    return " or ".join(words)


def _continued(stored: Any, asked: Any, path: Path) -> Any:
    """The stored Config, if no flag asks for another; the run may become longer, and metrics go elsewhere."""
    if asked.run_dir and os.path.realpath(asked.run_dir) != os.path.realpath(path):
        raise BadInput(f"run_dir={asked.run_dir!r}: must be left out or the same as --resume {path}")
    longer = getattr(asked, "total_timesteps", 0)
    if longer > getattr(stored, "total_timesteps", 0):
        annealed = [name for name, value in vars(stored).items() if name.startswith("anneal_") and value]
        if annealed:
            raise BadInput(f"total_timesteps={longer}: {path} holds a run with {annealed[0]} over its length; "
                           "a new run goes on from its parameters with --init-from")  # fmt: skip
        stored = dataclasses.replace(stored, total_timesteps=longer)
    free = {"run_dir": str(path), "resume": str(path), "wandb": asked.wandb}
    old, new = _flat(dataclasses.replace(stored, **free)), _flat(dataclasses.replace(asked, **free))
    for name in [*new, *old]:
        if old.get(name) != new.get(name):
            raise BadInput(f"{name}={new.get(name)!r}: {path} holds a run with {name}={old.get(name)!r}; "
                           "a resumed run keeps its configuration, leave the flag out")  # fmt: skip
    return dataclasses.replace(stored, **free)


def _flat(config: Any) -> dict[str, Any]:
    """Every field, those of dictionaries as `field.key`."""
    flat = {}
    for each in dataclasses.fields(config):
        value = getattr(config, each.name)
        if isinstance(value, dict):
            flat.update({f"{each.name}.{key}": entry for key, entry in value.items()})
        else:
            flat[each.name] = value
    return flat


def _names(presets: Presets) -> str:
    """The part of --help that lists presets, environments and cores, and the flags that are no fields."""
    import envs
    import networks

    return "\n\n".join(
        f"{title}: {', '.join(names)}"
        for title, names in (
            ("--preset", presets),
            ("--env.id", (*envs.ENV_IDS, *envs.ENV_FAMILIES)),
            ("--core.name", networks.CORES),
            ("--config", ["config.yaml of a run to repeat"]),
        )
    )


def _unknown(field: str, value: str, allowed: Sequence[str] | Presets) -> str:
    close = difflib.get_close_matches(value, allowed, n=3, cutoff=0.5)
    hint = f" (did you mean {_or(close)}?)" if close else ""
    return f"{field}={value!r}: not known{hint}; allowed: {', '.join(allowed)}"
