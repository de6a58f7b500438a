"""Scripts that packages bring: they start with the Python of the place where they will lie, and RECORDs say so."""

import base64
import csv
import hashlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path

_SHEBANG = re.compile(rb"#!(?:/bin/sh\n'''exec' [^\n]*\n' '''\n|[^\n]*python[^\n]*\n)")


def settle_scripts(scripts: Path, site: Path, python: Path) -> None:
    """Rewrite the scripts that uv put into the folder `scripts`, and the RECORDs of `site`, in one order.

    Scripts of other installers are left as they are: no RECORD of uv's names them.
    """
    for record in _of_uv(site):
        with record.open(newline="", encoding="utf-8") as lines:
            rows = [row for row in csv.reader(lines) if row]
        for row in rows:
            path = Path(os.path.normpath(site / row[0]))
            if path.parent == scripts and path.is_file():
                content = _rewritten(path, python)
                row[1:] = [_record_digest(content), str(len(content))]
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(sorted(rows))
        record.unlink()
        record.write_text(out.getvalue(), encoding="utf-8")


def _of_uv(site: Path) -> Iterator[Path]:
    for record in sorted(site.glob("*.dist-info/RECORD")):
        installer = record.with_name("INSTALLER")
        if installer.is_file() and installer.read_text(encoding="utf-8").strip() == "uv":
            yield record


def _rewritten(script: Path, python: Path) -> bytes:
    content = script.read_bytes()
    own = _SHEBANG.sub(f"#!{python}\n".encode(), content, count=1) if _SHEBANG.match(content) else content
    if own != content:
        mode = script.stat().st_mode
        script.unlink()  # it may be a hard link into uv's cache
        script.write_bytes(own)
        script.chmod(mode)
    return own


def _record_digest(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
    return f"sha256={digest}"
