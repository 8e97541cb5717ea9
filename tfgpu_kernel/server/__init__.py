"""The jupyter_server extension: shows kernels' launches to browsers, and lets them cancel."""
