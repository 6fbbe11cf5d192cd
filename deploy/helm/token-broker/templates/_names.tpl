{{- define "token-broker.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* What everything is called; with room for an ending such as "-headless" in 63 characters. */}}
{{- define "token-broker.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "token-broker.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "token-broker.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "token-broker.selector" -}}
app.kubernetes.io/name: {{ include "token-broker.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Helm adds who manages it; the chart's version would be a change of every object at each upgrade. */}}
{{- define "token-broker.labels" -}}
{{ include "token-broker.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: token-broker
{{- end }}

{{- define "token-broker.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "token-broker.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name must name the account to use, since serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "token-broker.tlsSecret" -}}
{{- default (printf "%s-tls" (include "token-broker.fullname" .)) .Values.tls.secretName }}
{{- end }}

{{/* repository:tag, or repository@digest */}}
{{- define "token-broker.image" -}}
{{- if .image.digest }}
{{- printf "%s@%s" .image.repository .image.digest }}
{{- else }}
{{- printf "%s:%s" .image.repository (default .version .image.tag) }}
{{- end }}
{{- end }}

{{- define "token-broker.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Whether the sections of values.configuration are the user's to write. */}}
{{- define "token-broker.checkConfiguration" -}}
{{- $text := .Values.configuration }}
{{- range $section, $instead := dict
      "server" "server.*, shutdown.* and tls.*"
      "http" "http.*"
      "admin" "admin.*"
      "credentials" "credentials.*"
      "shared_cache" "sharedCache.*" }}
{{- if regexMatch (printf "(?m)^[ \\t]*\\[[ \\t\"']*%s[ \\t\"']*[\\].]" $section) $text }}
{{- fail (printf "\nconfiguration has a section [%s], which the chart writes: set %s in the values instead" $section $instead) }}
{{- end }}
{{- end }}
{{- if not (regexMatch "\\A([ \\t]*(#[^\\n]*)?\\r?\\n)*[ \\t]*(\\[|(#[^\\n]*)?\\z)" $text) }}
{{- fail "\nconfiguration must begin with a section, such as [cache] or [[destination]]: keys outside of all sections mean nothing to the broker" }}
{{- end }}
{{- if .Values.sharedCache.enabled }}
{{- $places := 0 }}
{{- range list .Values.sharedCache.server .Values.sharedCache.cluster .Values.sharedCache.sentinels }}
{{- if . }}{{ $places = add1 $places }}{{ end }}
{{- end }}
{{- if ne (int $places) 1 }}
{{- fail "\nsharedCache must say where Redis is by exactly one of server, cluster and sentinels" }}
{{- end }}
{{- if and .Values.sharedCache.sentinels (not .Values.sharedCache.master) }}
{{- fail "\nsharedCache.master must say what the sentinels call the master" }}
{{- end }}
{{- end }}
{{- end }}
