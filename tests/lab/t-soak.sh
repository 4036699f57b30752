#!/usr/bin/env bash
# The soak in short: the cheapest faults, a few rounds each. ROUNDS=N, FAULTS="...": more of it (see its head).
# timeout: 120
exec "$(dirname "$0")/soak" --rounds "${ROUNDS:-2}" ${FAULTS:-kill target move split-minor}
