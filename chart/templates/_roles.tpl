{{/*
The processes of the release, as {roles: [...]}: whoever adds one adds it here. Each has

  name                as it is called
  short, object       the same in the names of objects; the name of its objects
  component           its label
  args                of the image's entry point, worker-sync
  probe               arguments of `worker-sync probe`, or
  http                path of a page that answers while it is alive
  port                {name, number}, if it listens
  grace               seconds from SIGTERM to SIGKILL
  settings            its section of the values over `pod`
  replicas            pods; absent while it is scaled by itself
  scaled              {autoscaling} or {keda}, if it is
  disk                {claim, ours, shared, mountPath}, if it has one: whether we make the claim, whether several pods may
                      have it; without a mountPath it is the folder of the configuration
*/}}
{{- define "worker-sync.roles" -}}
{{- $values := .Values -}}
{{- $roles := list -}}
{{- if $values.capture.enabled -}}
{{- range $source := (include "worker-sync.flows" . | fromYaml).sources -}}
{{- $settings := mergeOverwrite (deepCopy $values.pod) (deepCopy $values.capture) (get $values.captures $source | default dict) -}}
{{- $roles = append $roles (dict "name" (printf "capture-%s" $source) "component" "capture" "settings" $settings
      "args" (list "capture" $source "--stay") "probe" (list "capture" "--name" $source)) -}}
{{- end -}}
{{- end -}}
{{- range $name, $pool := $values.workerPools -}}
{{- if $pool -}}
{{- $settings := mergeOverwrite (deepCopy $values.pod) (deepCopy $values.worker) $pool -}}
{{- $args := list "worker" "--queues" (join "," $settings.queues) "--name" $name "--grace" (toString $settings.grace) -}}
{{- with $settings.pool -}}
{{- $args = concat $args (list "--pool" .) -}}
{{- end -}}
{{- with $settings.concurrency -}}
{{- $args = concat $args (list "--concurrency" (toString .)) -}}
{{- end -}}
{{- $roles = append $roles (dict "name" (printf "worker-%s" $name) "component" "worker" "settings" $settings
      "args" $args "probe" (list "worker" "--name" $name) "grace" (add $settings.grace 15)) -}}
{{- end -}}
{{- end -}}
{{- if $values.beat.enabled -}}
{{- $settings := mergeOverwrite (deepCopy $values.pod) $values.beat -}}
{{- $roles = append $roles (dict "name" "beat" "component" "beat" "settings" $settings
      "args" (list "beat") "probe" (list "beat")) -}}
{{- end -}}
{{- if $values.exporter.enabled -}}
{{- $settings := mergeOverwrite (deepCopy $values.pod) $values.exporter -}}
{{- $port := dict "name" "metrics" "number" $settings.port -}}
{{- $roles = append $roles (dict "name" "exporter" "component" "exporter" "settings" $settings "port" $port
      "args" (list "exporter" "--host" "0.0.0.0" "--port" (toString $settings.port)) "probe" (list "exporter")) -}}
{{- end -}}
{{- if $values.flower.enabled -}}
{{- $settings := mergeOverwrite (deepCopy $values.pod) $values.flower -}}
{{- $prefix := dig "flower" "url_prefix" "" (include "worker-sync.config" . | fromYaml) | default "" | trimAll "/" -}}
{{- $port := dict "name" "http" "number" $settings.port -}}
{{- $roles = append $roles (dict "name" "flower" "component" "flower" "settings" $settings "port" $port
      "args" (list "flower" "--host" "0.0.0.0" "--port" (toString $settings.port)) "http" (printf "%s/healthcheck" (ternary "" (printf "/%s" $prefix) (empty $prefix)))) -}}
{{- end -}}
{{- range $role := $roles -}}
{{- include "worker-sync.completeRole" (dict "root" $ "role" $role) -}}
{{- end -}}
{{- dict "roles" $roles | toYaml -}}
{{- end -}}

{{/* Sets what follows from a role's settings; takes {root, role}. */}}
{{- define "worker-sync.completeRole" -}}
{{- $role := .role -}}
{{- $settings := $role.settings -}}
{{- $_ := set $role "short" (include "worker-sync.short" $role.name) -}}
{{- $_ := set $role "object" (printf "%s-%s" (include "worker-sync.fullname" .root) $role.short) -}}
{{- if not $role.grace -}}
{{- $_ := set $role "grace" $settings.terminationGracePeriodSeconds -}}
{{- end -}}
{{- range $kind := list "autoscaling" "keda" -}}
{{- with get $settings $kind -}}
{{- if .enabled -}}
{{- $_ := set $role "scaled" (dict $kind .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if not $role.scaled -}}
{{- $_ := set $role "replicas" $settings.replicas -}}
{{- end -}}
{{- with $settings.persistence -}}
{{- if .enabled -}}
{{- $_ := set $role "disk" (dict "claim" (.existingClaim | default $role.object) "ours" (not .existingClaim)
      "shared" (has "ReadWriteMany" .accessModes) "mountPath" .mountPath) -}}
{{- end -}}
{{- end -}}
{{- end -}}
