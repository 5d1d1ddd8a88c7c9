"""On what kind of file system a path lies, as Linux tells it: several machines may see one that is served over a network."""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

SHARED = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "ocfs2"}
    | {"orangefs", "panfs", "pvfs2", "smb3", "smbfs", "virtiofs", "wekafs"}
)
"""Types of file systems whose files other machines can have open. So may any `fuse.…` (sshfs, glusterfs, s3fs, …)."""


def is_shared(path: Path, mountinfo: str) -> bool:
    """Whether `path` lies on a file system that other machines may see; False where that can't be told."""
    kind = file_system(path, mountinfo)
    return kind in SHARED or kind.startswith("fuse.")


def file_system(path: Path, mountinfo: str) -> str:
    """The type of the file system that holds `path` (absolute, its links followed), "" where no mount point does.

    `mountinfo` is the text of /proc/self/mountinfo (proc_pid_mountinfo(5)): the fifth field is the mount point, what follows
    the field `-` is the type. Of mounts one over the other the last one counts.
    """
    deepest, kind = -1, ""
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        point = Path(_unescaped(fields.split(" ")[4])) if fields.count(" ") >= 4 else None
        if point is not None and rest and path.is_relative_to(point) and len(point.parts) >= deepest:
            deepest, kind = len(point.parts), rest.split(" ", 1)[0]
    return kind


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
