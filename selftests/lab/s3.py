# SPDX-License-Identifier: GPL-2.0-or-later
"""The S3 server of a run: one radosgw on this host's loopback for all of its scenarios.

LAB_S3_ENDPOINT (http://127.0.0.1:PORT) names one that runs already, with the keys in
LAB_S3_ACCESS_KEY and LAB_S3_SECRET_KEY; otherwise the run starts its own and stops it at
its end.  A run has a bucket of its own, a scenario a prefix in it.
"""

import datetime
import hashlib
import hmac
import http.client
import os
import shutil
import socket
import subprocess
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
RGW = os.path.join(HERE, "../rgw")
REGION = "us-east-1"
START_S = 300
STOP_S = 60
REQUEST_S = 60
# What a guest of vm.py calls this host's loopback.
GATEWAY = "10.0.2.2"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def signed(method, host, path, access_key, secret_key):
    """The headers of a request without query and body, signed (AWS Signature Version 4)."""
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    body = hashlib.sha256(b"").hexdigest()
    headers = {"host": host, "x-amz-content-sha256": body, "x-amz-date": now}
    names = ";".join(headers)
    request = "\n".join([method, path, "", *(f"{k}:{v}" for k, v in headers.items()), "", names,
                         body])
    scope = f"{now[:8]}/{REGION}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", now, scope,
                      hashlib.sha256(request.encode()).hexdigest()])
    key = ("AWS4" + secret_key).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, "
                                f"SignedHeaders={names}, Signature={signature}")
    return headers


class Server:
    """A server with a bucket; `close` stops what was started here."""

    def __init__(self, directory):
        self.access_key = os.environ.get("LAB_S3_ACCESS_KEY", "TESTKEY")
        self.secret_key = os.environ.get("LAB_S3_SECRET_KEY", "TESTSECRET")
        self.directory = None
        self.endpoint = os.environ.get("LAB_S3_ENDPOINT", "").rstrip("/")
        # Bucket names are lower case, and those of two runs must differ.
        name = os.path.basename(directory) + "-" + os.urandom(4).hex()
        self.bucket = "".join(c if c.isalnum() else "-" for c in name.lower())
        if not self.endpoint:
            port = free_port()
            self.directory = os.path.join(directory, "rgw")
            self.log = os.path.join(directory, "rgw.log")
            with open(self.log, "wb") as log:
                up = subprocess.run([RGW, "up", self.directory, str(port)], timeout=START_S,
                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            if up.returncode:
                with open(self.log, "rb") as log:
                    said = log.read().decode(errors="replace")[-4000:]
                raise SystemExit(f"lab: selftests/rgw up failed ({up.returncode}):\n{said}")
            self.endpoint = f"http://127.0.0.1:{port}"
        try:
            self.create_bucket()
        except BaseException:
            self.close()
            raise

    def create_bucket(self):
        url = urllib.parse.urlsplit(self.endpoint)
        path = "/" + self.bucket
        connection = http.client.HTTPConnection(url.hostname, url.port or 80, timeout=REQUEST_S)
        connection.request("PUT", path, headers={
            **signed("PUT", url.netloc, path, self.access_key, self.secret_key),
            "content-length": "0"})
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        connection.close()
        if answer.status != 200:
            raise SystemExit(f"lab: PUT {self.endpoint}{path}: {answer.status} {body[:500]}")

    def environment(self, in_guest):
        """What lab.sh needs to know of it."""
        endpoint = self.endpoint
        if in_guest:
            url = urllib.parse.urlsplit(endpoint)
            if url.hostname in ("127.0.0.1", "localhost"):
                endpoint = f"{url.scheme}://{GATEWAY}:{url.port or 80}"
        return {"LAB_S3_ENDPOINT": endpoint, "LAB_S3_BUCKET": self.bucket,
                "LAB_S3_REGION": REGION, "LAB_S3_ACCESS_KEY": self.access_key,
                "LAB_S3_SECRET_KEY": self.secret_key}

    def close(self):
        if self.directory:
            subprocess.run([RGW, "down", self.directory], timeout=STOP_S,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None
