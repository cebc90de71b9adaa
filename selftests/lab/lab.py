#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab: runs scenarios on real kernels, in QEMU guests or on this host.

Output is TAP; the exit status is 0 only if no scenario failed.  Every wait has a
deadline: a hang of the guest, of its kernel, or of QEMU is a failed scenario with
what could be learnt about it, and the remaining ones get a fresh guest.
"""

import argparse
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import image  # noqa: E402 - after the setting above
import s3  # noqa: E402
import scenario as scenarios  # noqa: E402
import vm as vms  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
DISKS = ("cache", "store", "log")
DISK_BYTES = 8 << 30
FIGURE = re.compile(r"# figure (\S+?)=(\S+)((?: \w+=\S+)*)\s*$")

# Beyond what the guest itself allows a scenario: its report of a hang, and the
# end of the output.
GRACE_S = 60
# A guest beats every 5 s; a busy host may well starve an emulated one for a while.
HEARTBEAT_S = float(os.environ.get("LAB_HEARTBEAT", "90"))
BOOT_S = 240
# Emulation at times loses against a kernel that patches its own text while it boots.  Nothing of ours
# has run by then.
BOOT_TRIES = 3


def note(message):
    for line in str(message).splitlines() or [""]:
        print("# " + line, flush=True)


def number(text):
    try:
        return float(text)
    except ValueError:
        return text


class Result:
    def __init__(self, scenario):
        self.scenario = scenario
        self.name = scenario.name
        self.status = "not ok"
        self.reason = ""
        self.seconds = 0.0
        self.output = []
        self.figures = []
        self.complaints = []

    def take_output(self, line, verbose):
        self.output.append(line)
        match = FIGURE.match(line)
        if match:
            fields = dict(w.split("=", 1) for w in match.group(3).split())
            figure = {"name": match.group(1), "median": match.group(2), **fields}
            self.figures.append({k: number(v) for k, v in figure.items()})
        if line.startswith("# ") or verbose:
            print(line if line.startswith("#") else "# " + line, flush=True)

    def as_json(self):
        return {"name": self.name, "status": self.status, "reason": self.reason,
                "seconds": round(self.seconds, 2), "figures": self.figures,
                "kernel_log": self.complaints}


class Slot:
    """A place among the guests this machine can run at once: with more, all of
    them would miss their deadlines together."""

    def __init__(self, cache):
        self.dir = os.path.join(cache, "slots")
        self.count = int(os.environ.get("LAB_SLOTS") or max(1, os.cpu_count() or 1))
        self.held = None

    def __enter__(self):
        os.makedirs(self.dir, exist_ok=True)
        deadline = time.monotonic() + float(os.environ.get("LAB_SLOT_WAIT", "3600"))
        told = False
        while True:
            for n in range(self.count):
                f = open(os.path.join(self.dir, str(n)), "w")
                try:
                    fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.held = f
                    return self
                except BlockingIOError:
                    f.close()
            if time.monotonic() > deadline:
                raise SystemExit("lab: no free slot: other runs hold them all")
            if not told:
                note(f"all {self.count} guest slots are taken, waiting for one")
                told = True
            time.sleep(0.5)

    def __exit__(self, *_):
        self.held.close()


class Lab:
    def __init__(self, args, build, cache):
        self.args = args
        self.build = build
        self.cache = cache
        self.scale = float(os.environ.get("LAB_TIMEOUT_SCALE", "1"))
        self.results = []
        self.boots = []
        self.boot_complaints = []
        self.accel_answer = None
        self.s3 = None
        runs = os.path.join(build, "lab")
        os.makedirs(runs, exist_ok=True)
        self.sweep(runs)
        self.dir = tempfile.mkdtemp(prefix="run-", dir=runs)
        self.lock = open(os.path.join(self.dir, "lock"), "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)

    @staticmethod
    def sweep(runs):
        """Removes what killed runs left; a live one holds its lock, a kept one has none."""
        for name in os.listdir(runs):
            lock = os.path.join(runs, name, "lock")
            # A run that is just beginning has no lock file yet, or an unlocked one.
            if os.path.exists(lock) and time.time() - os.path.getmtime(lock) > 60:
                with open(lock) as f:
                    try:
                        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        continue
                    shutil.rmtree(os.path.dirname(lock), ignore_errors=True)

    # --- what all scenarios share -------------------------------------------------

    def store(self, scenario):
        """Where its objects are: "file" or "rgw"."""
        return scenario.store or self.args.store

    def result(self, scenario):
        """A scenario that runs on a store it does not ask for says so in its name."""
        result = Result(scenario)
        if self.store(scenario) != (scenario.store or "file"):
            result.name += "@" + self.store(scenario)
        return result

    def environment(self, scenario, phase_state):
        env = {"LAB_FULL": "1" if self.args.full else "0", "LAB_KERNEL": self.release,
               "LAB_EMULATED": "1" if self.accel == "tcg" else "0",
               "LAB_SEED": str(self.args.seed), "LAB_PHASES": str(scenario.phases)}
        env["LAB_STORE"] = self.store(scenario)
        if env["LAB_STORE"] == "rgw":
            env.update(self.s3.environment(not self.args.host))
            if scenario.nbdkit:
                env.update(self.s3.nbdkit(scenario.nbdkit, not self.args.host))
        if self.args.keep:
            env["LAB_KEEP"] = "1"
        for item in self.args.env:
            name, _, value = item.partition("=")
            env[name] = value
        env.update(phase_state)
        return env

    def timeout(self, scenario):
        seconds = scenario.timeout
        if self.args.full:
            seconds = scenario.timeout_full or seconds
        return int(seconds * self.scale)

    def judge(self, result, status, kernel_log):
        """Settles a result from the exit status and the kernel's log."""
        result.complaints = []
        if status == "0":
            result.status = "ok"
        elif status == str(scenarios.SKIP):
            result.status = "skip"
            reasons = [line[7:] for line in result.output if line.startswith("# SKIP ")]
            result.reason = reasons[-1] if reasons else "not possible here"
        elif not result.reason:
            result.reason = {"hung": "hung"}.get(status, f"exit status {status}")
        if status in ("hung", "crashed"):
            note(f"kernel log of {result.scenario.name}, last lines:")
            note("\n".join(kernel_log[-150:]))
        found, lines = result.scenario.complaints(kernel_log, self.release)
        if found:
            result.complaints = lines
            note(f"the kernel complains during {result.scenario.name}:")
            note("\n".join(lines))
            if result.status != "not ok":
                result.status = "not ok"
                result.reason = f"{found} complaints in the kernel log"

    def report(self, result):
        n = len(self.results) + 1
        name = result.name
        self.results.append(result)
        if result.status == "not ok" and not self.args.verbose:
            quiet = [line for line in result.output if not line.startswith("# ")]
            if quiet:
                note("output:")
                note("\n".join(quiet[-100:]))
        if result.status == "skip":
            print(f"ok {n} - {name} # SKIP {result.reason}", flush=True)
        elif result.status == "ok":
            print(f"ok {n} - {name} # {result.seconds:.1f} s", flush=True)
        else:
            print(f"not ok {n} - {name} # {result.seconds:.1f} s, {result.reason}", flush=True)

    # --- guests ---------------------------------------------------------------------

    def fetch_kernel(self):
        out = subprocess.run([os.path.join(HERE, "fetch-kernel"), self.args.kernel],
                             stdout=subprocess.PIPE, text=True, timeout=1800,
                             env={**os.environ, "LAB_CACHE": self.cache})
        if out.returncode:
            raise SystemExit(f"lab: no kernel {self.args.kernel}")
        self.kernel_dir = out.stdout.strip()
        with open(os.path.join(self.kernel_dir, "release")) as f:
            self.release = f.read().strip()
        with open(os.path.join(self.kernel_dir, "package")) as f:
            self.package = " ".join(f.read().replace("Package: ", "").split("\nVersion: ")
                                    ).strip().replace("\n", ", ")

    def prepare_image(self, chosen):
        programs = image.binaries(self.build)
        self.tools_path, tools = image.tools_disk(self.cache, programs)
        self.initrd = os.path.join(self.dir, "initrd")
        dirs = list(dict.fromkeys([scenarios.SCENARIOS]
                                  + [os.path.dirname(s.path) for s in chosen]))
        image.initrd(self.initrd, self.cache, self.kernel_dir, programs, tools, dirs)

    def probe_accel(self):
        """KVM only where an ordinary kernel really boots with it: /dev/kvm may be
        there and fail.  The answer holds until the host reboots."""
        forced = os.environ.get("LAB_ACCEL")
        if forced:
            return forced
        if not os.access("/dev/kvm", os.R_OK | os.W_OK):
            return "tcg"
        with open("/proc/sys/kernel/random/boot_id") as f:
            boot = f.read().strip()
        qemu = image.find_program("qemu-system-x86_64") or ""
        answer = os.path.join(self.cache, "accel-" + image.digest(boot, image.file_id(qemu)))
        if os.path.exists(answer):
            with open(answer) as f:
                return f.read().strip()
        with Slot(self.cache):
            guest = self.start_guest(1, 512, False, "", "kvm")
            deadline = time.monotonic() + 30
            works = False
            while time.monotonic() < deadline and guest.alive() and not works:
                guest.pump(0.2)
                works = any(line.startswith("HELLO") for line in guest.take("ctl"))
                if any('"STOP"' in line for line in guest.take("qmp")):
                    break
            guest.end()
        accel = "kvm" if works else "tcg"
        note(f"KVM {'works' if works else 'does not boot a kernel'} here: using {accel}")
        if works:
            self.remember_accel(answer, accel)
        else:
            # Our own image may be what did not boot: believe it only after a
            # boot by emulation.
            self.accel_answer = answer
        return accel

    def remember_accel(self, answer, accel):
        with open(answer + f".{os.getpid()}", "w") as f:
            f.write(accel + "\n")
        os.rename(f.name, answer)

    def start_guest(self, cpus, mem, net, append, accel):
        disks = [("tools", self.tools_path, False)]
        for name in DISKS:
            path = os.path.join(self.dir, name + ".raw")
            if not os.path.exists(path):
                with open(path, "wb") as f:
                    f.truncate(DISK_BYTES)
            disks.append((name, path, True))
        if self.args.content:
            disks.append(("content", self.content_disk(), False))
        console = os.path.join(self.dir, f"console-{len(self.boots)}.log")
        return vms.Vm(self.kernel_dir, self.initrd, disks, cpus, mem, accel, net, append, console)

    def content_disk(self):
        """The directory of --content as a read-only ext4 disk: /dev/lab/content."""
        path = os.path.join(self.dir, "content.ext4")
        if not os.path.exists(path):
            size = int(subprocess.run(["du", "-sxk", self.args.content], check=True,
                                      capture_output=True, text=True).stdout.split()[0])
            subprocess.run([image.find_program("mke2fs"), "-q", "-F", "-t", "ext4", "-O",
                            "^has_journal", "-d", self.args.content, path,
                            f"{size * 5 // 4 + 65536}k"], check=True,
                           stdout=subprocess.DEVNULL)
        return path

    def fresh_disks(self):
        for name in DISKS:
            path = os.path.join(self.dir, name + ".raw")
            if os.path.exists(path):
                os.unlink(path)

    def boot(self, scenario):
        """A guest that said HELLO, or None with the reason told."""
        for _ in range(BOOT_TRIES):
            guest = self.boot_once(scenario)
            if guest:
                return guest
        return None

    def boot_once(self, scenario):
        cpus = self.args.cpus or scenario.cpus
        mem = self.args.mem or scenario.mem
        start = time.monotonic()
        guest = self.start_guest(cpus, mem, self.net(scenario), scenario.append, self.accel)
        guest.kernel_log = []
        guest.sequence = -1
        guest.key = self.key(scenario)
        guest.tainted = ""
        deadline = start + BOOT_S * self.scale
        while guest.alive() and time.monotonic() < deadline:
            guest.pump(0.5)
            if any(line.startswith("HELLO") for line in guest.take("ctl")):
                guest.boot_seconds = time.monotonic() - start
                self.boots.append(round(guest.boot_seconds, 2))
                if self.accel_answer:
                    self.remember_accel(self.accel_answer, self.accel)
                    self.accel_answer = None
                if self.args.verbose:
                    note(f"booted in {guest.boot_seconds:.1f} s ({cpus} cpus, {mem} MiB)")
                return guest
        note(f"the guest did not come up within {time.monotonic() - start:.0f} s; console:")
        self.show_console(guest)
        guest.end()
        return None

    def show_console(self, guest, lines=60):
        guest.pump(0.2)
        with open(guest.console_log.name, "rb") as f:
            text = f.read().decode(errors="replace").splitlines()
        with open(guest.stderr_path, "rb") as f:
            text += f.read().decode(errors="replace").splitlines()
        note("\n".join(text[-lines:]))

    def net(self, scenario):
        return scenario.net or self.store(scenario) == "rgw"

    def key(self, scenario):
        """Scenarios of one key share a guest."""
        return (self.args.cpus or scenario.cpus, self.args.mem or scenario.mem, self.net(scenario),
                scenario.append, scenario.name if scenario.boot_own or scenario.phases > 1 else "")

    def read_kernel_log(self, guest):
        """New kernel messages; a reader that restarted repeats old ones."""
        fresh = []
        for line in guest.take("log"):
            match = re.match(r"(\d+),(\d+),(\d+),[^;]*;(.*)", line)
            if not match:
                continue
            number = int(match.group(2))
            if number > guest.sequence:
                guest.sequence = number
                fresh.append(f"[{int(match.group(3)) / 1e6:11.6f}] {match.group(4)}")
        guest.kernel_log += fresh
        return fresh

    def rescue(self, guest, why):
        """The guest's user space is silent: ask its kernel, then QEMU."""
        note(f"{why}; asking the kernel by sysrq")
        # 9: everything on the console, which is all that is left to read.
        for key in "9wl":
            guest.sysrq(key)
            guest.listen(15)
        registers = guest.qmp("human-monitor-command", **{"command-line": "info registers -a"})
        if registers:
            note("\n".join(line for line in registers.splitlines()
                           if line.startswith(("CPU", "RIP", "EIP"))))
        self.show_console(guest, 200)

    def run_phase(self, guest, scenario, phase, state, result):
        """The exit status as text: a number, "hung" or "crashed"."""
        timeout = self.timeout(scenario)
        for name, value in self.environment(scenario, state).items():
            guest.tell(f"ENV {name}={shlex.quote(value)}")
        self.read_kernel_log(guest)
        guest.kernel_log = []
        guest.last_heard = time.monotonic()
        guest.tell(f"RUN {scenario.name} {phase} {timeout}")
        end = f"lab: end {scenario.name} {phase}"
        deadline = time.monotonic() + timeout + GRACE_S
        status, out_ended, log_ended, marker_deadline = None, False, False, None
        while True:
            guest.pump(0.2)
            for line in guest.take("out"):
                if line == end:
                    out_ended = True
                else:
                    result.take_output(line, self.args.verbose)
            log_ended = any(line.endswith(end) for line in self.read_kernel_log(guest)) or log_ended
            for line in guest.take("ctl"):
                verb, _, rest = line.partition(" ")
                if verb == "DONE":
                    status = rest.split()[-1]
                    marker_deadline = time.monotonic() + 15
                elif verb == "DIRTY":
                    guest.tainted = rest
                elif verb == "STATE":
                    name, _, value = rest.partition("=")
                    state[name] = value.strip("'")
            now = time.monotonic()
            if status is not None and ((out_ended and log_ended) or now > marker_deadline):
                return status
            if not guest.alive():
                result.reason = "the guest crashed"
                note("the guest ended by itself (a panic?); console:")
                self.show_console(guest, 120)
                return "crashed"
            if status is None and now > deadline:
                result.reason = "hung, and the guest could not say so"
                self.rescue(guest, f"no result {GRACE_S} s after the deadline")
                self.read_kernel_log(guest)
                return "hung"
            if status is None and now - guest.last_heard > HEARTBEAT_S * self.scale:
                result.reason = "the guest stopped"
                self.rescue(guest, f"no heartbeat for {HEARTBEAT_S * self.scale:.0f} s")
                self.read_kernel_log(guest)
                return "hung"

    def run_in_guests(self, chosen):
        chosen = sorted(chosen, key=lambda s: str(self.key(s)))
        guest = None
        try:
            for scenario in chosen:
                result = self.result(scenario)
                if not scenario.wants_kernel(self.release):
                    result.status, result.reason = "skip", f"not for kernel {self.release}"
                    self.report(result)
                    continue
                start = time.monotonic()
                state, phase, log = {}, 1, []
                while True:
                    if guest and (guest.key != self.key(scenario) or not guest.alive()
                                  or guest.tainted):
                        guest.end()
                        guest = None
                    if guest is None:
                        if phase == 1:
                            self.fresh_disks()
                        guest = self.boot(scenario)
                        if guest is None:
                            status = "crashed"
                            result.reason = "the guest did not boot"
                            break
                        self.check_boot(guest)
                    status = self.run_phase(guest, scenario, phase, state, result)
                    log += guest.kernel_log
                    if status != str(scenarios.NEXT_PHASE):
                        break
                    # Nothing is flushed or told: as if the power went.
                    guest.end()
                    guest = None
                    phase += 1
                    if phase > scenario.phases:
                        status, result.reason = "88", f"asked for phase {phase}, has {scenario.phases}"
                        break
                result.seconds = time.monotonic() - start
                self.judge(result, status, log)
                if guest and guest.tainted and result.status == "ok":
                    result.status, result.reason = "not ok", guest.tainted
                if guest and result.status == "not ok" and (status in ("hung", "crashed")
                                                            or result.complaints):
                    guest.tainted = "failed before"
                self.report(result)
        finally:
            if guest:
                guest.end()

    def check_boot(self, guest):
        """Complaints from before the first scenario are told, once a run."""
        guest.listen(0.1)
        _, lines = NoAllowance().complaints(self.read_kernel_log(guest), self.release)
        if lines and not self.boot_complaints:
            note(f"complaints of {self.release} while booting:")
            note("\n".join(lines))
        self.boot_complaints = self.boot_complaints or lines

    # --- the host itself -------------------------------------------------------------

    def host_disks(self):
        devices = []
        for name in DISKS:
            path = os.path.join(self.dir, name + ".raw")
            with open(path, "wb") as f:
                f.truncate(DISK_BYTES)
            device = subprocess.run([image.find_program("losetup"), "--find", "--show",
                                     "--direct-io=on", path], check=True, capture_output=True,
                                    text=True, timeout=60).stdout.strip()
            os.symlink(device, os.path.join(self.dir, "disk-" + name))
            devices.append(device)
        return devices

    def run_on_host(self, chosen):
        if os.geteuid() != 0 or not os.path.exists("/dev/ublk-control"):
            raise SystemExit("lab: HOST=1 needs root and ublk_drv (modprobe ublk_drv)")
        programs = image.binaries(self.build)
        shell = image.find_program("busybox")
        shell = [shell, "sh"] if shell else ["sh"]
        path = os.pathsep.join(list(dict.fromkeys(os.path.dirname(p) for p in programs))
                               + [os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
        devices = self.host_disks()
        # Unix sockets live here, and their paths are short by law.
        self.host_tmp = tempfile.mkdtemp(prefix="lab-")
        try:
            for scenario in chosen:
                result = self.result(scenario)
                if not scenario.host or scenario.phases > 1 or scenario.append:
                    result.status, result.reason = "skip", "needs a guest"
                elif not scenario.wants_kernel(self.release):
                    result.status, result.reason = "skip", f"not for kernel {self.release}"
                else:
                    self.run_one_on_host(scenario, result, shell, path)
                self.report(result)
        finally:
            shutil.rmtree(self.host_tmp, ignore_errors=True)
            for device in devices:
                subprocess.run([image.find_program("losetup"), "-d", device], timeout=60)

    def run_one_on_host(self, scenario, result, shell, path):
        env = {**os.environ, **self.environment(scenario, {}), "LAB": HERE, "LAB_HOST": "1",
               "LAB_NAME": scenario.name, "LAB_RUN": self.dir, "PHASE": "1", "PATH": path,
               "LAB_TMP": os.path.join(self.host_tmp, "t"), "LAB_MNT": os.path.join(self.dir, "mnt")}
        log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(log, 0, os.SEEK_END)
        start = time.monotonic()
        with subprocess.Popen(shell + [scenario.path], env=env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/",
                              start_new_session=True) as process:
            os.set_blocking(process.stdout.fileno(), False)
            pending, status = b"", None
            deadline = start + self.timeout(scenario)
            while status is None:
                time.sleep(0.05)
                code = process.poll()
                pending += process.stdout.read() or b""
                *lines, pending = pending.split(b"\n")
                for line in lines:
                    result.take_output(line.decode(errors="replace"), self.args.verbose)
                if code is not None:
                    status = str(code)
                elif time.monotonic() > deadline:
                    report = subprocess.run([os.path.join(HERE, "guest/report")], env=env,
                                            capture_output=True, text=True, timeout=60)
                    note(report.stdout.replace("# ", ""))
                    os.killpg(process.pid, signal.SIGTERM)
                    try:
                        process.wait(30)
                    except subprocess.TimeoutExpired:
                        os.killpg(process.pid, signal.SIGKILL)
                    status = "hung"
        messages = []
        try:
            while True:
                head, _, text = os.read(log, 8192).decode(errors="replace").partition(";")
                messages.append(f"[{int(head.split(',')[2]) / 1e6:11.6f}] "
                                + text.split("\n")[0])
        except (BlockingIOError, OSError):
            os.close(log)
        result.seconds = time.monotonic() - start
        self.judge(result, status, messages)

    # --- the whole run -----------------------------------------------------------------

    def run(self, chosen):
        start = time.monotonic()
        print("TAP version 13", flush=True)
        print(f"1..{len(chosen)}", flush=True)
        if any(self.store(s) == "rgw" for s in chosen):
            self.s3 = s3.Server(self.dir)
            note(f"S3 server {self.s3.endpoint}, bucket {self.s3.bucket}")
        if self.args.host:
            self.accel, self.release, self.package = "host", os.uname().release, ""
            self.run_on_host(chosen)
        else:
            self.fetch_kernel()
            self.prepare_image(chosen)
            self.accel = self.probe_accel()
            note(f"kernel {self.release} ({self.package}), {self.accel}")
            with Slot(self.cache):
                self.run_in_guests(chosen)
        seconds = time.monotonic() - start
        failed = [r for r in self.results if r.status == "not ok"]
        skipped = [r for r in self.results if r.status == "skip"]
        boots = f", {len(self.boots)} boots of {min(self.boots):.1f} s" if self.boots else ""
        note(f"{len(self.results) - len(failed) - len(skipped)} passed, {len(failed)} failed, "
             f"{len(skipped)} skipped in {seconds:.1f} s{boots}")
        if self.args.json:
            with open(self.args.json, "w") as f:
                json.dump({"kernel": self.release, "package": self.package, "accel": self.accel,
                           "commit": commit(), "command": " ".join(map(shlex.quote, sys.argv)),
                           "seconds": round(seconds, 2), "boots": self.boots,
                           "boot_kernel_log": self.boot_complaints,
                           "tests": [r.as_json() for r in self.results]}, f, indent=1)
                f.write("\n")
        return 1 if failed else 0

    def clean(self):
        if self.s3:
            self.s3.close()
        if self.args.keep:
            os.unlink(self.lock.name)
            note(f"kept {self.dir}")
        else:
            shutil.rmtree(self.dir, ignore_errors=True)


class NoAllowance(scenarios.Scenario):
    """No scenario: nothing is declared."""

    def __init__(self):  # pylint: disable=super-init-not-called
        self.allow_log = []


def commit():
    out = subprocess.run(["git", "-C", HERE, "describe", "--always", "--dirty", "--abbrev=12"],
                         capture_output=True, text=True)
    return out.stdout.strip() or "unknown"


def default_cache():
    return os.path.abspath(os.environ.get("LAB_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "glidefs-lab"))


def choose(available, wanted):
    if not wanted:
        return list(available.values())
    chosen = []
    for name in wanted.replace(",", " ").split():
        if "*" in name:
            pattern = re.compile(name.replace("*", ".*") + "$")
            match = [s for s in available.values() if pattern.match(s.name)]
        else:
            match = [available[name]] if name in available else []
        if not match:
            raise SystemExit(f"lab: no scenario {name} (--list shows them)")
        chosen += [s for s in match if s not in chosen]
    return chosen


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kernel", default="6.12", help="series or exact version")
    parser.add_argument("--tests", default="", help="names, comma-separated, * allowed")
    parser.add_argument("--cpus", type=int, help="instead of what scenarios ask for")
    parser.add_argument("--mem", type=int, metavar="MB")
    parser.add_argument("--host", action="store_true", help="on this host, without a guest")
    parser.add_argument("--full", action="store_true", help="full sizes and counts")
    parser.add_argument("--reduced", action="store_false", dest="full", help="(default)")
    parser.add_argument("--store", choices=("file", "rgw"),
                        default=os.environ.get("LAB_STORE") or "file",
                        help="where scenarios keep objects, unless they say so themselves")
    parser.add_argument("--keep", action="store_true", help="keep disks and console logs")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--verbose", "-v", action="store_true", help="show all output")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--scenarios", action="append", default=[], metavar="DIR",
                        help="a further directory of scenarios")
    parser.add_argument("--content", metavar="DIR",
                        help="files for the guest: a read-only disk /dev/lab/content")
    parser.add_argument("--build", default=os.environ.get("O") or os.path.join(HERE, "../../build"),
                        metavar="O", help="the build directory")
    args = parser.parse_args()

    available = scenarios.all_scenarios([os.path.abspath(d) for d in args.scenarios])
    if args.list:
        for s in available.values():
            kernels = " kernels=" + ",".join(s.kernels) if s.kernels else ""
            print(f"{s.name} timeout={s.timeout} phases={s.phases}{kernels}")
        return 0
    chosen = choose(available, args.tests)
    # A run that is told to stop takes its guests along.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    lab = Lab(args, os.path.abspath(args.build), default_cache())
    try:
        return lab.run(chosen)
    finally:
        lab.clean()


if __name__ == "__main__":
    sys.exit(main())
