# SPDX-License-Identifier: GPL-2.0-or-later
"""One QEMU guest: started, listened to, asked, and always ended.

Everything runs in one thread: pump() moves what the guest and QEMU say into
per-channel lists, and every wait is a pump() loop with a deadline.  Channels are
inherited socket pairs, so there are no names that two runs could share.
"""

import ctypes
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import time

CHANNELS = ("ctl", "out", "log", "console", "qmp")

# A guest under emulation, on a busy host, is slow without being stuck: give the
# kernel's own watchdogs more room instead of ignoring what they say.
KERNEL_ARGS = [
    "console=ttyS0", "loglevel=4", "panic=-1", "rdinit=/init", "sysrq_always_enabled",
    "mitigations=off", "nokaslr", "rcupdate.rcu_cpu_stall_timeout=180", "watchdog_thresh=60",
    "workqueue.watchdog_thresh=0", "printk.devkmsg=on", "log_buf_len=4M", "random.trust_cpu=on",
    "tsc=reliable", "no_timer_check", "i8042.noaux", "i8042.nokbd", "cryptomgr.notests",
]


def die_with_parent():
    """A killed runner must not leave a guest behind (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Vm:
    def __init__(self, kernel_dir, initrd, disks, cpus, mem, accel, net=False, append="",
                 console_log=None):
        self.buffers = {c: b"" for c in CHANNELS}
        self.lines = {c: [] for c in CHANNELS}
        self.last_heard = time.monotonic()
        self.closed = set()
        self.selector = selectors.DefaultSelector()
        self.ours = {}
        self.stderr_path = console_log + ".qemu"
        self.console_log = open(console_log, "wb", buffering=0)
        theirs = {}
        for c in CHANNELS:
            self.ours[c], theirs[c] = socket.socketpair()
            self.ours[c].setblocking(False)
            self.selector.register(self.ours[c], selectors.EVENT_READ, c)

        cmd = [shutil.which("qemu-system-x86_64") or "qemu-system-x86_64",
               "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
               "-machine", "q35,hpet=off", "-smp", str(cpus), "-m", str(mem),
               "-kernel", os.path.join(kernel_dir, "vmlinuz"), "-initrd", initrd,
               "-device", "virtio-serial-pci,max_ports=8",
               "-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng"]
        if accel == "kvm":
            cmd += ["-accel", "kvm", "-cpu", "host"]
        else:
            # QEMU 7.2's emulated cmpxchg16b corrupts flags, which kills the
            # kernel's slab allocator; five-level tables only cost time.
            cmd += ["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,-cx16,-la57"]
        for c in CHANNELS:
            cmd += ["-chardev", f"socket,id={c},fd={theirs[c].fileno()},server=off"]
        cmd += ["-serial", "chardev:console", "-mon", "chardev=qmp,mode=control"]
        for n, c in enumerate(("ctl", "out", "log"), 1):
            cmd += ["-device", f"virtserialport,nr={n},chardev={c},name=lab.{c}"]
        for name, path, writable in disks:
            cmd += ["-drive", f"if=none,id={name},file={path},format=raw,discard=unmap,"
                    + ("cache=unsafe" if writable else "readonly=on"),
                    "-device", f"virtio-blk-pci,drive={name},serial={name}"]
        args = list(KERNEL_ARGS)
        if net:
            cmd += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"]
            args.append("lab.net=1")
        cmd += ["-append", " ".join(args + append.split())]

        self.command = cmd
        with open(self.stderr_path, "wb") as err:
            self.process = subprocess.Popen(
                cmd, stdin=subprocess.DEVNULL, stdout=err, stderr=err, start_new_session=True,
                preexec_fn=die_with_parent, pass_fds=[s.fileno() for s in theirs.values()])
        for s in theirs.values():
            s.close()
        self._send("qmp", '{"execute":"qmp_capabilities"}\n')

    def pump(self, timeout):
        """Reads what there is, for at most `timeout` seconds; true if something came."""
        got = False
        for key, _ in self.selector.select(max(timeout, 0)):
            c = key.data
            try:
                data = key.fileobj.recv(1 << 16)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                self.selector.unregister(key.fileobj)
                self.closed.add(c)
                continue
            got = True
            if c == "console":
                self.console_log.write(data)
            if c in ("ctl", "out", "log"):
                self.last_heard = time.monotonic()
            *lines, self.buffers[c] = (self.buffers[c] + data).split(b"\n")
            self.lines[c] += [line.decode(errors="replace").rstrip("\r") for line in lines]
        return got

    def alive(self):
        return self.process.poll() is None and "ctl" not in self.closed

    def take(self, channel):
        lines, self.lines[channel] = self.lines[channel], []
        return lines

    def _send(self, channel, text):
        s = self.ours[channel]
        s.setblocking(True)
        s.settimeout(10)
        try:
            s.sendall(text.encode())
        except OSError:
            pass
        s.setblocking(False)

    def tell(self, line):
        self._send("ctl", line + "\n")

    def qmp(self, execute, timeout=10, **arguments):
        """The reply's "return", or None: a stuck QEMU must not stick us."""
        self.take("qmp")
        self._send("qmp", json.dumps({"execute": execute, "arguments": arguments,
                                      "id": "lab"}) + "\n")
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and "qmp" not in self.closed:
            self.pump(min(0.2, deadline - time.monotonic()))
            for line in self.take("qmp"):
                reply = json.loads(line)
                if reply.get("id") == "lab":
                    return reply.get("return")
        return None

    def sysrq(self, key):
        """Asks a guest whose user space is gone, by a break on its serial line."""
        self.qmp("chardev-send-break", id="console")
        self._send("console", key)

    def listen(self, seconds):
        """Lets the guest talk until it has been silent for two seconds."""
        deadline = time.monotonic() + seconds
        quiet = time.monotonic() + 2
        while time.monotonic() < min(deadline, quiet):
            if self.pump(0.2):
                quiet = time.monotonic() + 2

    def end(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        while self.pump(0):
            pass
        for s in self.ours.values():
            s.close()
        self.selector.close()
        self.console_log.close()
