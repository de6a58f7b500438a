"""The registries that this control plane can reach, with what it knows of each: logins, authorities, patience."""

import ssl
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from argosy.errors import InvalidOption
from argosy.images.distribution.docker_config import find_login
from argosy.images.distribution.logins import Login, Logins
from argosy.images.distribution.names import ImageName, check_host
from argosy.images.distribution.patience import Patience
from argosy.images.distribution.pull import pull
from argosy.images.distribution.session import Ask, RegistrySession, trusted
from argosy.images.oci.blobs import OciBlobs
from argosy.records import RegistryLogin


class Registries:
    """`ca_file` is trusted beside the system's authorities; empty for none."""

    def __init__(self, logins: Logins, ca_file: str = "", patience: Patience | None = None) -> None:
        self.logins = logins
        self._ca_file = ca_file
        self._patience = patience or Patience()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return trusted(self._ca_file)

    def session(self, host: str) -> RegistrySession:
        """With the login that is stored for the host, else with Docker's, else with none. Close it."""
        host = check_host(host)
        stored = self.logins.find(host)
        login, plain_http = stored or (None, False)
        if login is None or not login.known:
            login = find_login(host) or Login()
        return RegistrySession(host, login, plain_http, self._tls, self._patience)

    def pull(self, reference: str, platforms: Sequence[str], blobs: OciBlobs, limit_bytes: int) -> str:
        """Bring an image into `blobs`, an index for these platforms alone; the digest that `reference` names now.
        TooLarge for one of more than `limit_bytes`."""
        name = ImageName.parse(reference)
        with self.session(name.host) as session:
            return pull(session, name, blobs, platforms=platforms, limit_bytes=limit_bytes).digest

    def log_in(self, host: str, login: Login, plain_http: bool = False) -> RegistryLogin:
        """Try the login, and keep it when the registry accepts it. Raises RegistryRefused, RegistryFailed.

        Without a user it only says how to speak with the registry, whose login may stand in the Docker config.
        """
        host = check_host(host)
        if bool(login.username) != bool(login.password):
            raise InvalidOption("the login", login.username, "give a user and a password, or neither")
        if ":" in login.username:
            raise InvalidOption("the user", login.username, "a colon cannot stand in it")
        tried = login if login.known else find_login(host) or login
        # Somebody waits for the answer, and can repeat the command.
        with RegistrySession(host, tried, plain_http, self._tls, replace(self._patience, attempts=1)) as session:
            session.send(Ask("GET", "v2/", "log in"), (200,))
        return self.logins.add(host, login, plain_http)

    def log_out(self, host: str) -> None:
        """Forget what `log_in` stored; NotFound when that is nothing."""
        self.logins.remove(check_host(host))
