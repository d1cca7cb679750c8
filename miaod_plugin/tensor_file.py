"""Files of tensors: safetensors with JSON in the header and a checksum over all of it; reading one runs no code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import DataError
from .files import atomic_path

MODEL = "miaod_plugin"  # the kind of a fitted detector's file
_CHECKSUM = "sha256"


def write_tensors(path: Path, kind: str, content: dict, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, and `content` as JSON under the name `kind`, atomically."""
    text = json.dumps(content, allow_nan=False)
    # copies: safetensors takes neither strided tensors nor two that share memory, such as tied weights
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={kind: text, _CHECKSUM: digest(tensors, text)})
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Put the metadata of a file in order: safetensors writes it in any, and equal files should have equal bytes."""
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length))


def read_tensors(path: Path, kind: str, what: str, checksum: bool = True) -> tuple[object, dict[str, Tensor]]:
    """Return the content and the tensors of a file that `write_tensors` wrote.

    Parameters
    ----------
    path : Path
    kind : str
    what : str
        What the file should be, for the message.
    checksum : bool
        The file must have a checksum. Otherwise one is compared where there is one.

    Raises
    ------
    DataError
        If the file is of another kind or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        text, expected = header[kind], header.get(_CHECKSUM)
        if (checksum or expected is not None) and expected != digest(tensors, text):
            raise ValueError("its checksum differs")
        return json.loads(text, parse_constant=_no_number), tensors
    except KeyError as error:
        raise DataError(f"{path}: not {what}, or damaged (its header has no {error})") from error
    # of SafetensorError, OSError and the like each release of safetensors raises others
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, RuntimeError, RecursionError) as error:
        raise DataError(f"{path}: not {what}, or damaged ({error})") from error


def is_kind(path: Path, kind: str) -> bool:
    """Whether a file is one of tensors with content of this kind, by its header alone."""
    try:
        with safe_open(path, framework="pt") as file:
            return kind in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return False


def digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """Return a hash of a text and of the names, types, shapes and values of tensors."""
    found = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a number")
