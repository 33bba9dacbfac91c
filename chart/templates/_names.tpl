{{/* Names and labels. */}}

{{- define "worker-sync.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 36 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough that a role's name behind it makes a name that Kubernetes takes everywhere (63 characters). */}}
{{- define "worker-sync.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 36 | trimSuffix "-" -}}
{{- end -}}

{{/* A role's name in the names of objects: at most 26 characters, and no two names become the same. */}}
{{- define "worker-sync.short" -}}
{{- if or (gt (len .) 26) (contains "_" .) -}}
{{- printf "%s-%s" (. | replace "_" "-" | trunc 17 | trimSuffix "-") (sha256sum . | trunc 8) -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{- define "worker-sync.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "worker-sync.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* Whether there is a Secret of ours, under the release's name. */}}
{{- define "worker-sync.ownSecret" -}}
{{- if or .Values.secret.values .Values.secret.external.enabled -}}yes{{- end -}}
{{- end -}}

{{/* The name of the Secret, empty if there is none. */}}
{{- define "worker-sync.secret" -}}
{{- ternary (include "worker-sync.fullname" .) .Values.secret.existing (include "worker-sync.ownSecret" . | not | not) -}}
{{- end -}}

{{/* The PriorityClass that the chart makes. Kubernetes changes none, so that another value is another class. */}}
{{- define "worker-sync.priorityClass" -}}
{{- if .Values.priorityClass.create -}}
{{- printf "%s-%s-%d" .Release.Namespace (include "worker-sync.fullname" .) (int .Values.priorityClass.value) -}}
{{- end -}}
{{- end -}}

{{- define "worker-sync.image" -}}
{{- with .Values.image -}}
{{- .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ with .digest }}@{{ . }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "worker-sync.releaseLabels" -}}
app.kubernetes.io/name: {{ include "worker-sync.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "worker-sync.labels" -}}
{{ include "worker-sync.releaseLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: worker-sync
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* What the selectors of a role's objects ask for; takes {root, role}. */}}
{{- define "worker-sync.selector" -}}
{{ include "worker-sync.releaseLabels" .root }}
app.kubernetes.io/component: {{ .role.component }}
worker-sync/role: {{ .role.short }}
{{- end -}}

{{/* Labels of a role's objects; takes {root, role}. */}}
{{- define "worker-sync.roleLabels" -}}
{{ include "worker-sync.labels" .root }}
app.kubernetes.io/component: {{ .role.component }}
worker-sync/role: {{ .role.short }}
{{- end -}}

{{/*
What `worker-sync init` needs has to be there before the release's own objects are: each of them has a copy that is a
hook, made before the Job and removed after it. One entry per copy: what its name ends in, and its annotations. In a trial
the Job is no hook, because its databases are objects of the release.
*/}}
{{- define "worker-sync.copies" -}}
copies:
  - {suffix: "", annotations: {}}
  {{- if and .Values.init.enabled (not .Values.trial.enabled) }}
  - suffix: -init
    annotations:
      helm.sh/hook: pre-install,pre-upgrade
      helm.sh/hook-weight: "-10"
      helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
  {{- end }}
{{- end -}}
