"""What runs inside the sandbox: scripts that import nothing of ours but each other."""
