"""The control plane's REST API for programs.

`address` finds the control plane; `wire` says what a request and a flow are; one file a noun holds the flows (pure:
they yield requests and read answers); `client` and `aio` run the same flows over `http.client` and over httpx.
"""
