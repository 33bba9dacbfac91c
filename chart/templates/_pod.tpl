{{/*
The pod of a role, of the Job and of a test; takes {root, role} and `copy`, what the names of the objects end in that it
needs ("-init" for those that are there before the release's).

Everything is in /var/lib/worker-sync, so that each relative path of a configuration works that works on a laptop: the file
itself, the Secret's keys as files in secrets/, and the disk around them, which is the only one that can be written.
*/}}
{{- define "worker-sync.podSpec" -}}
{{- $root := .root -}}
{{- $role := .role -}}
{{- $settings := $role.settings -}}
{{- $disk := $role.disk | default dict -}}
{{- $copy := .copy | default "" -}}
{{- $secret := include "worker-sync.secret" $root -}}
{{- if include "worker-sync.ownSecret" $root -}}
{{- $secret = printf "%s%s" $secret $copy -}}
{{- end -}}
{{- $account := include "worker-sync.serviceAccount" $root -}}
{{- if $root.Values.serviceAccount.create -}}
{{- $account = printf "%s%s" $account $copy -}}
{{- end -}}
serviceAccountName: {{ $account }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- /* Before the release there is no class of ours. */}}
{{- with $settings.priorityClassName | default (ternary "" (include "worker-sync.priorityClass" $root) (ne $copy "")) }}
priorityClassName: {{ . }}
{{- end }}
terminationGracePeriodSeconds: {{ $role.grace }}
{{- with $role.restartPolicy }}
restartPolicy: {{ . }}
{{- end }}
securityContext:
  {{- toYaml $settings.securityContext | nindent 2 }}
{{- with $settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $settings.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if and $settings.topologySpreadConstraints (not $role.restartPolicy) }}
topologySpreadConstraints:
  {{- range $settings.topologySpreadConstraints }}
  - {{ toYaml . | nindent 4 | trim }}
    labelSelector:
      matchLabels:
        {{- include "worker-sync.selector" (dict "root" $root "role" $role) | nindent 8 }}
  {{- end }}
{{- end }}
containers:
  {{- range $container := $role.containers | default (list (dict "name" $role.component "args" $role.args)) }}
  - name: {{ $container.name }}
    image: {{ include "worker-sync.image" $root | quote }}
    imagePullPolicy: {{ $root.Values.image.pullPolicy }}
    args: {{ toJson $container.args }}
    env:
      - {name: WORKER_SYNC_CONFIG, value: /var/lib/worker-sync/worker-sync.yaml}
      - {name: WORKER_SYNC_RUN_DIR, value: /run/worker-sync}
      {{- with include "worker-sync.trialEnv" $root }}
      {{- . | nindent 6 }}
      {{- end }}
      {{- with concat $root.Values.env ($settings.env | default list) }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- with $secret }}
    envFrom:
      - secretRef: {name: {{ . }}}
    {{- end }}
    {{- with $role.port }}
    ports:
      - {name: {{ .name }}, containerPort: {{ .number }}}
    {{- end }}
    {{- include "worker-sync.probes" $role | nindent 4 }}
    resources:
      {{- toYaml $settings.resources | nindent 6 }}
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    volumeMounts:
      - {name: state, mountPath: /var/lib/worker-sync}
      - {name: config, mountPath: /var/lib/worker-sync/worker-sync.yaml, subPath: worker-sync.yaml, readOnly: true}
      {{- if $secret }}
      - {name: secrets, mountPath: /var/lib/worker-sync/secrets, readOnly: true}
      {{- end }}
      - {name: signs, mountPath: /run/worker-sync}
      - {name: tmp, mountPath: /tmp}
      {{- with $disk.mountPath }}
      - {name: disk, mountPath: {{ . }}}
      {{- end }}
      {{- with $settings.volumeMounts }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
  {{- end }}
volumes:
  {{- if and $disk.claim (not $disk.mountPath) }}
  - {name: state, persistentVolumeClaim: {claimName: {{ $disk.claim }}}}
  {{- else }}
  - {name: state, emptyDir: {}}
  {{- end }}
  - {name: config, configMap: {name: {{ include "worker-sync.fullname" $root }}{{ $copy }}}}
  {{- with $secret }}
  - {name: secrets, secret: {secretName: {{ . }}, defaultMode: 0440}}
  {{- end }}
  - {name: signs, emptyDir: {medium: Memory, sizeLimit: 1Mi}}
  - {name: tmp, emptyDir: {}}
  {{- if $disk.mountPath }}
  - {name: disk, persistentVolumeClaim: {claimName: {{ $disk.claim }}}}
  {{- end }}
  {{- with $settings.volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/*
A role's probes. Only its own process is asked: while the broker or a database is away, a restart mends nothing, and a pod that
is not ready holds up a rollout, which is what readiness is for here.
*/}}
{{- define "worker-sync.probes" -}}
{{- if .probe -}}
{{- $probe := concat (list "worker-sync" "probe") .probe -}}
startupProbe:
  exec: {command: {{ toJson $probe }}}
  periodSeconds: 2
  timeoutSeconds: 10
  failureThreshold: 60
livenessProbe:
  exec: {command: {{ toJson $probe }}}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 3
readinessProbe:
  exec: {command: {{ toJson (append $probe "--ready") }}}
  periodSeconds: 5
  timeoutSeconds: 10
{{- else if .http -}}
startupProbe:
  httpGet: {path: {{ .http }}, port: {{ .port.name }}}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: {{ .http }}, port: {{ .port.name }}}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: 3
readinessProbe:
  httpGet: {path: {{ .http }}, port: {{ .port.name }}}
  periodSeconds: 5
  timeoutSeconds: 10
{{- end -}}
{{- end -}}

{{/* Annotations of a pod: with another configuration or Secret of ours it is another pod; takes {root, role}. */}}
{{- define "worker-sync.podAnnotations" -}}
checksum/config: {{ include "worker-sync.config" .root | sha256sum }}
checksum/secret: {{ toYaml .root.Values.secret | sha256sum }}
{{- with .role.settings.annotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}
