"""The routes of the API, one file an idea: each reads a request, asks the service, and says it in JSON."""
