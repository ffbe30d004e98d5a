"""The HTTP server, from the bytes of a request to the bytes of its reply.

Rooms in the order of imports; each one may import those before it:

    asgi, config     the ground: requests and replies in ASGI's terms; settings and limits
    hosting          open bundles, jobs, worker threads
    telemetry        metrics, log, traces
    protocols        three ways to ask and answer; OpenAPI
    application      routes, API keys, the ASGI application
    network          sockets, connections, processes; runs the application with uvicorn

`serve/run.py` is the entry point. Only network imports uvicorn: any ASGI server can run the application.
"""
