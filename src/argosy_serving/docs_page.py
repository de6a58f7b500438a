"""The page at `/docs`: Swagger UI from the package's own files, no other host, no inline script.

All addresses are relative, so the page works with and without the service's prefix. When keys are on and the documents
are not public, a browser asks for a user and a password: any user, and the key as the password.
"""

from pathlib import Path

from argosy_serving.messages import Answer, header_lines

_STATIC = Path(__file__).with_name("static")
_TYPES = {".js": b"text/javascript; charset=utf-8", ".css": b"text/css; charset=utf-8"}
ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "start.js")

# Swagger UI sets style attributes and uses data: images; everything else must come from here.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SAFE = header_lines(
    [
        (b"content-security-policy", _POLICY),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{service}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = b"""window.addEventListener("load", function () {
  window.ui = SwaggerUIBundle({url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null});
});
"""


def page(service: str) -> Answer:
    """`service` is a checked name, so it needs no escaping."""
    body = _PAGE.format(service=service).encode()
    return Answer(200, b"content-type: text/html; charset=utf-8\r\n" + _SAFE, body)


def asset(name: str) -> Answer:
    """One of ASSETS."""
    body = _START if name == "start.js" else (_STATIC / name).read_bytes()
    kind = [(b"content-type", _TYPES[Path(name).suffix]), (b"cache-control", b"private, max-age=3600")]
    return Answer(200, header_lines(kind) + _SAFE, body)
