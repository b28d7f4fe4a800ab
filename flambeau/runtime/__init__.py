"""What runs a plan: memory, machine code, the caches of both, and the reference interpreter."""
