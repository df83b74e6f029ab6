"""Values of a MATLAB file, each with its name in it, so that what is wrong is named as MATLAB names it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat
from scipy.io.matlab import mat_struct

from coupled_embedding.data.importers.parts import number
from coupled_embedding.utils.errors import DatasetError, short_repr


@dataclass(frozen=True)
class MatlabValue:
    """A value: an array of numbers, characters, structs or cells.

    Attributes:
        value: as `scipy.io.loadmat` returns it, with structs as objects; None: there is none.
        where: file and name.
    """

    value: Any
    where: str

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing: no such field, ``[]`` or ``''``."""
        return self.value is None or np.size(self.value) == 0

    def items(self) -> "list[MatlabValue]":
        """Return the elements of an array of structs or cells, columns first, as MATLAB counts them from 1."""
        if self.is_empty:
            return []
        values = [self.value] if isinstance(self.value, mat_struct) else np.ravel(self.value, "F").tolist()
        return [MatlabValue(value, f"{self.where}({place})") for place, value in enumerate(values, 1)]

    def structs(self) -> "list[MatlabValue]":
        """Return the elements of an array of structs; DatasetError for another one."""
        items = self.items()
        if wrong := [item for item in items if not isinstance(item.value, mat_struct)]:
            raise DatasetError(f"{wrong[0].where}: expected a struct, got {short_repr(wrong[0].value)}")
        return items

    def field(self, name: str) -> "MatlabValue":
        """Return a field of a struct (of one element), without a value where there is none."""
        value = self.value
        if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1:
            value = value.item()
        if not self.is_empty and not isinstance(value, mat_struct):
            raise DatasetError(f"{self.where}: expected a struct with a field '{name}', got {short_repr(self.value)}")
        known = vars(value) if isinstance(value, mat_struct) else {}
        return MatlabValue(known.get(name) if name in known.get("_fieldnames", ()) else None, f"{self.where}.{name}")

    def number(self) -> float | None:
        """Return a number, also one that is written as text; None: there is none. DatasetError for anything else."""
        if self.is_empty:
            return None
        return number(np.ravel(self.value)[0] if np.size(self.value) == 1 else self.value, self.where)

    def numbers(self) -> list[float]:
        """Return an array's numbers; DatasetError for anything else."""
        values = np.ravel([] if self.is_empty else self.value)
        return [number(value, f"{self.where}({place})") for place, value in enumerate(values, 1)]

    def text(self) -> str:
        """Return a text, empty where there is none; DatasetError for anything else."""
        if self.is_empty:
            return ""
        value = np.ravel(self.value)[0] if np.size(self.value) == 1 else self.value
        if not isinstance(value, str):
            raise DatasetError(f"{self.where}: expected a text, got {short_repr(self.value)}")
        return str(value)


def read_matlab(path: Path, name: str) -> MatlabValue:
    """Read a variable of a MATLAB file (of versions 4 to 7, not of 7.3).

    Raises:
        DatasetError: the file cannot be read or has no such variable.
    """
    try:
        content = loadmat(path, variable_names=[name], struct_as_record=False)
    except NotImplementedError as error:
        raise DatasetError(f"{path}: a MATLAB 7.3 file; save it again in MATLAB with -v7") from error
    except Exception as error:  # the reader raises whatever the bytes make it run into
        raise DatasetError(f"{path}: cannot read this MATLAB file ({type(error).__name__}: {error!s:.200})") from error
    if name not in content:
        raise DatasetError(f"{path}: no variable '{name}' in this MATLAB file")
    return MatlabValue(content[name], f"{path}: {name}")
