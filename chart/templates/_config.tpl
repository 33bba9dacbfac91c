{{/* The configuration file, and what the chart has to know of it. */}}

{{/* Its text: as given, or the YAML of the mapping. */}}
{{- define "worker-sync.config" -}}
{{- if kindIs "string" .Values.config -}}
{{- .Values.config -}}
{{- else -}}
{{- toYaml .Values.config -}}
{{- end -}}
{{- end -}}

{{/* Names of what leads somewhere, and of the databases that it reads from: {flows: [...], sources: [...]}. */}}
{{- define "worker-sync.flows" -}}
{{- $config := include "worker-sync.config" . | fromYaml -}}
{{- $flows := list -}}
{{- $sources := list -}}
{{- range $name, $pipeline := $config.pipelines -}}
{{- $flows = append $flows $name -}}
{{- $sources = append $sources $pipeline.source -}}
{{- end -}}
{{- range $source, $audit := $config.audit -}}
{{- $flows = append $flows (printf "audit.%s" $source) -}}
{{- $sources = append $sources $source -}}
{{- end -}}
{{- dict "flows" $flows "sources" ($sources | uniq | sortAlpha) | toYaml -}}
{{- end -}}

{{/*
Ports of the databases and the broker: {ports: [...], unknown: [places of addresses that don't say one]}. An address may
hold placeholders, which no URL parser takes.
*/}}
{{- define "worker-sync.ports" -}}
{{- $known := dict "postgresql" 5432 "postgres" 5432 "mysql" 3306 "mariadb" 3306 "mongodb" 27017 "mongodb+srv" 27017 -}}
{{- $known = merge $known (dict "redis" 6379 "rediss" 6379 "amqp" 5672 "amqps" 5671) -}}
{{- $config := include "worker-sync.config" . | fromYaml -}}
{{- $urls := dict "control" $config.control "broker" $config.broker -}}
{{- range $name, $database := $config.databases -}}
{{- $_ := set $urls (printf "databases.%s.url" $name) $database.url -}}
{{- end -}}
{{- $ports := list -}}
{{- $unknown := list -}}
{{- range $place, $given := $urls -}}
{{- $url := toString $given -}}
{{- $hosts := regexReplaceAll "^[a-z+]+://([^@]*@)?" $url "" -}}
{{- $hosts = regexReplaceAll "[/?].*$" (regexReplaceAll "\\[[^]]*]" $hosts "IPv6") "" -}}
{{- $named := regexFindAll ":[0-9]+" $hosts -1 -}}
{{- range $named -}}
{{- $ports = append $ports (trimPrefix ":" . | int) -}}
{{- end -}}
{{- if and $given (not $named) -}}
{{- $usual := get $known (regexFind "^[a-z+]+:" $url | trimSuffix ":") -}}
{{- if and $usual (not (contains ":$" $hosts)) -}}
{{- $ports = append $ports $usual -}}
{{- else -}}
{{- $unknown = append $unknown $place -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- dict "ports" (concat $ports $.Values.networkPolicy.ports | uniq) "unknown" $unknown | toYaml -}}
{{- end -}}
