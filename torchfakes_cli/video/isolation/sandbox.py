"""Restrictions of the decoding process: no sockets, file changes and new programs (seccomp), and a memory limit.

The seccomp filter is supported on Linux on x86-64 and 64-bit ARM. It checks system call numbers and flags, so it works
in containers and without privileges. It is a deny list: a compromised decoder can't change files or send what it read,
but the filter doesn't protect against kernel vulnerabilities.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys
from collections.abc import Callable
from pathlib import Path

# From linux/seccomp.h, linux/prctl.h, linux/bpf_common.h, linux/audit.h.
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_LOAD, _JUMP_EQUAL, _JUMP_FROM, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF_0000, 0x0005_0000 | errno.EACCES
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data; an argument has 8 bytes

#: Flags of open() that allow changes to files; O_TMPFILE requires one of them.
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

#: By machine: its audit architecture and the numbers of openat, open (0 if absent) and tgkill; then the forbidden calls
#: in this order. Network and processes: socket, connect, bind, execve, execveat, ptrace, process_vm_readv,
#: process_vm_writev, kill, tkill, rt_sigqueueinfo, rt_tgsigqueueinfo. Files: ioctl, mkdirat, mknodat, unlinkat,
#: symlinkat, linkat, renameat, renameat2, truncate, fchmod, fchmodat, fchown, fchownat, utimensat, {,l,f}setxattr,
#: {,l,f}removexattr, open_by_handle_at. System: mount, umount2, pivot_root, chroot, unshare, setns, bpf, userfaultfd,
#: perf_event_open, add_key, request_key, keyctl. On x86-64 also rename, mkdir, rmdir, creat, link, unlink, symlink,
#: chmod, chown, lchown, mknod, utime, utimes, futimesat.
_MACHINES = {
    "x86_64": (
        (0xC000003E, 257, 2, 234),
        "41 42 49 59 322 101 310 311 62 200 129 297 "
        "16 258 259 263 266 265 264 316 76 91 268 93 260 280 188 189 190 197 198 199 304 "
        "165 166 155 161 272 308 321 323 298 248 249 250 "
        "82 83 84 85 86 87 88 90 92 94 133 132 235 261",
    ),
    "aarch64": (
        (0xC00000B7, 56, 0, 131),
        "198 203 200 221 281 117 270 271 129 130 138 240 "
        "29 34 33 35 36 37 38 276 45 52 53 55 54 88 5 6 7 14 15 16 265 "
        "40 39 41 51 97 268 280 282 241 217 218 219",
    ),
}
#: The same number everywhere: pidfd_send_signal, io_uring_setup, io_uring_enter, io_uring_register, open_tree,
#: move_mount, fsopen, pidfd_open, openat2, pidfd_getfd, mount_setattr, fchmodat2, setxattrat, removexattrat.
_EVERYWHERE = (424, 425, 426, 427, 428, 429, 430, 434, 437, 438, 442, 452, 463, 466)
#: System calls of x86-64's other interface (x32) begin here.
_X32 = 0x4000_0000


def apply() -> tuple[str, ...]:
    """Restrict this process permanently, before it starts threads; returns which restrictions were verified."""
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None or sys.maxsize < 1 << 32:
        return ()
    program = _program(*machine)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer)))
    prctl = ctypes.CDLL(None).prctl
    prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong]
    if prctl(_PR_SET_NO_NEW_PRIVS, 1, None, 0, 0) or prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, header, 0, 0):
        return ()
    acts = {
        "network": lambda: socket.socket().close(),
        "file writes": lambda: os.close(os.open(os.devnull, os.O_WRONLY)),
    }
    return tuple(name for name, act in acts.items() if _refused(act))


def limit_memory(megabytes: int) -> bool:
    """Limits the memory of this process to its current size and some MiB; returns whether this system supports it."""
    if sys.platform == "win32":
        return False
    import resource

    try:
        held = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:
        return False  # not Linux
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = held + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
    return True


def _program(names: tuple[int, int, int, int], forbidden: str) -> bytes:
    """Build the filter, in instructions of classic BPF: code, jumps if true and if false, operand."""
    architecture, openat, open_, tgkill = names
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_FROM, 0, 1, _X32),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for number in (*map(int, forbidden.split()), *_EVERYWHERE):
        code += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _REFUSE)]
    for number, flags in ((openat, 2), (open_, 1)):
        if number:
            code += [
                (_JUMP_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, _ARGUMENTS + 8 * flags),
                (_JUMP_ANY_BIT, 0, 1, _WRITES),
                (_RETURN, 0, 0, _REFUSE),
                (_RETURN, 0, 0, _ALLOW),
            ]
    code += [  # abort() signals its own thread
        (_JUMP_EQUAL, 0, 3, tgkill),
        (_LOAD, 0, 0, _ARGUMENTS),
        (_JUMP_EQUAL, 1, 0, os.getpid()),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("@HBBI", *instruction) for instruction in code)


def _refused(act: Callable[[], object]) -> bool:
    try:
        act()
    except PermissionError:
        return True
    return False
