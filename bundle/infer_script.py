"""``infer.py``: the file with which a bundle answers where mldr-deploy is not installed.

It is ``standalone.py``, word for word but for one line, which says why a bundle is not to be used.
``check_phone.py``, with which a phone proves its kernels, is ``golden_check.py`` word for word.
"""

from __future__ import annotations

from importlib.resources import files

from .chance import AT_CHANCE
from .manifest import Manifest

FILE = "infer.py"
PHONE_FILE = "check_phone.py"
_SLOT = 'REFUSAL = ""'


def infer_script(manifest: Manifest) -> str:
    """The Python source that belongs to a bundle of this manifest."""
    text = files(__package__).joinpath("standalone.py").read_text(encoding="utf-8")
    reason = _refusal(manifest)
    return text.replace(_SLOT, f"REFUSAL = {reason!a}", 1) if reason else text


def phone_script() -> str:
    """The Python source that goes with a file for phones."""
    return files(__package__).joinpath("golden_check.py").read_text(encoding="utf-8")


def _refusal(manifest: Manifest) -> str:
    first = manifest.artifacts[0]
    if first.status == "failed":
        return f"{first.file} failed its parity gate: it is not what was trained"
    return AT_CHANCE if manifest.at_chance else ""
