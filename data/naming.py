"""Names: the split that a file or folder is called after, and the stored form of a class name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from ..bundle.debris import is_debris

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SPLIT_COLUMNS = ("split", "subset", "set", "partition")  # of a table
_SPLIT_OF = {word: split for split, words in SPLITS.items() for word in words}
_COMPOUND = re.compile(rf"({'|'.join(_SPLIT_OF)})(?:sets?|data|split|images?|imgs?)?")
ARCHIVE = re.compile(  # the end of what is not unpacked, or not here as a whole
    r"(\.(zip|7z|rar|tar|tgz|tbz2?|txz|tzst|gz|bz2|xz|zst|crdownload|part|partial|download))+$",
    re.I,
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_FILLERS = {"set", "sets", "data", "dataset", "split", "images", "image", "imgs", "img", "photos"}


def class_name(text: str) -> str:
    """The name as compared and stored: Unicode NFC (macOS writes file names in NFD)."""
    return unicodedata.normalize("NFC", text)


def splits_in(name: str) -> set[str]:
    """The splits whose words stand in ``name``: "pets-Train_00.parquet" -> {"train"}."""
    matches = (_COMPOUND.fullmatch(word) for word in _words(name))
    return {_SPLIT_OF[match.group(1)] for match in matches if match}


def split_called(name: str) -> str | None:
    """The split that ``name`` says and nothing else: "Training Set", "train_images", "val2017".

    None for "seg_train" and "test tube", which may be something else.
    """
    words = [word for word in _words(name) if word not in _FILLERS]
    match = _COMPOUND.fullmatch(words[0]) if len(words) == 1 else None
    return _SPLIT_OF[match.group(1)] if match else None


def file_split(name: str) -> str | None:
    """The split that the file or link ``name`` stands for: "val.zip", "Test.tar.gz", "val".

    None for other files, "train.csv" among them.
    """
    stem = ARCHIVE.sub("", name)
    return None if "." in stem or is_debris(name) else split_called(stem)


def hidden_splits(names: Iterable[str]) -> list[str]:
    """Names of which one contains "train" and another "test" or "valid", such as "mytrain".

    Empty where the names do not look like splits of each other.
    """
    hints: dict[str, str] = {}
    for name in names:
        for word in ("train", "valid", "test"):
            if word in name.casefold():
                hints.setdefault(word, name)
    return [*hints.values()] if len(set(hints.values())) > 1 else []


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^a-z]+", _CAMEL.sub(" ", name).lower()) if word]
