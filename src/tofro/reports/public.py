"""What of a run may be shown to strangers: no path of its machine, no secret.

In: a command or a text that a run kept. Out: the same without them. What says where it ran and who watched (``outputs_dir``,
``trainer``, ``logger``) goes; a path keeps its last part.
"""

from __future__ import annotations

import re
import shlex

NEUTRAL = ("outputs_dir=", "trainer", "logger", "hydra.", "study=", "stage=")
HIDDEN = "***"
_SECRET_KEY = re.compile(r"(?:^|[._-])(?:api[_-]?key|key|secret|password|passwd|auth|token|credential)s?$", re.IGNORECASE)
_SECRET = re.compile(r"\b(?:hf_|sk-|gh[pousr]_|xox[a-z]-|AKIA)[A-Za-z0-9_-]{12,}")
_LOGIN = re.compile(r"://[^/@\s]+@")
# An absolute path, one from home, or one that climbs, up to its last part; not the second half of a word such as test/accuracy.
_PATH = re.compile(r"(?<![\w.:/~-])(?:file://)?(?:~[\w.-]*|\.{1,2})?/(?:[^\s/,'\"\]\[(){}=]*/)*(?=[^\s,'\"\]\[(){}=/])")
_DRIVE = re.compile(r"\b[A-Za-z]:\\(?:[^\s,'\"\\]+\\)*")
_PATH_KEYS = ("path", "init_from", "init_from_ft")


def public_command(command: str) -> str:
    """Return a command without keys that bear on no result, without paths but their last part, and without secrets."""
    try:
        words = shlex.split(command)
    except ValueError:
        return public_text(command)
    return shlex.join(_public_word(word) for word in words if not word.lstrip("+~").startswith(NEUTRAL))


def public_text(text: str) -> str:
    """Return a text without paths but their last part, and without secrets."""
    return _PATH.sub("", _DRIVE.sub("", _LOGIN.sub("://", _SECRET.sub(HIDDEN, text))))


def _public_word(word: str) -> str:
    key, equals, value = word.partition("=")
    if equals and _SECRET_KEY.search(key):
        return f"{key}={HIDDEN}"
    if equals and key.lstrip("+").rpartition(".")[2] in _PATH_KEYS:
        return f"{key}={_last_part(value)}"
    return public_text(word)


def _last_part(path: str) -> str:
    """Return a path without the folders that it lies in, whichever way its slashes lean."""
    return path.strip("'\"").replace("\\", "/").rstrip("/").rpartition("/")[2]
