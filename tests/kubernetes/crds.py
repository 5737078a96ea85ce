"""Schemas of the custom resources that the manifests use, with the fields that these use.

KEDA: keda.sh/docs, ScaledObject and TriggerAuthentication, the metrics-api scaler. Prometheus' operator: its API
reference. A field that is not here is refused, as a cluster would prune it in silence.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
DURATION: Schema = {"type": "string", "pattern": r"^\d+(ms|s|m|h)$"}


def fields(required: Schema, **optional: Schema) -> Schema:
    """An object of these fields and no others."""
    return {
        "type": "object",
        "required": list(required),
        "properties": {**required, **optional},
        "additionalProperties": False,
    }


def a_list(of: Schema) -> Schema:
    """One or more."""
    return {"type": "array", "items": of, "minItems": 1}


def resource(spec: Schema) -> Schema:
    """With the fields that every resource has."""
    labels = {"type": "object", "additionalProperties": TEXT}
    metadata = fields({"name": TEXT}, namespace=TEXT, labels=labels, annotations=labels)
    return fields({"apiVersion": TEXT, "kind": TEXT, "metadata": metadata, "spec": spec})


_scaling = fields(
    {
        "policies": a_list(
            fields(
                {
                    "type": {"enum": ["Pods", "Percent"]},
                    "value": {"type": "integer", "minimum": 1},
                    "periodSeconds": {"type": "integer", "minimum": 1, "maximum": 1800},
                }
            )
        )
    },
    stabilizationWindowSeconds={"type": "integer", "minimum": 0, "maximum": 3600},
    selectPolicy={"enum": ["Max", "Min", "Disabled"]},
)
_metrics_api = fields(
    {
        "url": {"type": "string", "pattern": "^https?://"},
        "valueLocation": TEXT,
        "targetValue": {"type": "string", "pattern": r"^\d+(\.\d+)?$"},  # KEDA takes strings alone
    },
    activationTargetValue={"type": "string", "pattern": r"^\d+(\.\d+)?$"},
    format={"enum": ["json", "xml", "yaml", "prometheus"]},
    unsafeSsl={"enum": ["true", "false"]},
    authMode={"enum": ["apiKey", "basic", "tls", "bearer"]},
)
_selector = {
    **fields(
        {},
        matchLabels={"type": "object", "additionalProperties": TEXT},
        matchExpressions=a_list(
            fields({"key": TEXT, "operator": {"enum": ["In", "NotIn", "Exists"]}}, values=a_list(TEXT))
        ),
    ),
    "minProperties": 1,
}
_endpoint = fields(
    {"port": TEXT, "path": TEXT},
    interval=DURATION,
    scrapeTimeout=DURATION,
    authorization=fields({"credentials": fields({"name": TEXT, "key": TEXT})}, type=TEXT),
    relabelings=a_list(
        fields({"targetLabel": TEXT, "replacement": TEXT}, action={"enum": ["replace"]}, sourceLabels=a_list(TEXT))
    ),
)
_texts = {"type": "object", "additionalProperties": {"type": "string"}}
_rule = {
    **fields({"expr": TEXT}, record=TEXT, alert=TEXT, labels=_texts, annotations=_texts, keep_firing_for=DURATION),
}
_rule["properties"]["for"] = DURATION
_rule["oneOf"] = [{"required": ["record"]}, {"required": ["alert"]}]

SCHEMAS: dict[tuple[str, str], Schema] = {
    ("keda.sh/v1alpha1", "ScaledObject"): resource(
        fields(
            {
                "scaleTargetRef": fields({"name": TEXT}, apiVersion=TEXT, kind=TEXT, envSourceContainerName=TEXT),
                "triggers": a_list(
                    fields(
                        {"type": {"const": "metrics-api"}, "metadata": _metrics_api},
                        metricType={"enum": ["AverageValue", "Value"]},
                        authenticationRef=fields({"name": TEXT}, kind=TEXT),
                        name=TEXT,
                    )
                ),
            },
            pollingInterval=COUNT,
            cooldownPeriod=COUNT,
            initialCooldownPeriod=COUNT,
            idleReplicaCount=COUNT,
            minReplicaCount=COUNT,
            maxReplicaCount=COUNT,
            fallback=fields({"failureThreshold": COUNT, "replicas": COUNT}),
            advanced=fields(
                {},
                restoreToOriginalReplicaCount={"type": "boolean"},
                horizontalPodAutoscalerConfig=fields(
                    {}, name=TEXT, behavior=fields({}, scaleUp=_scaling, scaleDown=_scaling)
                ),
            ),
        )
    ),
    ("keda.sh/v1alpha1", "TriggerAuthentication"): resource(
        fields({"secretTargetRef": a_list(fields({"parameter": TEXT, "name": TEXT, "key": TEXT}))})
    ),
    ("monitoring.coreos.com/v1", "PodMonitor"): resource(
        fields({"selector": _selector, "podMetricsEndpoints": a_list(_endpoint)}, jobLabel=TEXT)
    ),
    ("monitoring.coreos.com/v1", "ServiceMonitor"): resource(
        fields({"selector": _selector, "endpoints": a_list(_endpoint)}, jobLabel=TEXT)
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): resource(
        fields({"groups": a_list(fields({"name": TEXT, "rules": a_list(_rule)}, interval=DURATION, limit=COUNT))})
    ),
}
