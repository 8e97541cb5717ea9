"""Have the image a kernel needs: pulled, completed with ipykernel, or built where no registry is in reach."""
