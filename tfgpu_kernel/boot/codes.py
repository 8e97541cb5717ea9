"""Exit codes that tell the server what went wrong before there was a kernel (see tfgpu_kernel/deaths.py)."""

NO_RUN_FOLDER = 81  # the connection file is not where the server put it
NO_IPYKERNEL = 82  # this Python has no ipykernel
NO_FOLDER = 83  # the run folder can't be written: no sockets can be made
NOT_HELD = 84  # a kernel that waited to be claimed, and whose server is gone
CLAIM_BROKEN = 85  # whoever claimed a kernel went away in the middle
MOUNT_REPLACED = 86  # something else is mounted than what was judged
NOT_FURNISHED = 87  # the server did not put its files into the container
