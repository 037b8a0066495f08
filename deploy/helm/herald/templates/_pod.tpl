{{- define "herald.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "herald.labels" -}}
app.kubernetes.io/name: herald
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- /* Fails, with the reason, what would not start. */ -}}
{{- define "herald.check" -}}
{{- if not .Values.database.existingSecret -}}
{{- fail "database.existingSecret: name the secret that holds the URL of the database" -}}
{{- end -}}
{{- if and (not .Values.insecure) (or (not .Values.tls.existingSecret) (not .Values.auth.existingSecret)) -}}
{{- fail "pods are reached by others: give tls.existingSecret and auth.existingSecret, or insecure: true" -}}
{{- end -}}
{{- if and .Values.tls.existingSecret (not .Values.tls.serverName) -}}
{{- fail "tls.serverName: give the name in the certificate, because pods are called by their addresses" -}}
{{- end -}}
{{- range list "HERALD_DATABASE_URL" "HERALD_TOKEN" -}}
{{- if or (hasKey $.Values.settings .) (hasKey $.Values.secretSettings .) -}}
{{- fail (printf "%s: has a value of its own, database or auth" .) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{- /* What a pod needs: a server certificate if it listens, a token if it calls segment servers. */ -}}
{{- define "herald.environment" -}}
{{- $values := .root.Values }}
{{- $listens := has .component (list "segment" "campaign") }}
{{- $calls := has .component (list "campaign" "send") }}
- name: HERALD_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ $values.database.existingSecret }}
      key: {{ $values.database.key }}
- name: HERALD_LOG_FORMAT
  value: json
{{- if ne .component "migrate" }}
- name: HERALD_GRACE_SECONDS
  value: {{ $values.graceSeconds | quote }}
{{- if $values.insecure }}
- name: HERALD_INSECURE
  value: "true"
{{- end }}
{{- if and $values.tls.existingSecret (or $listens $calls) }}
- name: HERALD_TLS_CA
  value: /etc/herald/tls/ca.crt
- name: HERALD_TLS_SERVER_NAME
  value: {{ $values.tls.serverName | quote }}
{{- if $listens }}
- name: HERALD_TLS_CERT
  value: /etc/herald/tls/tls.crt
- name: HERALD_TLS_KEY
  value: /etc/herald/tls/tls.key
{{- end }}
{{- if $values.tls.clientCertificates }}
{{- if $listens }}
- name: HERALD_TLS_CLIENT_CA
  value: /etc/herald/tls/ca.crt
{{- end }}
- name: HERALD_TLS_CLIENT_CERT
  value: /etc/herald/tls/tls.crt
- name: HERALD_TLS_CLIENT_KEY
  value: /etc/herald/tls/tls.key
{{- end }}
{{- end }}
{{- if $values.auth.existingSecret }}
{{- if $listens }}
- name: HERALD_AUTH
  value: tokens
{{- end }}
{{- if $calls }}
- name: HERALD_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ $values.auth.existingSecret }}
      key: {{ $values.auth.key }}
{{- end }}
{{- end }}
{{- if eq .component "segment" }}
- name: HERALD_SEGMENT_LISTEN
  value: 0.0.0.0:50051
{{- end }}
{{- if $calls }}
- name: HERALD_SEGMENT_TARGET
  value: {{ include "herald.name" .root }}-segment:50051
{{- end }}
{{- if eq .component "campaign" }}
- name: HERALD_CAMPAIGN_LISTEN
  value: 0.0.0.0:50052
- name: HERALD_SENDER_PROCESSES
  value: {{ $values.campaign.senderProcesses | quote }}
