"""Answers of a registry that are no success, as errors that say what to do."""

import json

import httpx

from argosy.errors import Error, RegistryFailed, RegistryRefused

_SHOWN_CHARACTERS = 300


def refusal(host: str, user: str, what: str, response: httpx.Response) -> Error:
    """`what` was tried, such as `push to team/iris`; `user` is empty when nobody is logged in. The body must have
    been read."""
    said = _said(response)
    where = f"The registry {host}"
    status = response.status_code
    login = f"`argosy image login {host} -u USER`"
    if status == 401:
        who = f"did not accept the login of {user}" if user else "asks for a login"
        return RegistryRefused(host, f"{where} {who} to {what}{said}. Log in: {login}.")
    if status == 403:
        who = f"does not let {user}" if user else "does not let a client without a login"
        return RegistryRefused(host, f"{where} {who} {what}{said}. Ask its owner for the right, or use {login}.")
    if status == 404:
        return RegistryRefused(
            host, f"{where} has not what it takes to {what}{said}. Check host, path and tag; private ones need {login}."
        )
    if status == 429:
        return RegistryFailed(host, f"{where} limits how often we may {what}{said}. Wait, or log in: {login}.")
    if status >= 500:
        return RegistryFailed(host, f"{where} failed to {what}: HTTP {status}{said}. Look at its log, then try again.")
    return RegistryRefused(host, f"{where} refused to {what}: HTTP {status}{said}.")


def _said(response: httpx.Response) -> str:
    """` (CODE: message)`, by the specification's error body, else the beginning of a text."""
    try:
        first = json.loads(response.content)["errors"][0]
        text = ": ".join(str(first[key]) for key in ("code", "message") if first.get(key))
    except (ValueError, LookupError, TypeError, AttributeError):
        plain = response.headers.get("content-type", "").startswith("text/plain")
        text = response.content[:_SHOWN_CHARACTERS].decode("utf-8", "replace") if plain else ""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_SHOWN_CHARACTERS]
    return f" ({text.rstrip('.')})" if text else ""
