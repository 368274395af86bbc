"""A small server on this machine that speaks as much of the Hugging Face Hub's API as ``huggingface_hub`` asks for when a model is pushed
and loaded: repositories, branches, tags, commits (NDJSON), large files (LFS batch, upload, verify), tree, metadata, downloads by redirect
and in ranges, logins, and the error codes that the client reads.

A client is pointed to it by HF_ENDPOINT, in a process of its own, since the library reads its settings once. There is no Xet here: the
environment says so, and no file has a header of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_of_user"
OWNER = "user"


@dataclass
class Repository:
    """commits: the files of each, by its hash, oldest first. refs: branches and tags. gated, private: who may read."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        """Add a commit with these files to a branch. Returns its hash."""
        listed = "".join(f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(files.items()))
        commit = hashlib.sha1(f"{len(self.commits)} {message}\n{listed}".encode()).hexdigest()
        self.commits[commit] = files
        self.refs[branch] = commit
        self.messages.append(message)
        return commit

    def resolve(self, revision: str) -> str | None:
        """The commit that a revision stands for."""
        return revision if revision in self.commits else self.refs.get(revision)


class Hub:
    """The state of the server.

    requests: method and path of all requests so far.
    address, far: of the Hub, and of the host that its large files lie on.
    cut: how many of the next downloads of a large file end in the middle.
    replaced: bytes that are sent in place of those of a large file, by its digest; sizes and headers stay.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.cut = 0
        self.replaced: dict[str, bytes] = {}
        self.address = ""
        self.far = ""

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """Of a client whose cache is in ``home``, logged in with ``token`` or not."""
        settings = {"HF_ENDPOINT": self.address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_TOKEN": token or ""}
        settings |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1,localhost"}
        return {**settings, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_ETAG_TIMEOUT": "3", "HF_HUB_DOWNLOAD_TIMEOUT": "3"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None: ...

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def send(self, status: int, content: bytes = b"", headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if cut is None else content[:cut])
        if cut is not None:
            self.close_connection = True

    def answer(self, value: Any, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def refuse(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.send(status, json.dumps({"error": message}).encode(), {**headers, "Content-Type": "application/json"})

    @property
    def login(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def repository(self, name: str) -> Repository | None:
        """None after a refusal. To strangers the Hub does not say whether a private repository is there."""
        found = self.hub.repositories.get(name)
        if found is None or (found.private and not self.login):
            self.refuse(404 if self.login else 401, "RepoNotFound" if self.login else None, "Repository not found")
            return None
        if found.gated and not self.login:
            self.refuse(401, "GatedRepo", f"Access to model {name} is restricted.")
            return None
        return found

    def commit_of(self, repository: Repository, revision: str) -> str | None:
        commit = repository.resolve(revision)
        if commit is None:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.note()
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(match[1], unquote(match[2]), unquote(match[3]))
        elif match := re.fullmatch(r"/large/([0-9a-f]{64})", path):
            self.download(match[1])
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            if (repository := self.repository(match[1])) and (commit := self.commit_of(repository, unquote(match[2] or "main"))):
                files = [{"rfilename": name} for name in repository.commits[commit]]
                self.answer({"id": match[1], "sha": commit, "private": repository.private, "siblings": files, "tags": []})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            if (repository := self.repository(match[1])) and (commit := self.commit_of(repository, unquote(match[2]))):
                entries = [self.entry(name, content) for name, content in repository.commits[commit].items()]
                self.answer(entries)
        else:
            self.refuse(404, None, f"no such page {path}")

    def do_POST(self) -> None:
        path, content = self.note(), self.body()
        if path == "/api/validate-yaml":
            self.validate(json.loads(content)["content"])
        elif not self.login:
            self.refuse(401, None, "Invalid username or password.")
        elif path == "/api/repos/create":
            self.create(json.loads(content))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            objects = [self.upload_of(each, match[1]) for each in json.loads(content)["objects"]]
            self.answer({"transfer": "basic", "objects": objects})
        elif path == "/verify":
            wanted = json.loads(content)
            known = self.hub.large.get(wanted["oid"])
            self.send(200 if known is not None and len(known) == wanted["size"] else 404)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit|branch|tag)/([^/]+)", path):
            if repository := self.repository(match[1]):
                getattr(self, match[2])(match[1], repository, unquote(match[3]), content)
        else:
            self.refuse(404, None, f"no such page {path}")

    def do_PUT(self) -> None:
        path, content = self.note(), self.body()
        digest = path.removeprefix("/upload/")
        if hashlib.sha256(content).hexdigest() != digest:
            self.send(400)
            return
        self.hub.large[digest] = content
        self.send(200, headers={"ETag": f'"{digest}"'})

    def note(self) -> str:
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        self.hub.requests.append(f"{self.command} {parts.path}")
        return parts.path

    # ── repositories ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted.get('organization') or OWNER}/{wanted['name']}"
        if not name.startswith(f"{OWNER}/"):
            self.refuse(403, None, "You don't have the rights to create a model under this namespace")
        elif name in self.hub.repositories:
            self.answer({"error": "You already created this model repo", "url": f"{self.hub.address}/{name}"}, 409)
        else:
            private = wanted.get("private") or wanted.get("visibility") == "private"
            repository = self.hub.repositories[name] = Repository(private=bool(private))
            repository.commit("main", {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}, "initial commit")
            self.answer({"url": f"{self.hub.address}/{name}", "name": name, "id": name})

    def validate(self, text: str) -> None:
        """As the Hub does: YAML, and lists and names of the kinds that it shows; in the two forms that its clients ask for."""
        errors = []
        match = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
        found = yaml.safe_load(match[1]) if match else {}
        if not isinstance(found, dict):
            errors.append("metadata must be a mapping")
        elif found.get("license") == "nonsense":
            errors.append('"license" must be one of the known identifiers')
        if self.headers.get("Accept") == "text/plain":
            self.send(400 if errors else 200, "\n".join(f"- Error: {each}" for each in errors).encode())
            return
        self.answer({"errors": [{"message": each} for each in errors], "warnings": []}, 400 if errors else 200)

    def branch(self, _name: str, repository: Repository, branch: str, _content: bytes) -> None:
        if branch in repository.refs:
            self.answer({"error": "Reference already exists"}, 409)
            return
        repository.refs[branch] = repository.refs["main"]
        self.answer({}, 201)

    def tag(self, _name: str, repository: Repository, revision: str, content: bytes) -> None:
        if commit := self.commit_of(repository, revision):
            repository.refs[json.loads(content)["tag"]] = commit
            self.answer({})

    def preupload(self, _name: str, repository: Repository, revision: str, content: bytes) -> None:
        if (commit := self.commit_of(repository, revision)) is None:
            return
        there, files = repository.commits[commit], []
        for each in json.loads(content)["files"]:
            base64.b64decode(each["sample"])
            mode = "lfs" if each["path"].endswith((".safetensors", ".png", ".bin")) else "regular"
            same = self.entry(each["path"], there[each["path"]])["oid"] if each["path"] in there else None
            files.append({"path": each["path"], "uploadMode": mode, "shouldIgnore": False, "oid": same})
        self.answer({"files": files})

    def upload_of(self, wanted: dict[str, Any], _name: str) -> dict[str, Any]:
        if wanted["oid"] in self.hub.large:
            return wanted
        upload, verify = (f"{self.hub.address}/{part}" for part in (f"upload/{wanted['oid']}", "verify"))
        return {**wanted, "actions": {"upload": {"href": upload, "header": {}}, "verify": {"href": verify, "header": {}}}}

    def commit(self, name: str, repository: Repository, revision: str, content: bytes) -> None:
        if (parent := self.commit_of(repository, revision)) is None:
            return
        header, *operations = (json.loads(line) for line in content.splitlines())
        assert header["key"] == "header" and self.headers["Content-Type"] == "application/x-ndjson"
        files = dict(repository.commits[parent])
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                if value["oid"] not in self.hub.large:
                    self.refuse(400, None, f"{value['path']} was not uploaded")
                    return
                files[value["path"]] = self.hub.large[value["oid"]]
            else:
                assert operation["key"] == "deletedFile", operation
                del files[value["path"]]
        request = "create_pr" in self.query
        branch = f"refs/pr/{sum(ref.startswith('refs/pr') for ref in repository.refs) + 1}" if request else revision
        commit = repository.commit(branch, files, header["value"]["summary"])
        url = f"{self.hub.address}/{name}"
        found = {"commitUrl": f"{url}/commit/{commit}", "commitOid": commit, "success": True}
        self.answer(found | ({"pullRequestUrl": f"{url}/discussions/{branch.rpartition('/')[2]}"} if request else {}))

    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def entry(self, name: str, content: bytes) -> dict[str, Any]:
        """A line of a tree."""
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        digest = hashlib.sha256(content).hexdigest()
        large = {"lfs": {"oid": digest, "size": len(content), "pointerSize": 130}} if digest in self.hub.large else {}
        return {"type": "file", "oid": blob, "size": len(content), "path": name, **large}

    def resolve(self, name: str, revision: str, file: str) -> None:
        repository = self.repository(name)
        if repository is None or (commit := self.commit_of(repository, revision)) is None:
            return
        content = repository.commits[commit].get(file)
        headers = {"X-Repo-Commit": commit}
        if content is None:
            self.send(404, b"Entry not found", {**headers, "X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"})
            return
        entry = self.entry(file, content)
        if "lfs" not in entry:
            self.send(200, content, {**headers, "ETag": f'"{entry["oid"]}"'})
            return
        linked = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{entry["lfs"]["oid"]}"'}
        self.send(302, b"", {**headers, **linked, "Location": f"{self.hub.far}/large/{entry['lfs']['oid']}"})

    def download(self, digest: str) -> None:
        content = self.hub.replaced.get(digest, self.hub.large[digest])
        headers, status, first = {"ETag": f'"{digest}"', "Accept-Ranges": "bytes"}, 200, 0
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            self.hub.ranges.append(match[0])
            first, status = int(match[1]), 206
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        part, cut = content[first:], None
        if self.command == "GET" and self.hub.cut > 0:
            self.hub.cut -= 1
            cut = len(part) // 2
        self.send(status, part, headers, cut)


@contextmanager
def serving() -> Iterator[Hub]:
    """A fresh Hub while the context lasts."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": hub}))
    hub.address, hub.far = (f"http://{host}:{server.server_address[1]}" for host in ("127.0.0.1", "localhost"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
