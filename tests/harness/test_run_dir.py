import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from algos.harness import BadInput, OneLineParser, load_run, loop, run_dir, user_path
from algos.harness.errors import check_output
from tests.harness import stub


@dataclasses.dataclass(frozen=True)
class Everything:
    """A field of every type a Config has."""

    count: int = 1
    rate: float = 1e-5
    whole: float = 2.0
    name: str = "a: b # c"
    flag: bool = False
    limit: float | None = None
    widths: tuple[int, ...] = (3, 4)
    env: dict = dataclasses.field(default_factory=lambda: {"id": "x/y", "size": 3, "rate": 0.5})
    core: dict = dataclasses.field(default_factory=lambda: {"name": "gru"})


@pytest.mark.parametrize(
    "config",
    [
        Everything(),
        Everything(count=2**40, rate=1e-30, whole=3.0, flag=True, limit=0.1, widths=(), name="é\n'\""),
        Everything(rate=0.1 + 0.2, limit=5.0, env={"id": "z", "size": -1}),
    ],
)
def test_config_yaml_gives_back_the_config(tmp_path, config):
    run_dir.create(tmp_path / "run", config, "stub", ["stub.py", "--name", "two\nlines"])
    loaded = run_dir.load_config(tmp_path / "run", Everything, "stub")
    assert loaded == config
    assert [type(v) for v in dataclasses.astuple(loaded)] == [type(v) for v in dataclasses.astuple(config)]


def test_config_yaml_holds_every_field_and_says_what_wrote_it(tmp_path):
    run_dir.create(tmp_path / "run", stub.Config(), "stub", ["python", "stub.py", "--seed", "0"])
    text = (tmp_path / "run" / "config.yaml").read_text()
    assert set(yaml.safe_load(text)) == {"algo", *(each.name for each in dataclasses.fields(stub.Config))}
    for line in ("# command: python stub.py --seed 0", "# versions: python 3.*jax .*flax", "# hardware: 1 x"):
        assert re.search(line, text)


@pytest.mark.parametrize("held", ["config.yaml", "metrics.csv", "checkpoints"])
def test_a_directory_that_holds_a_run_is_refused(main, tmp_path, held):
    (tmp_path / held).write_text("")
    code, err = main("--run-dir", tmp_path)
    assert code == 2 and "run_dir" in err and held in err and "--resume" in err
    assert [each.name for each in tmp_path.iterdir()] == [held]


def test_a_directory_with_other_files_is_taken(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    run_dir.create(tmp_path, stub.Config(), "stub", [])
    assert sorted(each.name for each in tmp_path.iterdir()) == ["config.yaml", "notes.txt"]


def test_a_directory_that_cannot_be_written_is_bad_input(main, tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "run", tmp_path / "file", "/proc/run"):
        code, err = main("--run-dir", path)
        assert code == 2 and err.count("\n") == 1
        assert str(path) in err and "run_dir" in err


def test_a_full_disk_at_the_start_is_bad_input(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_dir.os, "fsync", full)
    with pytest.raises(BadInput, match="No space left"):
        run_dir.create(tmp_path / "run", stub.Config(), "stub", [])
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("elements", [["a"], [1.5], [True], [None], 3])
def test_elements_of_a_tuple_are_of_its_type(tmp_path, elements):
    run_dir.create(tmp_path, Everything(), "stub", [])
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values | {"widths": elements}))
    with pytest.raises(BadInput, match="widths="):
        run_dir.load_config(tmp_path, Everything, "stub")


def test_a_directory_is_free_again_if_the_run_failed_before_its_first_row(main, tmp_path, monkeypatch):
    def out_of_memory(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(loop, "compile_programs", out_of_memory)
        with pytest.raises(MemoryError):
            main("--run-dir", tmp_path)
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setattr(loop.Report, "add", out_of_memory)
        with pytest.raises(MemoryError):
            main("--run-dir", tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("STUB_NAN", "0:2")
    assert main("--run-dir", tmp_path)[0] == 1  # its first row stays
    assert sorted(each.name for each in tmp_path.iterdir()) == ["config.yaml", "metrics.csv"]


@pytest.mark.parametrize("flags", [["--init-from", "none"], ["--wandb", "offline"], []])
def test_a_refused_run_leaves_no_directory_that_it_made(main, tmp_path, monkeypatch, flags):
    def refuse(*_, **__):
        raise BadInput("num_envs=3: must be less")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(loop.footprint if not flags else loop, "check_before" if not flags else "WandbLog", refuse)
    (tmp_path / "there").mkdir()
    for path in ("made/run", "there/run", "there"):
        assert main("--run-dir", path, *flags)[0] == 2
        assert [str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*")] == ["there"]


def test_what_others_put_into_a_made_directory_stays(tmp_path):
    with run_dir.locked(tmp_path / "a" / "b", "output"):
        (tmp_path / "a" / "notes.txt").write_text("mine")
    assert [each.name for each in (tmp_path / "a").iterdir()] == ["notes.txt"]


def test_names_that_are_too_long_are_bad_input(main, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    long = "a" * 300
    for flag in ("--resume", "--config", "--init-from", "--run-dir"):
        code, err = main(flag, long)
        last = err.splitlines()[-1]
        assert code == 2 and last.startswith(f"error: {flag[2:].replace('-', '_')}='{long}"), err
        assert list(tmp_path.iterdir()) == []
    for path in (Path(long), Path(long) / "x", Path("none/x"), tmp_path):
        with pytest.raises(BadInput, match="output='"):
            check_output(path)
    check_output(Path("x.png"))


def test_an_empty_path_is_not_the_current_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_dir.create(tmp_path, stub.Config(), "stub", [])
    with pytest.raises(BadInput, match="run_dir='': must be a run directory"):
        load_run("")
    parser = OneLineParser()
    parser.add_argument("run_dir", type=user_path)
    with pytest.raises(BadInput, match="run_dir: '': must be a path"):
        parser.parse_args([""])


def test_a_home_of_no_such_user_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/x") == tmp_path / "x"
    assert user_path("~nosuchuser/x") == Path("~nosuchuser/x")
    with pytest.raises(BadInput, match="run_dir='~nosuchuser/x': holds no run"):
        load_run("~nosuchuser/x")


def test_whole_numbers_are_not_rounded():
    for text, whole in (
        ("9007199254740993", 2**53 + 1),
        ("1e6", 10**6),
        ("1.5", None),
        ("x", None),
        ("inf", None),
    ):
        assert run_dir.whole_number(text) == whole
    assert run_dir.whole_number(3.0) == 3 and run_dir.whole_number(True) is None


def test_the_default_name_tells_runs_apart():
    name = run_dir.default_path(stub.Config(seed=3), "stub")
    assert re.fullmatch(r"runs/stub-stub_a-arelit-s3-\d{8}-\d{6}-\d{6}", str(name))
    assert run_dir.default_path(stub.Config(seed=3), "stub") != name  # nor does the second make them one
