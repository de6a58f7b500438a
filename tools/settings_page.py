"""Writes docs/settings.md from the table in `argosy.settings`. Run by `make docs`; a test compares the two."""

from dataclasses import fields
from pathlib import Path

from argosy.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
HEAD = """\
# Settings

Each setting is a key of `$ARGOSY_HOME/config.toml` (`port = 7701`), and an environment variable that wins over it
(`ARGOSY_PORT=7701`). `argosy up` reads them when it starts. A key that is not in this table is refused with its name.

| key | type | default | what it sets |
|---|---|---|---|
"""
TAIL = """
Further environment variables are no settings, since they must be known before the file is found or must not stand
in one:

| variable | what it is |
|---|---|
| `ARGOSY_HOME` | the folder that holds everything; default `~/.argosy` |
| `ARGOSY_TOKEN` | the control plane's token; default: the file `token` in the home, which only its owner can read |
| `ARGOSY_MASTER_KEY` | seals service keys and registry logins at rest; default: the file `master.key` in the home |
| `DOCKER_CONFIG` | folder of the Docker config, which registries without a login are used with; default `~/.docker` |
| `SSL_CERT_FILE` | certificate authorities to trust instead of the system's |
| `ARGOSY_URL`, `ARGOSY_CA_FILE` | a control plane elsewhere, and the certificate authority to trust for it |
"""


def render() -> str:
    """The whole page. An empty string is shown as "not set"."""
    rows = []
    for setting in fields(Settings):
        default = setting.default
        shown = str(default).lower() if isinstance(default, bool) else f"{default}"
        help_text = setting.metadata["help"].replace("|", "\\|")
        rows.append(
            f"| `{setting.name}` | {type(default).__name__} | {f'`{shown}`' if shown else 'not set'} | {help_text} |"
        )
    return HEAD + "\n".join(rows) + "\n" + TAIL


if __name__ == "__main__":
    PAGE.write_text(render())
