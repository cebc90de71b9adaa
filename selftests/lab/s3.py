# SPDX-License-Identifier: GPL-2.0-or-later
"""The S3 server of a run: one radosgw on this host's loopback for all of its scenarios.

LAB_RGW=DIR names one that `selftests/rgw up DIR` has started; without it the run starts its
own and stops it at its end.  A run has a bucket of its own, a scenario a prefix in it.
"""

import os
import shutil
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
RGW = os.path.abspath(os.path.join(HERE, "../rgw"))
NBDKIT = os.path.abspath(os.path.join(HERE, "../bench/nbdkit-s3"))
UP_S = 600
ASK_S = 120
# What a guest of vm.py calls this host's loopback.
LOOPBACK, GATEWAY = "127.0.0.1", "10.0.2.2"


class Server:
    """A server with a bucket; `close` stops what was started here."""

    def __init__(self, directory):
        self.own = ""
        self.nbdkit_dir = os.path.join(directory, "nbdkit")
        self.nbdkit_port = {}
        self.directory = os.environ.get("LAB_RGW", "")
        # Names of buckets are lower case, and those of two runs must differ.
        name = os.path.basename(directory) + "-" + os.urandom(4).hex()
        self.bucket = "".join(c if c.isalnum() else "-" for c in name.lower())
        if not self.directory:
            self.own = self.directory = os.path.join(directory, "rgw")
        try:
            if self.own:
                self.run(UP_S, RGW, "up", self.own)
            self.run(ASK_S, RGW, "bucket", self.directory, self.bucket)
            with open(os.path.join(self.directory, "env")) as f:
                self.env = dict(line.strip().split("=", 1) for line in f)
        except BaseException:
            self.close()
            raise
        self.endpoint = self.env["GFS_TEST_S3"]

    @staticmethod
    def run(seconds, *command):
        answer = subprocess.run(command, timeout=seconds, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if answer.returncode:
            raise SystemExit("lab: " + answer.stderr.strip())
        return answer.stdout

    def environment(self, in_guest):
        """What store.sh needs to know of it."""
        endpoint = self.endpoint.replace(LOOPBACK, GATEWAY) if in_guest else self.endpoint
        return {"LAB_S3_ENDPOINT": endpoint, "LAB_S3_BUCKET": self.bucket,
                "LAB_S3_REGION": "us-east-1", "LAB_S3_ACCESS_KEY": self.env["GFS_TEST_S3_ACCESS"],
                "LAB_S3_SECRET_KEY": self.env["GFS_TEST_S3_SECRET"]}

    def nbdkit(self, size, in_guest):
        """A disk of nbdkit's S3 plugin on this server; nothing where it is not installed."""
        if not shutil.which("nbdkit"):
            return {}
        if size not in self.nbdkit_port:
            directory = f"{self.nbdkit_dir}-{size}"
            self.nbdkit_port[size] = self.run(ASK_S, NBDKIT, "up", directory, self.directory,
                                              size).strip()
        host = GATEWAY if in_guest else LOOPBACK
        return {"LAB_NBDKIT": f"{host} {self.nbdkit_port[size]}"}

    def close(self):
        for size in self.nbdkit_port:
            self.run(ASK_S, NBDKIT, "down", f"{self.nbdkit_dir}-{size}")
        self.nbdkit_port = {}
        if self.own:
            self.run(ASK_S, RGW, "down", self.own)
            self.own = ""
