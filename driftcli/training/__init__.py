"""Training of heads on what their target says: conversations, streams, losses and the loop."""
