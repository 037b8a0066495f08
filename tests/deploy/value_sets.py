"""Values with which operators install the chart, and those that it refuses."""

from typing import Any

DATABASE = {"database": {"existingSecret": "herald-database"}}
TLS = {"tls": {"existingSecret": "herald-tls", "serverName": "herald.internal"}}
AUTH = {"auth": {"existingSecret": "herald-token"}}
PROTECTED: dict[str, Any] = DATABASE | TLS | AUTH
PLAIN: dict[str, Any] = DATABASE | {"insecure": True}

RENDERED: dict[str, dict[str, Any]] = {
    "protected": PROTECTED,
    "plain": PLAIN,
    "tokens-without-tls": PLAIN | AUTH,
    "tls-without-tokens": PLAIN | TLS,
    "server-certificates-only": PROTECTED | {"tls": TLS["tls"] | {"clientCertificates": False}},
    "other-keys": PROTECTED
    | {
        "database": {"existingSecret": "pg-app", "key": "uri"},
        "auth": {"existingSecret": "tokens", "key": "servers"},
    },
    "one-of-each": PROTECTED
    | {"segment": {"replicas": 1}, "campaign": {"replicas": 1}, "sender": {"replicas": 1}},
    "without-metrics": PROTECTED | {"metrics": {"enabled": False}},
    "many-senders": PROTECTED | {"sender": {"replicas": 20}},
    "no-senders-alone": PROTECTED
    | {"sender": {"replicas": 0}, "campaign": {"replicas": 3, "senderProcesses": 2}},
    "dispatchers-alone": PROTECTED
    | {"dispatcher": {"replicas": 2}, "campaign": {"dispatcherProcesses": 0}},
    "paused": PROTECTED
    | {"segment": {"replicas": 0}, "campaign": {"replicas": 0}, "sender": {"replicas": 0}},
    "image-of-a-registry": PROTECTED
    | {
        "image": {"repository": "registry.internal:5000/herald", "tag": "0.2.0"},
        "imagePullSecrets": [{"name": "registry"}],
    },
    "settings": PROTECTED
    | {"settings": {"HERALD_PAGE_SIZE": "500", "HERALD_MULTI_TENANCY": "true"}},
    "secret-settings": PROTECTED
    | {
        "secretSettings": {
            "HERALD_NATS_URL": {"name": "nats", "key": "url"},
            "HERALD_PUSH_URL": {"name": "gorush", "key": "url"},
        }
    },
    "load-balancer": PROTECTED
    | {
        "campaign": {
            "service": {
                "type": "LoadBalancer",
                "annotations": {"example.com/internal": "true"},
            }
        }
    },
    "placed": PROTECTED
    | {
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "messaging", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "topology.kubernetes.io/zone"}
                ]
            }
        },
        "podAnnotations": {"example.com/owner": "messaging"},
    },
    "long-grace": PROTECTED | {"graceSeconds": 120},
    "small": PROTECTED
    | {
        "sender": {"resources": {"requests": {"cpu": "100m"}}},
        "migration": {"timeoutSeconds": 60},
    },
}

REFUSED: dict[str, dict[str, Any]] = {
    "no database": TLS | AUTH,
    "nothing protects it": DATABASE,
    "tokens alone": DATABASE | AUTH,
    "tls alone": DATABASE | TLS,
    "no name in the certificate": PROTECTED | {"tls": {"existingSecret": "herald-tls"}},
    "a secret as a setting": PROTECTED | {"settings": {"HERALD_DATABASE_URL": "postgresql://"}},
    "a token as a setting": PROTECTED | {"settings": {"HERALD_TOKEN": "herald_1_2"}},
    "a misspelt value": PROTECTED | {"sennder": {"replicas": 3}},
    "a number as text": PROTECTED | {"sender": {"replicas": "3"}},
    "a setting of somebody else": PROTECTED | {"settings": {"DEBUG": "1"}},
}
