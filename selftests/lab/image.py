# SPDX-License-Identifier: GPL-2.0-or-later
"""What a lab guest boots from.

Three parts, so that an edited program is in a guest within a second:
 - a base cpio per kernel: busybox and the modules the lab needs;
 - an overlay cpio per run: our programs, the guest's scripts, the scenarios;
 - a read-only ext4 disk with tools (fio, mkfs, ...) and every shared library,
   which costs a guest only the pages it touches.
The first and the last are cached by the content they are made from.
"""

import fcntl
import hashlib
import lzma
import os
import shutil
import stat
import subprocess
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))

# Loaded at boot, in this order: ublk_drv needs configfs on some kernels.
BOOT_MODULES = ["configfs", "ublk_drv", "virtio_blk"]
# There for a scenario's modprobe, and for the kernel's own request_module().
MODULES = BOOT_MODULES + [
    "virtio_net", "virtio_console", "virtio_pci", "dm-mod", "dm-flakey", "dm-log-writes",
    "dm-delay", "dm-snapshot", "dm-thin-pool", "null_blk", "loop", "nbd", "xfs", "btrfs",
    "overlay", "scsi_debug", "mq-deadline", "kyber-iosched", "bfq", "crc32c_generic",
    "libcrc32c", "ublk", "vsock", "fuse",
]

TOOLS_NEEDED = ["fio", "mke2fs", "e2fsck", "dmsetup", "blockdev", "losetup", "blkdiscard"]
TOOLS_WANTED = ["strace", "gdb", "curl", "bpftool", "udevadm", "mkfs.xfs", "xfs_repair",
                "debugfs", "tune2fs", "dumpe2fs", "resize2fs", "fsfreeze", "fstrim", "flock",
                "xfs_io", "openssl", "xxhsum", "cmp", "perf", "taskset", "setpriv", "timeout",
                "s3backer", "nbd-client"]
LINKS = {
    "mkfs.ext4": "mke2fs", "fsck.ext4": "e2fsck", "systemd-udevd": "udevadm",
}


def note(message):
    print("# " + message, flush=True)


def find_program(name):
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/bin:/bin"
    return shutil.which(name, path=path)


def digest(*parts):
    h = hashlib.sha256()
    for part in parts:
        h.update(str(part).encode() + b"\0")
    return h.hexdigest()[:16]


def file_id(path):
    st = os.stat(path)
    return f"{path}:{st.st_size}:{st.st_mtime_ns}"


class Cpio:
    """A writer of the "newc" format, the one the kernel unpacks."""

    def __init__(self, stream):
        self.stream = stream
        self.inode = 0
        self.seen = set()

    def _entry(self, name, mode, data=b"", rdev=(0, 0)):
        self.inode += 1
        encoded = name.encode() + b"\0"
        fields = [self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, rdev[0], rdev[1],
                  len(encoded), 0]
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + encoded
        self.stream.write(head + b"\0" * (-len(head) % 4))
        self.stream.write(data + b"\0" * (-len(data) % 4))

    def directory(self, name):
        name = name.strip("/")
        if not name or name in self.seen:
            return
        self.directory(os.path.dirname(name))
        self.seen.add(name)
        self._entry(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o644):
        self.directory(os.path.dirname(name))
        self._entry(name.strip("/"), stat.S_IFREG | mode, data)

    def symlink(self, name, target):
        self.directory(os.path.dirname(name))
        self._entry(name.strip("/"), stat.S_IFLNK | 0o777, target.encode())

    def node(self, name, kind, major, minor):
        self.directory(os.path.dirname(name))
        self._entry(name.strip("/"), kind | 0o600, b"", (major, minor))

    def close(self):
        self._entry("TRAILER!!!", 0)
        # Archives are concatenated: the kernel looks for the next one at a
        # 4-byte boundary, and 512 is what cpio itself pads to.
        self.stream.write(b"\0" * (-self.stream.tell() % 512))