- name: HERALD_DISPATCHER_PROCESSES
  value: {{ $values.campaign.dispatcherProcesses | quote }}
{{- end }}
{{- range $name, $port := include "herald.metricsPorts" . | fromYaml }}
- name: HERALD_{{ $name | upper }}_METRICS_LISTEN
  value: 0.0.0.0:{{ $port }}
{{- end }}
{{- range $name, $value := $values.settings }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- range $name, $secret := $values.secretSettings }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      name: {{ $secret.name }}
      key: {{ $secret.key }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The port of the metrics of each kind of process in the pod; process N of a kind has port + N. */ -}}
{{- define "herald.metricsPorts" -}}
{{- if .root.Values.metrics.enabled }}
{{- if eq .component "segment" }}
segment: 9101
{{- else if eq .component "campaign" }}
campaign: 9102
dispatcher: 9103
sender: 9104
{{- else if eq .component "send" }}
sender: 9104
{{- else if eq .component "dispatch" }}
dispatcher: 9103
{{- end }}
{{- end }}
{{- end }}

{{- /* The health of a service: by gRPC, or with TLS by the command, which has a certificate. */ -}}
{{- define "herald.readiness" -}}
{{- if .root.Values.tls.existingSecret }}
exec:
  command: [herald, health, "127.0.0.1:{{ .port }}", --service, {{ .service }}]
{{- else }}
grpc:
  port: {{ .port }}
  service: {{ .service }}
{{- end }}
periodSeconds: 10
timeoutSeconds: 10
{{- end }}

{{- define "herald.pod" -}}
{{- $values := .root.Values }}
{{- $hasTls := and $values.tls.existingSecret (has .component (list "segment" "campaign" "send")) }}
metadata:
  labels:
    {{- include "herald.labels" . | nindent 4 }}
  {{- with $values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile:
      type: RuntimeDefault
  {{- if eq .component "migrate" }}
  restartPolicy: Never
  {{- else }}
  # the sleep, the grace, and 10 s for what hangs
  terminationGracePeriodSeconds: {{ add 5 $values.graceSeconds 15 }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "herald.labels" . | nindent 10 }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: "{{ $values.image.repository }}:{{ $values.image.tag | default .root.Chart.AppVersion }}"
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: [{{ .component }}]
      env:
        {{- include "herald.environment" . | trim | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        privileged: false
        capabilities:
          drop: [ALL]
      resources:
        {{- toYaml .resources | nindent 8 }}
      {{- $metrics := include "herald.metricsPorts" . | fromYaml }}
      {{- if or .port $metrics }}
      ports:
        {{- if .port }}
        - name: grpc
          containerPort: {{ .port }}
        {{- end }}
        {{- range $name, $port := $metrics }}
        - name: {{ $name }}-http
          containerPort: {{ $port }}
        {{- end }}
      {{- end }}
      {{- if .port }}
      # it listens also while the database is down, which no restart would mend
      livenessProbe:
        tcpSocket:
          port: grpc
        periodSeconds: 10
      readinessProbe:
        {{- include "herald.readiness" . | trim | nindent 8 }}
      lifecycle:
        preStop:
          # until no client is sent here any more
          sleep:
            seconds: 5
      {{- end }}
      {{- if $hasTls }}
      volumeMounts:
        - name: tls
          mountPath: /etc/herald/tls
          readOnly: true
      {{- end }}
  {{- if $hasTls }}
  volumes:
    - name: tls
      secret:
        secretName: {{ $values.tls.existingSecret }}
        defaultMode: 0440
  {{- end }}
{{- end }}

{{- define "herald.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "herald.name" .root }}-{{ .component }}
  labels:
    {{- include "herald.labels" . | nindent 4 }}
spec:
  replicas: {{ .replicas }}
  selector:
    matchLabels:
      {{- include "herald.labels" . | nindent 6 }}
  strategy:
    rollingUpdate:
      maxSurge: 1
      maxUnavailable: 0
  template:
    {{- include "herald.pod" . | trim | nindent 4 }}
{{- if gt (int .replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "herald.name" .root }}-{{ .component }}
  labels:
    {{- include "herald.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "herald.labels" . | nindent 6 }}
{{- end }}
{{- end }}
