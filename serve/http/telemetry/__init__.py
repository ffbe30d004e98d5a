"""What the server tells about itself, to those who ask on this machine: metrics, log, traces."""
