"""The methods inside the trainers people already run: one host = one module, named after it.

Importing this package imports no host. Importing a host's module imports the host, and refuses a version whose private names
it does not know.
"""
