"""The HTTP API and the panel: faces that read the store and act on users only by sending events.

Nothing here is imported by a worker: FastAPI costs half a second and 64 MB, so `badges admin` alone loads it.
"""
