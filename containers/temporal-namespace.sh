#!/bin/sh
# The namespace and the search attributes of our workflows. Safe to repeat.
# The CLI takes TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE from the environment.
set -eu

temporal operator cluster health
temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 ||
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention 30d

# The server learns of a new namespace when it next refreshes its list, every few seconds.
attempt=0
until known=$(temporal operator search-attribute list); do
    attempt=$((attempt + 1))
    [ "$attempt" -lt 30 ] || exit 1
    sleep 1
done
for name in ReqNumber Priority DeliveryStatus WaitingFor; do
    if ! echo "$known" | grep -qw "$name"; then
        temporal operator search-attribute create --name "$name" --type Keyword
    fi
done
