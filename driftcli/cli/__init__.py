"""One module a command, which is light: it is loaded whatever the command. What a command needs stands beside it, imported when it runs.

Annotations of commands are written without `from __future__ import annotations`: typer would evaluate each option four times to start.
"""
