#!/bin/sh
# Prints the Secret that the manifests ask for, with new random values. Once, for a new installation:
#
#   sh deploy/kubernetes/make-secret.sh | kubectl apply -f -
#
# Values of your own come by the environment, for a Redis that has a password already:
#
#   REDIS_PASSWORD=... sh deploy/kubernetes/make-secret.sh | kubectl apply -f -
#
# Read one again:  kubectl -n warmline get secret warmline -o jsonpath='{.data.api-keys}' | base64 -d
set -eu

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
entry() { printf '  %s: %s\n' "$1" "$(printf %s "$2" | base64 | tr -d '\n')"; }

scaler_key=${SCALER_KEY:-$(random)}
cat <<'END'
apiVersion: v1
kind: Namespace
metadata:
  name: warmline
---
apiVersion: v1
kind: Secret
metadata:
  name: warmline
  namespace: warmline
type: Opaque
data:
END
entry redis-password "${REDIS_PASSWORD:-$(random)}"
# Clients' keys, comma-separated, and the one that KEDA asks for the backlog with.
entry api-keys "${API_KEYS:-$(random)},$scaler_key"
entry scaler-key "$scaler_key"
entry triggers-tokens "${TRIGGERS_TOKENS:-$(random)}"
entry metrics-token "${METRICS_TOKEN:-$(random)}"
entry flower-password "${FLOWER_PASSWORD:-$(random)}"
# Of the SeaweedFS in the cluster, or of an S3 user; with a cloud's role neither is used.
entry s3-access-key "${S3_ACCESS_KEY:-$(random)}"
entry s3-secret-key "${S3_SECRET_KEY:-$(random)}"
if [ -n "${WEBHOOKS_SECRETS:-}" ]; then entry webhooks-secrets "$WEBHOOKS_SECRETS"; fi
if [ -n "${SQS_ACCESS_KEY:-}" ]; then
  entry sqs-access-key "$SQS_ACCESS_KEY"
  entry sqs-secret-key "${SQS_SECRET_KEY:?}"
fi
