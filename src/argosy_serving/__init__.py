"""The scoring server: what runs inside a replica. Python 3.10 or later, and nothing of `argosy`."""

from argosy_serving.answers import Response

__version__ = "0.1.0"

# What a replica's environment needs beside the model's own packages; lower bounds have wheels for Python 3.10 to 3.13,
# and leave room for old pins: Flask 1.1 is happy with click 7 only.
REQUIREMENTS = (
    "uvicorn>=0.34",
    "h11>=0.9",
    "click>=7.1",
    "httptools>=0.6.4",
    "uvloop>=0.21; sys_platform != 'win32'",
    "orjson>=3.10.7",
)

__all__ = ["REQUIREMENTS", "Response", "__version__"]