class Cached:
    """Makes the file at `path` once, also when several runs want it at once."""

    def __init__(self, path):
        self.path = path

    def make(self, build):
        if os.path.exists(self.path):
            return self.path
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with open(self.path + ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(self.path):
                partial = self.path + ".partial"
                build(partial)
                os.rename(partial, self.path)
        return self.path


def modules_in_order(kernel_dir, release):
    """{module file below lib/modules/RELEASE} of MODULES and all they need."""
    base = os.path.join(kernel_dir, "lib/modules", release)
    deps, by_name = {}, {}
    with open(os.path.join(base, "modules.dep")) as f:
        for line in f:
            path, needs = line.strip().split(":")
            deps[path] = needs.split()
            name = os.path.basename(path).split(".ko")[0].replace("-", "_")
            by_name[name] = path
    wanted, todo = [], [by_name[m.replace("-", "_")] for m in MODULES
                        if m.replace("-", "_") in by_name]
    while todo:
        path = todo.pop(0)
        if path not in wanted:
            wanted.append(path)
            todo += deps[path]
    return base, wanted


def base_cpio(cache, kernel_dir):
    with open(os.path.join(kernel_dir, "release")) as f:
        release = f.read().strip()
    busybox = find_program("busybox")
    if not busybox:
        raise SystemExit("lab: busybox is missing: install busybox-static")
    key = digest(release, MODULES, file_id(busybox), file_id(__file__))

    def build(partial):
        base, modules = modules_in_order(kernel_dir, release)
        with tempfile.TemporaryDirectory() as tmp, open(partial, "wb") as out:
            tree = os.path.join(tmp, "lib/modules", release)
            for path in modules:
                plain = os.path.join(tree, path.split(".ko")[0] + ".ko")
                os.makedirs(os.path.dirname(plain), exist_ok=True)
                with open(os.path.join(base, path), "rb") as f:
                    data = f.read()
                if path.endswith(".xz"):
                    data = lzma.decompress(data)
                elif not path.endswith(".ko"):
                    raise SystemExit(f"lab: {path}: unknown module compression")
                with open(plain, "wb") as f:
                    f.write(data)
            # The dependencies were written for compressed names.
            subprocess.run([find_program("depmod"), "-b", tmp, release], check=True,
                           stderr=subprocess.DEVNULL)
            cpio = Cpio(out)
            for name in ["dev", "proc", "sys", "run", "tmp", "mnt", "root", "usr", "etc",
                         "var/tmp", "opt/bin"]:
                cpio.directory(name)
            # The kernel opens this one before devtmpfs can be mounted.
            cpio.node("dev/console", stat.S_IFCHR, 5, 1)
            with open(busybox, "rb") as f:
                cpio.file("bin/busybox", f.read(), 0o755)
            applets = subprocess.run([busybox, "--list"], check=True, capture_output=True,
                                     text=True).stdout.split()
            for applet in set(applets) - {"busybox"}:
                cpio.symlink("bin/" + applet, "/bin/busybox")
            cpio.symlink("sbin", "bin")
            cpio.symlink("lib64", "/usr/lib64")
            cpio.symlink("lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu")
            cpio.symlink("lib/systemd", "/usr/lib/systemd")
            for root, _, files in os.walk(tree):
                for name in files:
                    full = os.path.join(root, name)
                    with open(full, "rb") as f:
                        cpio.file(os.path.relpath(full, tmp), f.read())
            cpio.file("lab/boot-modules", ("\n".join(BOOT_MODULES) + "\n").encode())
            cpio.close()

    return Cached(os.path.join(cache, "images", f"base-{release}-{key}.cpio")).make(build)


def libraries(programs):
    """The shared libraries and loaders `programs` need, by path on the host."""
    found = {}
    for program in programs:
        out = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
        for line in out.splitlines():
            words = line.split()
            if "=>" in words:
                if "not found" in line:
                    raise SystemExit(f"lab: {program}: {line.strip()}")
                words = words[2:]
            if words and words[0].startswith("/"):
                found[words[0]] = None
    return list(found)


def is_elf(path):
    try:
        with open(path, "rb") as f:
            return f.read(4) == b"\x7fELF"
    except OSError:
        return False


def binaries(build):
    """Our programs: LAB_BINARIES (names below the build dir, or paths), else all
    executables found in the build dir but the unit tests."""
    listed = os.environ.get("LAB_BINARIES", "").split()
    if listed:
        paths = [os.path.join(build, p) for p in listed]
        missing = [p for p in paths if not os.path.exists(p)]
        if missing:
            raise SystemExit("lab: not built: " + " ".join(missing))
        return paths
    paths = []
    for root, dirs, files in os.walk(build):
        skipped = (os.path.join(build, "lab"), os.path.join(build, "selftests/unit"))
        dirs[:] = sorted(d for d in dirs if os.path.join(root, d) not in skipped)
        for name in sorted(files):
            path = os.path.join(root, name)
            if (os.access(path, os.X_OK) and not name.endswith((".so", ".o", ".a"))
                    and not os.path.islink(path) and is_elf(path)):
                paths.append(path)
    return paths


def tools_disk(cache, programs):
    """The tools disk that also carries the libraries of `programs`."""
    tools = {}
    for name in TOOLS_NEEDED + TOOLS_WANTED + os.environ.get("LAB_TOOLS", "").split():
        path = find_program(name)
        if path and is_elf(path):
            tools[name] = os.path.realpath(path)
        elif name in TOOLS_NEEDED:
            raise SystemExit(f"lab: {name} is missing on this host (make deps)")
    libs = libraries(list(tools.values()) + programs)
    key = digest(*sorted(f"{n}={file_id(p)}" for n, p in tools.items()),
                 *sorted(file_id(p) for p in libs), LINKS, file_id(__file__))

    def build(partial):
        with tempfile.TemporaryDirectory() as tmp:
            for d in ("bin", "lib64", "lib/x86_64-linux-gnu", "lib/systemd", "share", "local"):
                os.makedirs(os.path.join(tmp, d))
            for name, path in tools.items():
                shutil.copy(path, os.path.join(tmp, "bin", name))
            for name, target in LINKS.items():
                if target in tools:
                    os.symlink(target, os.path.join(tmp, "bin", name))
            if "udevadm" in tools:
                os.symlink("../../bin/udevadm", os.path.join(tmp, "lib/systemd/systemd-udevd"))
            os.symlink("bin", os.path.join(tmp, "sbin"))
            for path in libs:
                # Whatever directory the host keeps it in, the guest's
                # loader finds it in the standard one.
                name = os.path.basename(path)
                shutil.copy(path, os.path.join(tmp, "lib/x86_64-linux-gnu", name))
                if name.startswith("ld-linux"):
                    shutil.copy(path, os.path.join(tmp, "lib64", name))
            size = sum(os.path.getsize(os.path.join(r, f)) for r, _, fs in os.walk(tmp)
                       for f in fs if not os.path.islink(os.path.join(r, f)))
            with open(partial, "wb") as f:
                f.truncate((size * 5 // 4 + (16 << 20)) & ~0xfffff)
            subprocess.run([find_program("mke2fs"), "-q", "-F", "-t", "ext4", "-O", "^has_journal",
                            "-L", "tools", "-d", tmp, partial], check=True,
                           stdout=subprocess.DEVNULL)

    path = Cached(os.path.join(cache, "images", f"tools-{key}.ext4")).make(build)
    return path, sorted(tools)


def initrd(path, cache, kernel_dir, programs, tools, scenario_dirs):
    """Writes the run's initrd at `path`: the cached base, then the overlay."""
    base = base_cpio(cache, kernel_dir)
    applets = set(subprocess.run([find_program("busybox"), "--list"], capture_output=True,
                                 text=True).stdout.split())
    with open(path, "wb") as out:
        with open(base, "rb") as f:
            shutil.copyfileobj(f, out, 1 << 20)
        cpio = Cpio(out)

        def add(name, source, mode=0o755):
            with open(source, "rb") as f:
                cpio.file(name, f.read(), mode)

        add("init", os.path.join(HERE, "guest/init"))
        for name in ("supervisor", "report"):
            add("lab/" + name, os.path.join(HERE, "guest", name))
        for name in ("lab.sh", "store.sh"):
            add("lab/" + name, os.path.join(HERE, name))
        # busybox's shell prefers its own applets to anything in PATH.
        real = [t for t in tools if t in applets]
        cpio.file("lab/tools.sh", "".join(
            f'{t}()\n{{\n\tcommand /usr/bin/{t} "$@"\n}}\n' for t in real).encode())
        for directory in scenario_dirs:
            for name in sorted(os.listdir(directory)):
                full = os.path.join(directory, name)
                if os.path.isfile(full):
                    add("lab/scenarios/" + name, full)
        for program in programs:
            add("opt/bin/" + os.path.basename(program), program)
        cpio.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
        cpio.file("etc/group", b"root:x:0:\ndisk:x:6:\nnogroup:x:65534:\n")
        cpio.file("etc/hosts", b"127.0.0.1 localhost\n10.0.2.2 host\n")
        cpio.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files\n")
        cpio.file("etc/mke2fs.conf", b"[defaults]\n\tbase_features = sparse_super,large_file,"
                  b"filetype,resize_inode,dir_index,ext_attr\n\tblocksize = 4096\n"
                  b"\tinode_size = 256\n\tinode_ratio = 16384\n[fs_types]\n\text4 = {\n"
                  b"\t\tfeatures = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,"
                  b"dir_nlink,extra_isize\n\t}\n")
        cpio.symlink("etc/mtab", "/proc/self/mounts")
        cpio.close()
