"""`/v1/environments`."""

from fastapi import APIRouter

from argosy.records import Environment, Page
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
        return environments.create(body.name, body.kind)

    @routes.get("/{name}")
    def show(name: str) -> Environment:
        return environments.get(name)

    @routes.delete("/{name}", status_code=204)
    def delete(name: str) -> None:
        """409 while services run in it."""
        environments.delete(name)

    return routes
