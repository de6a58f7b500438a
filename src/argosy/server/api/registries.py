"""`/v1/registries`: who we are at container registries."""

from fastapi import APIRouter

from argosy.images.distribution.logins import Login
from argosy.records import Page, RegistryLogin
from argosy.server.control import Control
from argosy.server.requests import RegistryBody


def router(control: Control) -> APIRouter:
    routes = APIRouter(prefix="/v1/registries", tags=["registries"])
    registries = control.registries

    @routes.get("")
    def page() -> Page[RegistryLogin]:
        """Logins without their passwords, which are never answered."""
        return Page(registries.logins.all())

    @routes.post("/{host}")
    def log_in(host: str, body: RegistryBody) -> RegistryLogin:
        """Try the login at `host[:port]` and keep it, in place of an older one, when the registry accepts it."""
        return registries.log_in(host, Login(body.username, body.password.get_secret_value()), body.plain_http)

    @routes.delete("/{host}", status_code=204)
    def log_out(host: str) -> None:
        registries.log_out(host)

    return routes
