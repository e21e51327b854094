"""Trackers as views of metrics.jsonl, which is the truth: wandb, with an account or without one, and TensorBoard's event files.

In: :class:`LoggerSettings`, the run's config and folder. Out: a :class:`View`, to which the recorder hands every row. Sent are
the rows, the run's identity and, at its end, its metrics; not the command line, the code, the machine or the environment. A
tracker that fails says so once and falls silent; the run goes on.
"""

from __future__ import annotations

import json
import netrc
import os
import secrets
import shutil
import socket
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from tofro.runs.events import EventFile, check_installed, numbers_in
from tofro.runs.settings import LoggerSettings

REACHED_IN = 3.0  # seconds in which a server has to answer a knock
READY_IN = 20.0  # seconds in which it has to take up a run
SENT_IN = 30.0  # seconds that a finished run waits for its last rows to be sent; what is left can be synced
QUIET = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "disable_code": True,
    "disable_job_creation": True,
    "label_disable": True,  # else the program is read for a label
    "save_code": False,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "finish_timeout": SENT_IN,
    "init_timeout": READY_IN,
}


class View(Logger):
    """One run on a tracker, as a Lightning logger.

    One of your own overrides ``on_rows`` and what else it needs. ``starts_empty``: a resumed run shows it the kept rows again.
    """

    tracker = "tracker"
    starts_empty = False

    def __init__(self, run: str) -> None:
        super().__init__()
        self._run = run
        self._lost = False

    @property
    def name(self) -> str:
        """The tracker's name."""
        return self.tracker

    @property
    def version(self) -> str:
        """The run's name."""
        return self._run

    def log_hyperparams(self, *arguments: Any, **more: Any) -> None:
        """Do nothing: the run's identity says what it is made of."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Do nothing: Lightning hands over evaluations on its own, and the recorder hands over every row."""

    def show(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show rows of metrics.jsonl in their order."""
        self._try(self.on_rows, rows)

    def conclude(self, metrics: Mapping[str, float]) -> None:
        """Show what the finished run measured."""
        self._try(self.on_result, metrics)

    def close(self, failed: bool) -> None:
        """End the tracker's run, marked failed where the run did."""
        self._try(self.on_end, failed)

    def _try(self, act: Callable[[Any], None], what: Any) -> None:
        if self._lost:
            return
        try:
            act(what)
        except Exception as error:
            self._lost = True
            what = f"{self.tracker} failed ({type(error).__name__}) and shows no more of this run"
            warnings.warn(f"{what}; metrics.jsonl has it all", stacklevel=2)

    def on_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Bring rows to the tracker."""
        raise NotImplementedError

    def on_result(self, metrics: Mapping[str, float]) -> None:
        """Bring the result to the tracker; without this, it shows rows alone."""

    def on_end(self, failed: bool) -> None:
        """Tell the tracker the end."""


class WandbView(View):
    """A run of wandb. Its step is the optimizer's, so what a resume sends a second time is known for it and dropped."""

    tracker = "wandb"

    def __init__(self, run: Any, name: str, starts_empty: bool) -> None:
        super().__init__(name)
        self.run = run
        self.starts_empty = starts_empty

    def on_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Log rows at their steps."""
        for row in rows:
            self.run.log({"seconds": row["seconds"], **numbers_in(row)}, step=row["step"])

    def on_result(self, metrics: Mapping[str, float]) -> None:
        """Set the summary."""
        self.run.summary.update(dict(metrics))

    def on_end(self, failed: bool) -> None:
        """Finish the run."""
        self.run.finish(exit_code=int(failed))


class EventsView(View):
    """Event files of TensorBoard in the run's folder. Each process writes one, which takes the place of those before it."""

    tracker = "tensorboard"
    starts_empty = True

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(name)
        self.events = EventFile(folder)

    def on_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add events."""
        self.events.write(rows, time.time())


def tensorboard(settings: LoggerSettings, config: DictConfig, folder: Path) -> Logger:
    """Return a view that writes ``tensorboard/`` in the run's folder."""
    check_installed("logger=tensorboard")
    return EventsView(folder / "tensorboard", folder.name)


def wandb(settings: LoggerSettings, config: DictConfig, folder: Path) -> Logger:
    """Return a run of wandb, its own for each run folder, grouped by study, with the folder's name.

    Offline where no key is known or no server answers. Offline nothing is appended to a run: a resumed one is written anew, and
    what the interrupted one left is removed, so that there is one run to sync.
    """
    library = _library()
    home = folder / "wandb"
    identifier = _identifier(home, folder.name)
    earlier = sorted(home.glob(f"*run-*-{identifier}*"))
    sent = any(not path.name.startswith("offline-") or any(path.glob("*.synced")) for path in earlier)
    mode = _mode(library, settings)
    if mode == "online":
        try:
            return WandbView(_start(library, settings, config, folder, identifier, mode), folder.name, starts_empty=False)
        except Exception as error:  # whatever it is, the run itself can go on
            mode = "offline"
            library.teardown()  # its process still holds the run that did not begin
            _warn_of(type(error).__name__)
    run = _start(library, settings, config, folder, identifier, mode)
    for path in earlier if not sent else ():
        shutil.rmtree(path, ignore_errors=True)
    return WandbView(run, folder.name, starts_empty=not sent)


def _library() -> Any:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # it would send tracebacks of errors
    import wandb as library

    return library


def _server(library: Any) -> str:
    """Return the address of the server, as the environment or wandb's own settings file has it."""
    return str(library.setup(settings=library.Settings(silent=True)).settings.base_url)


def _start(library: Any, settings: LoggerSettings, config: DictConfig, folder: Path, identifier: str, mode: str) -> Any:
    return library.init(
        project=settings.project,
        dir=folder,
        name=folder.name,
        id=identifier,
        group=config.study or "runs",
        job_type=config.method.name,
        config=json.loads((folder / "identity.json").read_text(encoding="utf-8")),
        mode=mode,
        resume="allow" if mode == "online" else None,
        reinit="finish_previous",  # never goes on with the run of another job
        settings=library.Settings(**QUIET),
    )


def _identifier(home: Path, name: str) -> str:
    """Return the run's id on the tracker: the same in every process that works in its folder, and no other folder's."""
    place = home / "run-id"
    if not place.exists():
        home.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{name}-{secrets.token_hex(3)}\n", encoding="utf-8")
    return place.read_text(encoding="utf-8").strip()


def _mode(library: Any, settings: LoggerSettings) -> str:
    """Return wandb's mode, without a prompt. The user's WANDB_MODE counts where ``settings`` leave the choice."""
    asked = os.environ.get("WANDB_MODE") or "auto" if settings.mode == "auto" else settings.mode
    if asked in ("offline", "dryrun", "disabled"):
        return "offline" if asked == "dryrun" else asked
    server = _server(library)
    if not has_key(server):
        return "offline"
    if not answers(server):
        _warn_of("no server answers")
        return "offline"
    return "online"


def _warn_of(reason: str) -> None:
    warnings.warn(f"wandb can't be reached ({reason}), so the run is kept offline; `wandb sync` sends it later", stacklevel=3)


def check_logger(settings: LoggerSettings) -> None:
    """Refuse a tracker that can't work here, before anything is read: ValueError."""
    if settings._target_ == f"{__name__}.tensorboard":
        check_installed("logger=tensorboard")
    if settings._target_ != f"{__name__}.wandb":
        return
    if "@" in urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc:
        raise ValueError("WANDB_BASE_URL holds a user's name or password; take it out, the key belongs into WANDB_API_KEY")
    if settings.mode == "online" and not has_key(_server(_library())):
        raise ValueError("logger.mode=online needs a key: set WANDB_API_KEY, or run `wandb login`; logger.mode=auto does without")


def has_key(server: str) -> bool:
    """Say whether a wandb key is at hand, without asking the library, which would prompt."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    files = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    place = next((path for name in files if name and (path := Path(name).expanduser()).is_file()), None)
    try:
        known = netrc.netrc(place).hosts if place else {}
    except (OSError, netrc.NetrcParseError):
        return False
    return urlsplit(server).netloc in known


def answers(server: str) -> bool:
    """Say whether something listens where the server should be. Behind a proxy only wandb itself can find out."""
    address = urlsplit(server)
    host, port = address.hostname or "", address.port or (80 if address.scheme == "http" else 443)
    if urllib.request.getproxies().get(address.scheme) and not urllib.request.proxy_bypass(host):
        return True
    try:
        socket.create_connection((host, port), timeout=REACHED_IN).close()
    except OSError:
        return False
    return True


def conclude(loggers: Iterable[Logger], metrics: Mapping[str, float]) -> None:
    """Show the finished run's metrics."""
    for logger in loggers:
        if isinstance(logger, View):
            logger.conclude(metrics)


def close(loggers: Iterable[Logger], failed: bool) -> None:
    """End the trackers' runs, marked failed where the run did."""
    for logger in loggers:
        if isinstance(logger, View):
            logger.close(failed)
