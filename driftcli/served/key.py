"""Where a server's key comes from: the environment alone, so that it stands in no command line, no file and no output."""

KEY = "DRIFTCLI_SERVER_KEY"  # OPENAI_API_KEY is not read, so that one meant for another service never leaves
