{{/*
The servers of a trial, as {servers: [...]}: PostgreSQL and Redis of the official images, whose users have both the number 999.
Each has

  name, object        as it is called, and the same in the names of objects
  settings            its section of the values
  port                of the server and of its Service
  args, env           of the image; the key TRIAL_PASSWORD of the Secret is the password
  ready               its probe
  writable            what has to be writable beside the disk, which is at /data
*/}}
{{- define "worker-sync.trial" -}}
{{- $servers := list -}}
{{- if .Values.trial.enabled -}}
{{- $password := dict "secretKeyRef" (dict "name" (include "worker-sync.secret" .) "key" "TRIAL_PASSWORD") -}}
{{- $servers = append $servers (dict "name" "postgres" "port" 5432
      "args" (list "postgres" "-c" "wal_level=logical" "-c" "max_connections=200")
      "env" (list
        (dict "name" "PGDATA" "value" "/data/pgdata")
        (dict "name" "POSTGRES_USER" "value" "worker_sync")
        (dict "name" "POSTGRES_DB" "value" "worker_sync")
        (dict "name" "POSTGRES_PASSWORD" "valueFrom" $password))
      "ready" (dict "exec" (dict "command" (list "pg_isready" "-h" "127.0.0.1" "-U" "worker_sync" "-d" "worker_sync")))
      "writable" (list "/var/run/postgresql" "/tmp")) -}}
{{- $servers = append $servers (dict "name" "redis" "port" 6379
      "args" (list "redis-server" "--dir" "/data" "--appendonly" "yes" "--maxmemory-policy" "noeviction" "--requirepass" "$(TRIAL_PASSWORD)")
      "env" (list (dict "name" "TRIAL_PASSWORD" "valueFrom" $password))
      "ready" (dict "tcpSocket" (dict "port" 6379))
      "writable" (list "/tmp")) -}}
{{- range $server := $servers -}}
{{- $_ := set $server "object" (printf "%s-trial-%s" (include "worker-sync.fullname" $) $server.name) -}}
{{- $_ := set $server "settings" (get $.Values.trial $server.name) -}}
{{- end -}}
{{- end -}}
{{- dict "servers" $servers | toYaml -}}
{{- end -}}

{{/* What a pod of a server or of the seed may do; takes the root. */}}
{{- define "worker-sync.trialPod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 999
  runAsGroup: 999
  fsGroup: 999
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "worker-sync.trialContainer" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* Labels of a server's or the seed's objects, and their selector; each takes {root, name}. */}}
{{- define "worker-sync.trialSelector" -}}
{{ include "worker-sync.releaseLabels" .root }}
app.kubernetes.io/component: trial
worker-sync/role: trial-{{ .name }}
{{- end -}}

{{- define "worker-sync.trialLabels" -}}
{{ include "worker-sync.labels" .root }}
app.kubernetes.io/component: trial
worker-sync/role: trial-{{ .name }}
{{- end -}}

{{/* Where the servers are, for the addresses in `config`. */}}
{{- define "worker-sync.trialEnv" -}}
{{- range $number, $server := (include "worker-sync.trial" . | fromYaml).servers }}
{{- if $number }}{{ "\n" }}{{ end -}}
- {name: TRIAL_{{ upper $server.name }}, value: {{ $server.object }}}
{{- end -}}
{{- end -}}
