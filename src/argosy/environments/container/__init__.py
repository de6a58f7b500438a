"""The kind `container`: replicas as containers of Docker or Podman on this machine."""
