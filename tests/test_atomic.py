"""Whole files: planted links, other writers, modes, and what is not a file."""

import os
import stat
import subprocess
import sys

import pytest

from entropo_plugin.atomic import append_whole, open_regular, read_small, replacing


def put(path, content):
    with replacing(path) as file:
        file.write(content)


def test_a_planted_link_is_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "state.json"
    victim.write_bytes(b"precious")
    for name in ("state.json.partial", ".state.json.partial", "state.json.tmp"):
        (tmp_path / name).symlink_to(victim)
    path.symlink_to(victim)
    put(path, b"new")
    assert victim.read_bytes() == b"precious" and path.read_bytes() == b"new" and not path.is_symlink()


WRITER = """
import sys
from pathlib import Path
from entropo_plugin.atomic import replacing
print(flush=True)
sys.stdin.readline()
for _ in range(200):
    with replacing(Path(sys.argv[1])) as file:
        for _ in range(50):
            file.write(sys.argv[2].encode() * 1000)
"""


def test_two_writers_do_not_tear_each_other(tmp_path):
    path = tmp_path / "state.json"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, letter], cwd="/", **pipes) for letter in "ab"]
    for writer in writers:
        writer.stdout.readline()
    for writer in writers:
        writer.stdin.write(b"\n")
        writer.stdin.flush()
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            seen.add(path.read_bytes())
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen | {path.read_bytes()} <= {b"a" * 50_000, b"b" * 50_000} and os.listdir(tmp_path) == ["state.json"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_of_the_umask_and_a_replaced_one_its_own(tmp_path, umask, mode):
    path, before = tmp_path / "state.json", os.umask(umask)
    try:
        put(path, b"1")
        assert stat.S_IMODE(path.stat().st_mode) == mode
        path.chmod(0o640)
        put(path, b"2")
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(before)


def test_an_error_in_the_block_changes_nothing(tmp_path):
    put(tmp_path / "state.json", b"old")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "state.json") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert (tmp_path / "state.json").read_bytes() == b"old" and os.listdir(tmp_path) == ["state.json"]


@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "socket"])
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path, kind):
    import socket

    path = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/null")
    else:
        socket.socket(socket.AF_UNIX).bind(str(path))
    before = path.lstat()
    for action in (lambda: read_small(path, 10), lambda: put(path, b"1"), lambda: append_whole(path, b"1")):
        with pytest.raises(OSError):
            action()
    assert path.lstat().st_ino == before.st_ino and os.listdir(tmp_path) == ["x"]


def test_a_fifo_with_a_reader_is_refused_too(tmp_path):
    os.mkfifo(tmp_path / "x")
    reader = os.open(tmp_path / "x", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="not a regular file"):
        append_whole(tmp_path / "x", b"1")
    os.close(reader)


def test_only_small_files_are_read(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"12345")
    assert read_small(path, 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_small(path, 4)
    path.write_bytes(b"")
    assert read_small(path, 0) == b""
    with pytest.raises(FileNotFoundError):
        read_small(tmp_path / "none", 5)


def test_appending_adds_all_and_makes_the_file(tmp_path):
    append_whole(tmp_path / "x", b"1")
    append_whole(tmp_path / "x", b"23")
    assert (tmp_path / "x").read_bytes() == b"123"


def test_no_descriptor_is_left_open(tmp_path):
    os.mkfifo(tmp_path / "x")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(OSError):
            open_regular(tmp_path / "x")
        put(tmp_path / "y", b"1")
        append_whole(tmp_path / "y", b"1")
    assert len(os.listdir("/proc/self/fd")) == before
