"""A small hub on the loopback: repositories, branches, commits, large files and access, for the hub's real client.

Its answers have the fields that the client reads, after the hub's API as `huggingface_hub` uses it.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_" + "t" * 34
OWNER = "ann"
LARGE_BYTES = 4096  # of a file that goes over the protocol for large ones


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    commits: dict = field(default_factory=dict)  # by hash, {path: bytes}
    branches: dict = field(default_factory=dict)  # by name, hash

    def commit(self, branch, files):
        new = hashlib.sha1(f"{len(self.commits)}{branch}".encode()).hexdigest()
        self.commits[new] = files
        self.branches[branch] = new
        return new

    def files(self, revision):
        """(commit, files) of a branch or a commit; (None, None) if there is none."""
        commit = self.branches.get(revision, revision)
        return (commit, self.commits[commit]) if commit in self.commits else (None, None)


class HubServer(ThreadingHTTPServer):
    """The hub. It answers for `repositories` and knows one user, who writes below OWNER alone."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.large = {}, {}
        self.seen = []  # (method, path)
        self.cut = {}  # by a part of a path: bytes of a body after which the connection breaks, each time
        self.refuse = {}  # by a part of a path: status

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # a client that goes away is part of the tests

    def asked(self, method, part):
        return [path for verb, path in self.seen if verb == method and part in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ROUTES = [
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("POST", r"/api/models/(.+/.+)/branch/(.+)", "branch"),
        ("POST", r"/api/models/(.+/.+)/preupload/(.+)", "preupload"),
        ("POST", r"/api/models/(.+/.+)/commit/(.+)", "commit"),
        ("GET", r"/api/models/(.+/.+)/tree/(.+)", "tree"),
        ("POST", r"/(.+/.+)\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/large/([0-9a-f]{64})", "put"),
        ("(?:GET|HEAD)", r"/(.+/.+)/resolve/([^/]+)/(.+)", "resolve"),
    ]

    def do_POST(self):
        self.route()

    do_GET = do_POST  # noqa: N815 - the names that the base class looks for
    do_HEAD = do_POST  # noqa: N815
    do_PUT = do_POST  # noqa: N815

    def route(self):
        hub, path = self.server, unquote(urlsplit(self.path).path)
        hub.seen.append((self.command, path))
        cut = next((n for part, n in hub.cut.items() if part in path), None)
        length = int(self.headers.get("Content-Length") or 0)
        if cut is not None and self.command in ("PUT", "POST"):
            self.rfile.read(min(cut, length))
            self.close_connection = True
            return self.connection.close()
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.body = self.chunks()
        else:
            self.body = self.rfile.read(length)
        for part, status in hub.refuse.items():
            if part in path:
                return self.reply(status, b"{}", {"X-Error-Message": "no"})
        for method, pattern, name in self.ROUTES:
            found = re.fullmatch(pattern, path)
            if found and re.fullmatch(method, self.command):
                return getattr(self, name)(*found.groups())
        return self.reply(404, b"{}")

    def chunks(self):
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    @property
    def known(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def may_write(self, name):
        """Whether the user may; otherwise the answer is given."""
        if not self.known:
            self.reply(401, b'{"error": "Invalid username or password."}')
        elif not name.startswith(f"{OWNER}/"):
            self.reply(403, b'{"error": "no rights"}', {"X-Error-Message": "You don't have the rights"})
        else:
            return True
        return False

    def repository(self, name):
        """The repository, if the user may read it; otherwise the answer is given, which does not tell a private one from none."""
        found = self.server.repositories.get(name)
        if found is None or (found.private and not self.known):
            self.reply(404 if self.known else 401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return None
        if found.gated and not self.known:
            self.reply(401, b"{}", {"X-Error-Code": "GatedRepo"})
            return None
        return found

    def create(self):
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or OWNER}/{asked['name']}"
        if not self.may_write(name):
            return None
        url = {"url": f"{self.server.url}/{name}"}
        if name in self.server.repositories:
            return self.json({**url, "error": "You already created this model repo"}, 409)
        made = self.server.repositories[name] = Repository(private=bool(asked.get("private")))
        made.commit("main", {".gitattributes": b"*.onnx filter=lfs\n"})
        return self.json(url)

    def validate(self):
        content = json.loads(self.body)["content"]
        data = yaml.safe_load(content.split("---\n")[1])
        if data.get("license") not in (None, "mit", "apache-2.0", "other"):
            return self.json({"errors": [{"message": '"license" must be one of [mit, ...]'}], "warnings": []}, 400)
        return self.json({"errors": [], "warnings": []})

    def branch(self, name, branch):
        repository = self.repository(name)
        if repository and self.may_write(name):
            if branch in repository.branches:
                return self.json({"error": "exists"}, 409)
            repository.branches[branch] = repository.branches["main"]
            self.json({})
        return None

    def preupload(self, name, revision):
        if self.repository(name) and self.may_write(name):
            files = json.loads(self.body)["files"]
            modes = {one["path"]: "lfs" if one["size"] >= LARGE_BYTES else "regular" for one in files}
            self.json({"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]})

    def batch(self, name):
        if self.repository(name) and self.may_write(name):
            asked = json.loads(self.body)
            objects = []
            for one in asked["objects"]:
                action = {"upload": {"href": f"{self.server.url}/large/{one['oid']}"}}
                objects.append({**one, **({} if one["oid"] in self.server.large else {"actions": action})})
            self.json({"transfer": "basic", "objects": objects})

    def put(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.reply(400, b"")
        self.server.large[oid] = self.body
        return self.reply(200, b"")

    def commit(self, name, revision):
        repository = self.repository(name)
        if not repository or not self.may_write(name):
            return
        files = dict(repository.files(revision)[1])
        for line in self.body.decode().splitlines():
            operation = json.loads(line)
            kind, value = operation["key"], operation["value"]
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            elif kind == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(revision, files)
        self.json({"success": True, "commitOid": commit, "commitUrl": f"{self.server.url}/{name}/commit/{commit}"})

    def tree(self, name, revision):
        repository = self.repository(name)
        if repository:
            files = repository.files(revision)[1]
            rows = [{"type": "file", "path": p, "size": len(data), "oid": "0"} for p, data in files.items()]
            self.json(rows)

    def resolve(self, name, revision, file):
        repository = self.repository(name)
        if not repository:
            return None
        commit, files = repository.files(revision)
        if commit is None:
            return self.reply(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if file not in files:
            return self.reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        data = files[file]
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": commit}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        return self.reply(206 if start else 200, data[start:], headers)

    def json(self, value, status=200):
        self.reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def reply(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            cut = next((n for part, n in self.server.cut.items() if part in self.path), len(body))
            self.wfile.write(body[:cut])
            if cut < len(body):
                self.close_connection = True

    def log_message(self, *_):
        pass


def started():
    """A hub that answers; whoever starts it shuts it down."""
    server = HubServer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server
