"""`driftcli probes`: what the battery asks, and what other packages add."""


def probes() -> None:
    """List the battery: each probe's question, the axes that it judges, and whether --quick runs it; then what the mitigations are.

    Probes and report formats of installed packages follow, with their package, and those that cannot be used, with the reason.
    """
    from driftcli.cli.listing import list_battery

    list_battery()
