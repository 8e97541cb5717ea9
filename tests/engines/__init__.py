"""Other versions of Docker, from other releases of Debian, run beside the machine's own and touching nothing of it."""
