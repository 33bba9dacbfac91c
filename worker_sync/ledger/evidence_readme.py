"""The README.md of an evidence pack, for who has never seen one."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from worker_sync.ledger.evidence import Manifest

#: Checks a pack in the current directory; a test runs it.
PROGRAM: Final = """\
import base64, hashlib, json, pathlib, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

name, _, key = sys.argv[1].split("+", 2)
text, _, lines = pathlib.Path("manifest.note").read_bytes().decode().rpartition("\\n\\n")
signatures = dict(line.removeprefix("\\u2014 ").split(" ") for line in lines.splitlines())
public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:])
public.verify(base64.b64decode(signatures[name])[4:], f"{text}\\n".encode())

data = pathlib.Path("manifest.json").read_bytes()
if text.splitlines()[2] != f"sha256 {hashlib.sha256(data).hexdigest()}":
    sys.exit("manifest.json is not the one that was signed")
files = json.loads(data)["files"]
there = {path.as_posix() for path in pathlib.Path().rglob("*") if not path.is_dir()}
if strays := there ^ {*files, "manifest.json", "manifest.note"}:
    sys.exit(f"missing, or added: {sorted(strays)}")
for path, file in files.items():
    if hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() != file["sha256"]:
        sys.exit(f"{path} is not the file that was signed")
print("Every file is as it was signed.")
"""


def readme(manifest: Manifest, keys: Sequence[str]) -> str:
    """The text; `keys` are the verifier keys that were trusted."""
    about = {name: getattr(manifest, name) for name in ("origin", "since", "until", "made_at", "first", "end")}
    text = (files("worker_sync.ledger") / "evidence_readme.md").read_text(encoding="utf-8")
    return text.format(**about, keys="\n".join(f"  `{key}`" for key in keys), program=PROGRAM)
