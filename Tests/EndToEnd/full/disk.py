"""Disks that are full when a test says so, and have room again when it says so."""
import contextlib
import os
import pathlib
import resource
import subprocess
import tempfile

MIB = 1 << 20


class Mounted:
    """A small file system of its own. Only who may mount has it; in many containers nobody may."""
    name = "a small file system"
    wrapper = ()
    some_mib = 24

    def __init__(self, folder):
        self.folder = folder
        self.ballast = folder / "ballast"
        self.ballast.touch()

    def leave(self, mib):
        """So much room, for everything that is written from now on."""
        facts = os.statvfs(self.folder)
        more = facts.f_bavail * facts.f_frsize - mib * MIB
        size = self.ballast.stat().st_size
        with open(self.ballast, "r+b", buffering=0) as file:
            if more < 0:
                file.truncate(size + more)
                return
            file.seek(size)
            with contextlib.suppress(OSError):
                for _ in range(more // MIB):
                    file.write(bytes(MIB))
                while mib == 0:
                    file.write(bytes(4096))

    def free(self, _process):
        self.ballast.unlink()


class Limited:
    """Files that may not grow beyond a size (RLIMIT_FSIZE), which can be raised while the program runs."""
    name = "a limit on files"
    some_mib = 4

    def __init__(self, folder):
        self.folder = folder
        self.wrapper = ()

    def leave(self, mib):
        """So much room for the largest file, from the next start on."""
        sizes = [path.stat().st_size for path in self.folder.rglob("*") if path.is_file()]
        limit = max(sizes, default=0) + mib * MIB if mib else 64 * 1024
        # The exec inside keeps the process what it is.
        self.wrapper = ("prlimit", f"--fsize={limit}:unlimited")

    def free(self, process):
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextlib.contextmanager
def disks(size_mib):
    """Every kind of disk that this machine lets us have; the last one always."""
    with contextlib.ExitStack() as stack:
        folders = [pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="martlet-full-")))
                   for _ in range(2)]
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folders[0])],
                                 capture_output=True)
        found = []
        if mounted.returncode == 0:
            stack.callback(subprocess.run, ["umount", "--lazy", str(folders[0])], check=True)
            found.append(Mounted(folders[0]))
        yield found + [Limited(folders[1])]
