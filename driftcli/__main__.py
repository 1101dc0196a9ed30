"""`python -m driftcli`, which `accelerate launch -m driftcli` and `torchrun -m driftcli` run."""

from driftcli.cli.main import main

if __name__ == "__main__":
    main()
