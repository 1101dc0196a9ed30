"""What can be done about lost tokens: each way measured on the pair at hand, and what it is called elsewhere."""
