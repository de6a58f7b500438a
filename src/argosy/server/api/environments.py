"""`/v1/environments`."""

from fastapi import APIRouter

from argosy.environments.checks import check as check_environment
from argosy.records import Check, Environment, Page
from argosy.server.control import Control
from argosy.server.requests import EnvironmentBody


def router(control: Control) -> APIRouter:
    routes = APIRouter(prefix="/v1/environments", tags=["environments"])
    environments = control.environments

    @routes.get("")
    def page() -> Page[Environment]:
        return Page(environments.all())

    @routes.post("", status_code=201)
    def create(body: EnvironmentBody) -> Environment:
        """Without `engine` a container environment gets the first engine of this machine that answers."""
        return environments.create(body.name, body.kind, body.engine)

    @routes.get("/{name}")
    def show(name: str) -> Environment:
        return environments.get(name)

    @routes.post("/{name}/use")
    def use(name: str) -> Environment:
        """Let services that name no environment go there."""
        return environments.use(name)

    @routes.get("/{name}/check")
    def check(name: str) -> Page[Check]:
        """Whether everything that replicas need there is at hand, looked at now."""
        return Page(check_environment(environments.get(name)))

    @routes.delete("/{name}", status_code=204)
    def delete(name: str) -> None:
        """409 while services run in it."""
        environments.delete(name)

    return routes
