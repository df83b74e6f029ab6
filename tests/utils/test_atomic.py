"""Files are written whole or not at all."""

from pathlib import Path

import pytest

from coupled_embedding.utils.atomic import atomic_write
from coupled_embedding.utils.errors import UserError


def no_room(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("content", ["text: ä\n", b"\xff\x00"])
def test_text_and_bytes_in_a_new_folder(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "new" / "folder" / "file"
    atomic_write(path, "something longer than what comes")
    atomic_write(path, content)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("fails", ["write_bytes", "replace"])
def test_a_full_disk_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    path = tmp_path / "file"
    atomic_write(path, "old")
    monkeypatch.setattr(Path, fails, no_room)
    with pytest.raises(UserError, match=rf"^{path}: cannot write the table \(No space left on device\)$"):
        atomic_write(path, "new", "the table")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for path, content in ((tmp_path / "file/below", ""), (tmp_path / "folder", ""), (tmp_path / "new", "\ud800")):
        with pytest.raises(UserError, match=rf"^{path}: cannot write this file \("):
            atomic_write(path, content)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
