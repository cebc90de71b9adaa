# SPDX-License-Identifier: GPL-2.0-or-later
"""The S3 server of a run: one radosgw on this host's loopback for all of its scenarios.

LAB_RGW=DIR names one that `selftests/rgw up DIR` has started; without it the run starts its
own and stops it at its end.  A run has a bucket of its own, a scenario a prefix in it.
"""

import os
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))
RGW = os.path.abspath(os.path.join(HERE, "../rgw"))
UP_S = 600
ASK_S = 120
# What a guest of vm.py calls this host's loopback.
LOOPBACK, GATEWAY = "127.0.0.1", "10.0.2.2"


class Server:
    """A server with a bucket; `close` stops what was started here."""

    def __init__(self, directory):
        self.own = ""
        self.directory = os.environ.get("LAB_RGW", "")
        # Names of buckets are lower case, and those of two runs must differ.
        name = os.path.basename(directory) + "-" + os.urandom(4).hex()
        self.bucket = "".join(c if c.isalnum() else "-" for c in name.lower())
        if not self.directory:
            self.own = self.directory = os.path.join(directory, "rgw")
        try:
            if self.own:
                self.run(UP_S, "up", self.own)
            self.run(ASK_S, "bucket", self.directory, self.bucket)
            with open(os.path.join(self.directory, "env")) as f:
                self.env = dict(line.strip().split("=", 1) for line in f)
        except BaseException:
            self.close()
            raise
        self.endpoint = self.env["GFS_TEST_S3"]

    @staticmethod
    def run(seconds, *command):
        answer = subprocess.run([RGW, *command], timeout=seconds, stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if answer.returncode:
            raise SystemExit("lab: " + answer.stderr.strip())

    def environment(self, in_guest):
        """What store.sh needs to know of it."""
        endpoint = self.endpoint.replace(LOOPBACK, GATEWAY) if in_guest else self.endpoint
        return {"LAB_S3_ENDPOINT": endpoint, "LAB_S3_BUCKET": self.bucket,
                "LAB_S3_REGION": "us-east-1", "LAB_S3_ACCESS_KEY": self.env["GFS_TEST_S3_ACCESS"],
                "LAB_S3_SECRET_KEY": self.env["GFS_TEST_S3_SECRET"]}

    def close(self):
        if self.own:
            self.run(ASK_S, "down", self.own)
            self.own = ""
