"""Attempts to get out of a decoder process, each as the text of a Python program; see `hostile_worker`.

An attempt raises OSError when the kernel refuses it. Outside of the jail the kernel lets it through: it succeeds, or
fails for a reason of its own, such as a file that does not exist.
"""

FILES = {
    "read a file": 'os.close(os.open("/etc/passwd", os.O_RDONLY))',
    "read a file by the old call": 'os.close(call("open", b"/etc/passwd", os.O_RDONLY))',
    "list a folder": 'os.listdir("/")',
    "read the environment of the parent": 'os.close(os.open(f"/proc/{os.getppid()}/environ", os.O_RDONLY))',
    "write to the parent's memory": 'os.close(os.open(f"/proc/{os.getppid()}/mem", os.O_RDWR))',
    "create a file": 'os.close(os.open("FOLDER/new", os.O_WRONLY | os.O_CREAT)); os.unlink("FOLDER/new")',
    "truncate a file": 'os.truncate("FOLDER/history", 0)',
    "append to a file": 'os.close(os.open("FOLDER/history", os.O_WRONLY | os.O_APPEND))',
    "rename a file": 'os.rename("FOLDER/history", "FOLDER/renamed"); os.rename("FOLDER/renamed", "FOLDER/history")',
    "link to a file": 'os.link("FOLDER/history", "FOLDER/link"); os.unlink("FOLDER/link")',
    "make a symbolic link": 'os.symlink("/", "FOLDER/symbolic"); os.unlink("FOLDER/symbolic")',
    "make a folder": 'os.mkdir("FOLDER/folder"); os.rmdir("FOLDER/folder")',
    "change a mode": 'os.chmod("FOLDER/history", 0o600)',
    "change the folder": 'os.chdir("/")',
    "ask for a file's size": 'os.stat("/etc/passwd")',
    "delete a file": 'os.unlink("FOLDER/missing")',
    "watch files": 'os.close(call("inotify_init1", 0))',
}
CONNECTIONS = {
    "an IPv4 socket": "socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()",
    "an IPv6 socket": "socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()",
    "a Unix socket": "socket.socket(socket.AF_UNIX).close()",
    "a netlink socket": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()",
    "a pair of sockets": "[end.close() for end in socket.socketpair()]",
    "connect": 'call("connect", 0, struct.pack("!HHIQ", 0x0200, 80, 0x7F000001, 0), 16)',
    "send a datagram": 'call("sendto", 0, b"x", 1, 0, struct.pack("!HHIQ", 0x0200, 53, 0x7F000001, 0), 16)',
    "send a handle": 'call("sendmsg", 0, (ctypes.c_char * 64)(), 0)',
    "listen": 'call("listen", 0, 1)',
    "a pipe": "[os.close(end) for end in os.pipe()]",
    "anonymous memory with a handle": 'os.close(os.memfd_create("x"))',
    "shared memory": 'call("shmctl", call("shmget", 0, 4096, 0o1600), 0, None)',
    "a message queue": 'call("msgctl", call("msgget", 0, 0o600), 0, None)',
    "an event handle": "os.close(os.eventfd(0))",
}
PROCESSES = {
    "fork": "child = os.fork()\nif not child: os._exit(0)\nos.waitpid(child, 0)",
    "start a program": 'subprocess.run(["/bin/true"], check=True)',
    "execute": 'os.execv("/nonexistent", ["x"])',
    "signal the parent": "os.kill(os.getppid(), 0)",
    "signal a thread of the parent": 'call("tgkill", os.getppid(), os.getppid(), 0)',
    "queue a signal": 'call("sigqueue", os.getppid(), 0, None)',
    "a handle of the parent": "os.close(os.pidfd_open(os.getppid()))",
    "trace a process": 'call("ptrace", 2, os.getpid(), None, None)',
    "read the memory of a process": 'call("process_vm_readv", os.getpid(), None, 0, None, 0, 0)',
    "change limits": "resource.prlimit(0, resource.RLIMIT_CORE, (0, 0))",
    "change the priority": "os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0))",
    "change process options": 'call("prctl", 15, b"name", 0, 0, 0)',
    "change the personality": 'call("personality", 0xFFFFFFFF)',
    "become another user": "os.setuid(os.getuid())",
    "wait for a process": "os.waitpid(-1, os.WNOHANG)",
}
MEMORY = {
    "executable memory": 'call("mmap", None, 4096, 7, 34, -1, 0)',
    "make memory executable": 'call("mprotect", ctypes.c_void_p(call("mmap", None, 4096, 3, 34, -1, 0)), 4096, 5)',
}
OF_ROOT = {
    "a namespace": 'call("unshare", 0x00020000)',
    "mount": 'call("mount", b"none", b"/mnt", b"tmpfs", 0, None)',
    "another root": 'call("chroot", b"/")',
    "a device": 'call("mknod", b"FOLDER/device", 0o20600, 259)',
    "the clock": 'now = (ctypes.c_long * 2)()\ncall("clock_gettime", 0, now)\ncall("clock_settime", 0, now)',
    "the host name": 'call("sethostname", b"x", 1)',
    "kernel log": 'call("klogctl", 10, None, 0)',
    "signal another user": "os.kill(1, 0)",
    "execute a handle": 'call("fexecve", 0, (ctypes.c_char_p * 1)(), (ctypes.c_char_p * 1)())',
}
"""What the kernel refuses to an ordinary user outside of the jail as well."""

X86_64 = {
    "io_uring": 'call("syscall", 425, 1, (ctypes.c_char * 120)())',
    "a BPF program": 'call("syscall", 321, 0, None, 0)',
    "the key ring": 'call("syscall", 250, 0, -3, 0)',
    "page faults of its own": 'call("syscall", 323, 0)',
    "performance counters": 'call("syscall", 298, (ctypes.c_char * 128)(), 0, -1, -1, 0)',
    "open by the new call": 'call("syscall", 437, -100, b"/etc/passwd", (ctypes.c_long * 3)(), 24)',
    "a process by clone3": 'call("syscall", 435, (ctypes.c_char * 88)(), 88)',
    "load a module": 'call("syscall", 175, None, 0, b"")',
    "the other table of system calls": 'call("syscall", 0x40000000 + 41, 2, 1, 0)',
}
"""By their numbers; the kernel or its build may lack them outside of the jail too."""

LET_THROUGH_OUTSIDE = {**FILES, **CONNECTIONS, **PROCESSES, **MEMORY}
ALL = {**LET_THROUGH_OUTSIDE, **OF_ROOT, **X86_64}
