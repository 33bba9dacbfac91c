{{/* What is wrong with the values beyond what their schema can say: all of it, each with what to do. */}}

{{- define "worker-sync.check" -}}
{{- $problems := (include "worker-sync.problems" . | fromYaml).problems -}}
{{- if $problems -}}
{{- fail (printf "\n\n%s\n" (join "\n" $problems)) -}}
{{- end -}}
{{- end -}}

{{- define "worker-sync.problems" -}}
{{- $config := include "worker-sync.config" . | fromYaml -}}
{{- $found := list -}}
{{- if not .Values.config -}}
{{- $found = list "config is missing; give your configuration file: --set-file config=worker-sync.yaml" -}}
{{- else if $config.Error -}}
{{- $found = list (printf "config is no YAML mapping: %s" $config.Error) -}}
{{- else -}}
{{- range tuple "worker-sync.problemsOfConfig" "worker-sync.problemsOfPools" "worker-sync.problemsOfRoles" -}}
{{- $found = concat $found ((include . $ | fromYaml).problems | default list) -}}
{{- end -}}
{{- end -}}
{{- dict "problems" $found | toYaml -}}
{{- end -}}

{{/* The configuration has to name what a laptop may leave out. */}}
{{- define "worker-sync.problemsOfConfig" -}}
{{- $config := include "worker-sync.config" . | fromYaml -}}
{{- $found := list -}}
{{- range $key := list "control" "broker" -}}
{{- if not (get $config $key) -}}
{{- $found = append $found (printf "config.%s is missing; give its URL: nothing is embedded here" $key) -}}
{{- end -}}
{{- end -}}
{{- if not (include "worker-sync.flows" . | fromYaml).flows -}}
{{- $found = append $found "config has no pipelines and no audit; add one" -}}
{{- end -}}
{{- $ledger := $config.ledger | default dict -}}
{{- if and $config.audit (not (or $ledger.key $ledger.key_command)) -}}
{{- $found = append $found "config.audit needs config.ledger.key, from a Secret: one made on a pod's own disk would be lost with the pod" -}}
{{- end -}}
{{- if .Values.networkPolicy.enabled -}}
{{- $ports := include "worker-sync.ports" . | fromYaml -}}
{{- if and $ports.unknown (not .Values.networkPolicy.ports) -}}
{{- $found = append $found (printf "networkPolicy.ports is missing: config does not show the ports of %s; list them, or set networkPolicy.enabled=false" (join ", " $ports.unknown)) -}}
{{- end -}}
{{- end -}}
{{- $secrets := list (not .Values.secret.values | not) (not .Values.secret.existing | not) .Values.secret.external.enabled -}}
{{- if gt (len (without $secrets false)) 1 -}}
{{- $found = append $found "secret has more than one of values, existing and external.enabled; leave one" -}}
{{- end -}}
{{- if and .Values.trial.enabled .Values.secret.values (not .Values.secret.values.TRIAL_PASSWORD) -}}
{{- $found = append $found "trial needs a password; give one: --set secret.values.TRIAL_PASSWORD=..." -}}
{{- else if and .Values.trial.enabled (not (include "worker-sync.secret" .)) -}}
{{- $found = append $found "trial needs a Secret with the key TRIAL_PASSWORD; give one: --set secret.values.TRIAL_PASSWORD=..." -}}
{{- end -}}
{{- dict "problems" $found | toYaml -}}
{{- end -}}

{{/* Every queue that has tasks has a pool. */}}
{{- define "worker-sync.problemsOfPools" -}}
{{- $config := include "worker-sync.config" . | fromYaml -}}
{{- $needed := list "sync" "default" "cleanup" "dead_letter" -}}
{{- if $config.audit -}}
{{- $needed = append $needed "audit" -}}
{{- end -}}
{{- $found := list -}}
{{- range $name, $pool := .Values.workerPools -}}
{{- if $pool -}}
{{- range $queue := $pool.queues -}}
{{- $needed = without $needed $queue -}}
{{- end -}}
{{- $settings := mergeOverwrite (deepCopy $.Values.worker) $pool -}}
{{- if and $settings.autoscaling.enabled $settings.keda.enabled -}}
{{- $found = append $found (printf "workerPools.%s is scaled by both autoscaling and keda; disable one" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $queue := $needed -}}
{{- $found = append $found (printf "no pool of workerPools has the queue %s; add it to one" $queue) -}}
{{- end -}}
{{- dict "problems" $found | toYaml -}}
{{- end -}}

{{- define "worker-sync.problemsOfRoles" -}}
{{- $config := include "worker-sync.config" . | fromYaml -}}
{{- $found := list -}}
{{- $sources := (include "worker-sync.flows" . | fromYaml).sources -}}
{{- range $name := keys .Values.captures | sortAlpha -}}
{{- if not (has $name $sources) -}}
{{- $found = append $found (printf "captures.%s is no source of config (sources: %s)" $name (join ", " $sources)) -}}
{{- end -}}
{{- end -}}
{{- range $role := (include "worker-sync.roles" . | fromYaml).roles -}}
{{- $settings := $role.settings -}}
{{- if and (not (dig "disk" "shared" true $role)) (or $role.scaled (gt (int $settings.replicas) 1)) -}}
{{- $found = append $found (printf "%s has several pods for one disk; set its persistence.accessModes to [ReadWriteMany], or its replicas to 1" $role.name) -}}
{{- end -}}
{{- if eq $role.component "capture" -}}
{{- $database := get $config.databases (trimPrefix "capture-" $role.name) | default dict -}}
{{- if and (eq (dig "retained_log" "policy" "hold" $database) "spill") (not $role.disk) -}}
{{- $found = append $found (printf "%s spills, so it needs a disk that outlives its pod; set captures.%s.persistence.enabled" $role.name (trimPrefix "capture-" $role.name)) -}}
{{- end -}}
{{- end -}}
{{- if and (eq $role.name "flower") (not (or (dig "flower" "user" "" $config) (dig "flower" "allow_anonymous" false $config))) -}}
{{- $found = append $found "flower listens for others, which it refuses without a password; set flower.user and flower.password in config" -}}
{{- end -}}
{{- with $settings.ingress -}}
{{- if and .enabled (not .host) -}}
{{- $found = append $found (printf "%s.ingress.host is missing; give one" $role.name) -}}
{{- end -}}
{{- if and .enabled (eq $role.name "flower") (not (and (dig "flower" "user" "" $config) (dig "flower" "password" "" $config))) -}}
{{- $found = append $found "flower.ingress lets everybody in; set flower.user and flower.password in config" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- dict "problems" $found | toYaml -}}
{{- end -}}
