{{- define "secateur.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "secateur.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "secateur.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "secateur.selectorLabels" -}}
app.kubernetes.io/name: {{ include "secateur.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "secateur.labels" -}}
{{ include "secateur.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "secateur.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "secateur.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "secateur.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- define "secateur.claimName" -}}
{{- default (printf "%s-store" (include "secateur.fullname" .)) .Values.store.claim.existing }}
{{- end }}

{{- /* "yes" where only one pod at a time can have the store. */}}
{{- define "secateur.oneAtATime" -}}
{{- if and (not .Values.store.uri) (ne .Values.store.claim.accessMode "ReadWriteMany") }}yes{{ end }}
{{- end }}

{{- define "secateur.strategy" -}}
{{- default (ternary "Recreate" "RollingUpdate" (eq (include "secateur.oneAtATime" .) "yes")) .Values.strategy }}
{{- end }}

{{- /* A container sees all processors of its node, whatever it may use: the server is told how many are its own. */}}
{{- define "secateur.threads" -}}
{{- $cpu := dig "limits" "cpu" (dig "requests" "cpu" "" .Values.resources) .Values.resources | toString }}
{{- if .Values.threads }}
{{- .Values.threads }}
{{- else if hasSuffix "m" $cpu }}
{{- max 1 (div (add (trimSuffix "m" $cpu | int) 999) 1000) }}
{{- else if $cpu }}
{{- max 1 (ceil $cpu | int) }}
{{- else -}}
0
{{- end }}
{{- end }}

{{- /* What values.schema.json cannot say, since it takes several values together. */}}
{{- define "secateur.check" -}}
{{- if not (or .Values.tls.secret .Values.insecure) }}
{{- fail "choose how clients come: tls.secret (a Secret with tls.crt and tls.key), or insecure=true for plain text" }}
{{- end }}
{{- if and .Values.tls.secret .Values.insecure }}
{{- fail "tls.secret and insecure exclude each other: give one" }}
{{- end }}
{{- if and .Values.tls.clientCa .Values.insecure }}
{{- fail "tls.clientCa needs tls.secret" }}
{{- end }}
{{- if not .Values.models.serve }}
{{- fail "models.serve is empty: give at least one base model, as name: folder" }}
{{- end }}
{{- if not .Values.models.volume }}
{{- fail "models.volume is empty: give the volume that holds the base models" }}
{{- end }}
{{- if eq (include "secateur.oneAtATime" .) "yes" }}
{{- if gt (int .Values.replicas) 1 }}
{{- fail "replicas > 1 need a store that all pods reach: store.uri, or store.claim.accessMode=ReadWriteMany" }}
{{- end }}
{{- if eq (include "secateur.strategy" .) "RollingUpdate" }}
{{- fail "strategy=RollingUpdate needs a store that two pods reach: store.uri, or store.claim.accessMode=ReadWriteMany" }}
{{- end }}
{{- end }}
{{- end }}
