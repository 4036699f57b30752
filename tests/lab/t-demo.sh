#!/usr/bin/env bash
# The demo holds its bounds: it is the first thing a newcomer runs.
# timeout: 300
exec "$(dirname "$0")/csvlab" demo
