#!/bin/sh
# Docker makes its own bridge the default gateway of a container; in this cloud it is the router.
set -e
ip route replace default via "$ROUTER"
exec "$@"
