# SPDX-License-Identifier: GPL-2.0-or-later
"""Scenarios: what their headers say, and what the kernel's log may not.

A header line is "# lab: key=value ..."; allow-log takes the rest of its line;
allow-log@6.17 holds for that series only.
"""

import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
SCENARIOS = os.path.join(HERE, "scenarios")

SKIP = 77
NEXT_PHASE = 88

COMPLAINT = re.compile(
    r"BUG:|WARNING:|Oops|general protection|Kernel panic|blocked for more than"
    r"|possible circular locking|possible recursive locking|inconsistent lock state"
    r"|suspicious RCU|detected stalls|self-detected stall|soft lockup|hard LOCKUP"
    r"|I/O error|EXT4-fs (error|warning)|EXT4-fs \(.*\): (error|warning|.*corrupt)|JBD2.*(error|abort)"
    r"|XFS.*(corruption|error|shutting down)|critical \w+ error|refcount_t|list_(add|del) corruption"
    r"|UBSAN|KASAN|Bad page|Out of memory|oom-kill|segfault at|traps: |unable to handle")
# A complaint is shown with what follows it, until the trace ends.
TRACE_END = re.compile(r"---\[ end trace")
TRACE_LINES = 40


class Scenario:
    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path)[:-len(".sh")]
        self.timeout = 120
        self.timeout_full = None
        self.cpus = 2
        self.mem = 1024
        self.phases = 1
        self.boot_own = False
        self.net = False
        self.store = ""
        self.nbdkit = ""
        self.kernels = []
        self.allow_log = []
        self.host = True
        self.append = ""
        with open(path) as f:
            for line in f:
                if not line.startswith("#"):
                    break
                match = re.match(r"#\s*lab:\s*(.*)", line)
                if match:
                    self._parse(match.group(1).strip())

    def _parse(self, text):
        rest = re.search(r"(?:^|\s)(allow-log|append)(?:@([\d.]+))?=(.*)$", text)
        if rest:
            if rest.group(1) == "append":
                self.append = rest.group(3).strip()
            else:
                self.allow_log.append((rest.group(2), re.compile(rest.group(3).strip())))
            text = text[:rest.start()]
        for word in text.split():
            key, _, value = word.partition("=")
            if key in ("timeout", "cpus", "mem", "phases"):
                setattr(self, key, int(value))
            elif key == "timeout-full":
                self.timeout_full = int(value)
            elif key == "boot" and value in ("own", "shared"):
                self.boot_own = value == "own"
            elif key in ("net", "host") and value in ("yes", "no"):
                setattr(self, key, value == "yes")
            elif key == "store" and value == "rgw":
                self.store = value
            elif key == "nbdkit" and re.fullmatch(r"\d+[MG]", value):
                self.nbdkit = value
            elif key == "kernels":
                self.kernels = value.split(",")
            else:
                raise SystemExit(f"lab: {self.path}: unknown header {word!r}")

    def wants_kernel(self, release):
        """kernels= lists series ("6.12"), or bounds (">=7.0", "<=6.17")."""
        def number(text):
            return [int(n) for n in re.match(r"[\d.]+", text).group(0).strip(".").split(".")]

        have = number(release)
        for want in self.kernels:
            bound = re.match(r"(>=|<=)?(.*)", want)
            limit = number(bound.group(2))
            cut = have[:len(limit)]
            if {None: cut == limit, ">=": cut >= limit, "<=": cut <= limit}[bound.group(1)]:
                return True
        return not self.kernels

    def allowed(self, line, release):
        """Did the scenario declare this message, for this kernel?"""
        return any(rx.search(line) and (not series or (release + ".").startswith(series + "."))
                   for series, rx in self.allow_log)

    def complaints(self, log, release):
        """The lines of `log` (kernel messages of this scenario) that condemn it."""
        shown, remaining, found = [], 0, 0
        for line in log:
            bad = COMPLAINT.search(line) and not self.allowed(line, release)
            if bad:
                found += 1
                remaining = TRACE_LINES if re.search(r"BUG|WARN|Oops|blocked|stall|protection",
                                                     line) else 1
            if remaining > 0:
                shown.append(line)
                remaining -= 1
                if TRACE_END.search(line):
                    remaining = 0
        return found, shown


def all_scenarios(extra_dirs=()):
    found = {}
    for directory in [SCENARIOS, *extra_dirs]:
        for name in sorted(os.listdir(directory)):
            if name.endswith(".sh"):
                scenario = Scenario(os.path.join(directory, name))
                found[scenario.name] = scenario
    return found
