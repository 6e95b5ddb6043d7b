"""The Hugging Face Hub, played by a small server on loopback: files, folders, revisions, and every way in which it fails."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from probe import checkpoints
from probe.base.errors import ProbeError
from probe.checkpoints import containers
from tests.originals import main_d, main_g, same

constants = pytest.importorskip("huggingface_hub.constants")
SHA = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Files of one repository, me/dcgan, and what stands for a gated one and an unreachable one."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files, self.asked = files, list[str]()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def reply(self, code: int, body: bytes = b"", **headers: str) -> None:
                self.send_response(code)
                for key, value in {"Content-Length": str(len(body)), "X-Repo-Commit": SHA, **headers}.items():
                    self.send_header(key.replace("_", "-"), value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                owner.asked.append(self.path)
                path = self.path.partition("?")[0]
                if "/closed" in path:
                    self.reply(403, b"{}", X_Error_Code="GatedRepo", X_Error_Message="gated")
                elif "me/dcgan" not in path:
                    self.reply(404, b"{}", X_Error_Code="RepoNotFound")
                elif path.startswith("/api/models/me/dcgan"):
                    revision = path.partition("/revision/")[2] or "main"
                    if revision not in ("main", SHA, "v1"):
                        self.reply(404, b"{}", X_Error_Code="RevisionNotFound")
                        return
                    siblings = [{"rfilename": name, "size": len(data)} for name, data in owner.files.items()]
                    about = {"id": "me/dcgan", "modelId": "me/dcgan", "sha": SHA, "siblings": siblings, "tags": []}
                    self.reply(200, json.dumps(about).encode(), Content_Type="application/json")
                else:
                    revision, _, name = path.removeprefix("/me/dcgan/resolve/").partition("/")
                    if revision not in ("main", SHA, "v1"):
                        self.reply(404, b"", X_Error_Code="RevisionNotFound")
                    elif name not in owner.files:
                        self.reply(404, b"", X_Error_Code="EntryNotFound")
                    else:
                        self.reply(200, owner.files[name], ETag=f'"{abs(hash(owner.files[name])):040x}"')

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    torch.save(main_g().state_dict(), tmp_path / "g")
    torch.save(main_d().state_dict(), tmp_path / "d")
    files = {"generator.pth": (tmp_path / "g").read_bytes(), "discriminator.pth": (tmp_path / "d").read_bytes()}
    made = Hub({"README.md": b"# A DCGAN", "config.json": b"{}", **files})
    monkeypatch.setenv("HF_ENDPOINT", made.address)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(constants, name, str(tmp_path / "cache"), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True, raising=False)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize("spec", ["hf:me/dcgan", "hf:me/dcgan@v1"])
def test_a_repository_is_a_folder(served: Hub, spec: str) -> None:
    gan = checkpoints.load(spec)
    same(gan, main_g(), main_d())
    assert gan.provenance["source"] == spec
    assert not any("README" in path for path in served.asked)


@pytest.mark.parametrize("at", ["", "@v1", f"@{SHA}"])
def test_one_file_and_its_discriminator(served: Hub, at: str) -> None:
    gan = checkpoints.load(f"hf:me/dcgan{at}/generator.pth", disc=f"hf:me/dcgan{at}/discriminator.pth")
    same(gan, main_g(), main_d())
    assert gan.provenance["checkpoint"] == "generator.pth"


def test_what_was_fetched_opens_without_the_network(served: Hub) -> None:
    checkpoints.load("hf:me/dcgan/generator.pth")
    served.server.shutdown()
    served.server.server_close()
    same(checkpoints.load("hf:me/dcgan/generator.pth"), main_g())


FAILURES: dict[str, tuple[str, str]] = {
    "unknown": ("hf:me/other", r"hf:me/other: no such repository, or a private one; check the name, or set HF_TOKEN"),
    "unknown file's": ("hf:me/other/a.pth", r"no such repository, or a private one"),
    "gated": ("hf:me/closed", r"hf:me/closed: the repository is gated; ask for access on its page, then set HF_TOKEN"),
    "revision": ("hf:me/dcgan@v2", r"hf:me/dcgan@v2: no such revision; check what stands behind @"),
    "file": ("hf:me/dcgan/a.pth", r"hf:me/dcgan/a.pth: no such file in the repository"),
    "name": ("hf:dcgan", r"hf:dcgan: expected hf:owner/name, hf:owner/name@revision or hf:owner/name/file"),
    "climbing": ("hf:me/dcgan/../../a.pth", r"expected hf:owner/name"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_are_one_line(served: Hub, name: str) -> None:
    spec, message = FAILURES[name]
    refused(spec, message)


def test_no_weights_in_it(served: Hub) -> None:
    for name in ("generator.pth", "discriminator.pth"):
        del served.files[name]
    refused("hf:me/dcgan", r"no weights in this repository \(found README.md, config.json\)")


def test_offline(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the Hub's package waits before it tries again
    served.server.shutdown()
    served.server.server_close()
    for spec in ("hf:me/dcgan", "hf:me/dcgan/generator.pth"):
        refused(spec, r"the Hub cannot be reached, and nothing of it is in the cache; go online, or pass a local file")


def test_the_missing_extra(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "find_spec", lambda name: None)
    refused("hf:me/dcgan", r"needs the package huggingface_hub; install it with pip install 'dcgan-probe\[hf\]'")


def refused(spec: str, message: str, **options: Any) -> None:
    with pytest.raises(ProbeError, match=message) as error:
        checkpoints.load(spec, **options)
    assert "\n" not in str(error.value)
