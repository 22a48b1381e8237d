"""A proxy before an S3 server, with faults: faults.py PORT OF_PORT

Of the answers about photos every 11th is 503 (SlowDown), every 13th ends in the middle of its body, every 17th is no answer. /quiet ends
that; /vanish has the next photo deleted before it is read; /expire has all answers be that the token has expired.
"""

import http.client
import itertools
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3

port, upstream = int(sys.argv[1]), int(sys.argv[2])
s3 = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{upstream}", region_name="us-east-1")
state = {"mode": "faults", "vanished": 0}
counts = {"throttled": 0, "cut": 0, "lost": 0, "answers": 0}
number, lock = itertools.count(1), threading.Lock()
EXPIRED = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>The token has expired</Message></Error>"


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, status, body, headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do(self):
        name = self.path.strip("/")
        if name == "faults":
            return self.say(200, f"{counts}\n".encode())
        if name in ("quiet", "vanish", "expire"):
            state["mode"], state["vanished"] = name, 0
            return self.say(200, b"")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_photo = self.command == "GET" and "/photos/" in self.path and "?" not in self.path
        with lock:
            counts["answers"] += 1
            turn = next(number) if is_photo else 1
            gone = is_photo and state["mode"] == "vanish" and state["vanished"] == 0
            state["vanished"] += gone
        if is_photo and state["mode"] == "expire":
            return self.say(400, EXPIRED)
        if is_photo and state["mode"] == "faults" and turn % 11 == 0:
            counts["throttled"] += 1
            return self.say(503, b"<Error><Code>SlowDown</Code></Error>")
        if is_photo and state["mode"] == "faults" and turn % 17 == 0:
            counts["lost"] += 1
            self.close_connection = True
            return
        server = http.client.HTTPConnection("127.0.0.1", upstream)
        kept = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        if gone:
            bucket, key = self.path.lstrip("/").split("/", 1)
            s3.delete_object(Bucket=bucket, Key=key)
        server.request(self.command, self.path, body, kept)
        answer = server.getresponse()
        content = answer.read()
        server.close()
        dropped = ("transfer-encoding", "connection")
        if self.command != "HEAD":
            dropped += ("content-length",)
        headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in dropped]
        if self.command == "HEAD":
            self.send_response(answer.status)
            for name, value in headers:
                self.send_header(name, value)
            return self.end_headers()
        if is_photo and state["mode"] == "faults" and turn % 13 == 0:
            counts["cut"] += 1
            self.send_response(answer.status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        self.say(answer.status, content, headers)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do


class Server(ThreadingHTTPServer):
    request_queue_size = 256


Server(("127.0.0.1", port), Proxy).serve_forever()
