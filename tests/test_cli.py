"""The command line: what it answers, how fast, with which exit code, and without importing torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tofro
from tofro import cli
from tofro.cli import BUG, DONE, INTERRUPTED, MISTAKE, is_mistake, main
from tofro.config import compose as composing
from tofro.runs import run as running
from tofro.runs.folder import Result

HEAVY = ("torch", "lightning", "pytorch_lightning", "sklearn", "scipy", "wandb", "matplotlib", "transformers")


def run_alone(*words: str, folder: Path) -> tuple[int, str, str, list[str]]:
    """Run the command in a process of its own; return exit code, both outputs and the heavy packages it imported."""
    code = (
        "import sys; from tofro.cli import main\n"
        "try: code = main(sys.argv[1:])\n"
        "except SystemExit as left: code = left.code or 0\n"
        f"print('HEAVY', *[name for name in {HEAVY} if name in sys.modules]); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=folder, timeout=60)
    *lines, last = done.stdout.splitlines()
    assert last.startswith("HEAVY"), done.stderr
    return done.returncode, "\n".join(lines), done.stderr, last.split()[1:]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], DONE, "tofro run"),
        (["run", "--help"], DONE, "budget.steps"),
        (["study", "--help"], DONE, "--dry-run"),
        (["dash", "--help"], DONE, "--port"),
        (["run", "sede=1"], MISTAKE, "did you mean seed"),
        (["run", "-m", "seed=0,1", "budget.stpes=3"], MISTAKE, "budget.steps"),
        (["run", "--cfg", "job", "budget.steps=3"], DONE, "steps: 3"),
        (["rnu"], MISTAKE, "tofro run"),
    ],
)
def test_help_and_mistakes_answer_without_torch_and_leave_nothing(tmp_path: Path, words: list[str], code: int, said: str) -> None:
    returned, out, err, heavy = run_alone(*words, folder=tmp_path)
    assert returned == code, err
    assert said in out + err
    assert "Traceback" not in err
    assert heavy == []
    assert list(tmp_path.iterdir()) == []


def test_the_reference_lists_every_group_option_and_key(capsys: pytest.CaptureFixture[str]) -> None:
    from tofro.config.explain import Known

    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    known = Known(composing.conf_folder())
    for group, options in known.groups.items():
        assert f"{group}={'|'.join(options)}" in text
    for key in known.keys:
        if key.count(".") < 2 and not key.endswith("._target_"):
            assert key in text
    assert "later" not in text


@pytest.fixture
def carried_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Stand in for runs: record configs, fail where the seed says so."""
    seen: list[Any] = []

    def run(config: Any, overrides: list[str]) -> Result:
        seen.append((config, overrides))
        if config.seed == 1:
            raise ValueError("task.path: nothing there")
        if config.seed == 2:
            raise RuntimeError("a bug")
        if config.seed == 3:
            raise KeyboardInterrupt
        data = {"metrics": {"test/accuracy_ft": 0.5, "n": 1.0}, "score": "test/accuracy_ft", "notes": ["two rows set aside"]}
        return Result(tmp_path / "made", data)

    monkeypatch.setattr(running, "run", run)
    monkeypatch.setattr(cli, "is_mistake", lambda error: isinstance(error, ValueError))
    return seen


def test_run_shows_the_result(carried_out: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "seed=0", "budget.minutes=1"]) == DONE
    out = capsys.readouterr().out
    assert "test/accuracy_ft  0.5000  <- score" in out
    assert "two rows set aside" in out
    assert "made" in out
    assert carried_out[0][1] == ["seed=0", "budget.minutes=1"]


def test_a_mistake_in_a_run_ends_with_its_message_and_a_bug_with_its_traceback(
    carried_out: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "seed=1"]) == MISTAKE
    assert capsys.readouterr().err == "tofro: task.path: nothing there\n"
    with pytest.raises(RuntimeError, match="a bug"):
        main(["run", "seed=2"])
    assert main(["run", "seed=3"]) == INTERRUPTED


def test_a_failed_job_does_not_stop_the_others(carried_out: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", "seed=1,0", "method=tfidf"]) == MISTAKE
    assert [config.seed for config, _ in carried_out] == [1, 0]
    assert carried_out[-1][1] == ["seed=0", "method=tfidf"]
    assert main(["run", "-m", "seed=1,2"]) == BUG
    assert "RuntimeError: a bug" in capsys.readouterr().err


def test_flags_may_stand_anywhere(carried_out: list[Any]) -> None:
    assert main(["run", "method=tfidf", "-m", "seed=4,5", "--trust", "my_package"]) == DONE
    assert len(carried_out) == 2


def test_only_tofros_own_value_errors_are_the_users() -> None:
    def raised(act: Any) -> BaseException:
        try:
            act()
        except Exception as error:
            return error
        raise AssertionError("nothing was raised")

    from tofro.config.build import resolve

    assert is_mistake(raised(lambda: resolve("os.system")))
    assert not is_mistake(raised(lambda: int("x")))
    assert not is_mistake(raised(lambda: subprocess.run([])))
    assert not is_mistake(raised(lambda: {}["x"]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method=full"], "did you mean `tofro run method=full`?"),
        (["reprot", "x"], "did you mean `tofro report`?"),
        (["xyzzy"], "`tofro --help` lists the verbs"),
        (["run", "--cfg", "job", "-m"], "leave out -m"),
        (["run", "--trust", "os;"], "--trust os;"),
    ],
)
def test_a_wrong_word_is_answered(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == MISTAKE
    assert said in capsys.readouterr().err


def test_report_flags_take_a_path_or_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tofro.reports import report as reporting

    seen: list[Any] = []
    monkeypatch.setattr(reporting, "report", lambda folders, **paths: seen.append((folders, paths)))
    assert main(["report", "--html", str(tmp_path), "b", f"--csv={tmp_path / 'c'}"]) == DONE
    folders, paths = seen[0]
    assert folders == [tmp_path, Path("b")]
    asked = {name: path for name, path in paths.items() if path is not None}
    assert asked == {"html": tmp_path / "report.html", "csv": tmp_path / "c"}


def test_study_reports_what_it_ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tofro.reports import report as reporting
    from tofro.runs import study as studying

    asked: list[Any] = []

    def run_study(folder: Path, overrides: list[str], dry_run: bool) -> tuple[Path, int, int]:
        asked.append((folder, overrides))
        return tmp_path, 0, 1

    monkeypatch.setattr(studying, "run_study", run_study)
    monkeypatch.setattr(reporting, "report", lambda folders, html: asked.append((folders, html)))
    assert main(["study", "here", "seed=1", "--dry-run"]) == DONE
    assert asked == [(Path("here"), ["seed=1"])]
    assert main(["study", "here"]) == DONE
    assert asked[-1] == ([tmp_path], tmp_path / "report.html")


def test_doctor_says_what_will_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from tofro.runs import precision

    monkeypatch.setattr(precision, "SIDE", 16)
    monkeypatch.setattr(precision, "SECONDS", 0.01)
    assert main(["doctor", "--outputs", str(tmp_path / "not" / "there")]) == DONE
    out = capsys.readouterr().out
    for said in ("torch", "GFLOP/s", "network interfaces", "GB", "what will work here", "budget.precision"):
        assert said in out
    assert list(tmp_path.iterdir()) == []


def test_the_package_runs_what_the_command_runs(carried_out: list[Any]) -> None:
    assert tofro.run(["seed=4", "method=tfidf"]).score == 0.5
    assert carried_out[0][0].method.name == "tfidf"
    assert tofro.__version__
