"""What a person sees: real Chromium on a real JupyterLab, with real containers behind it."""
