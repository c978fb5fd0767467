"""Small file systems that get full, or that nobody may write to."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = os.sysconf("SC_PAGE_SIZE")  # what a file takes is a multiple of this


class Disk:
    """A file system of its own in `folder`, in main memory."""

    def __init__(self, folder: Path, options: str = "size=1m"):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        if shutil.which("mount") is None:
            pytest.skip("a small file system cannot be mounted here: there is no mount command")
        done = self.mount("-t", "tmpfs", "-o", options, "tmpfs")
        if done.returncode:
            pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")

    def mount(self, *arguments: str) -> subprocess.CompletedProcess:
        command = ["mount", *arguments, str(self.folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def remount(self, options: str) -> None:
        assert self.mount("-o", f"remount,{options}").returncode == 0

    def leave(self, room: int) -> None:
        """Make the disk so large that `room` more bytes fit."""
        self.remount(f"size={shutil.disk_usage(self.folder).used + room}")

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)
