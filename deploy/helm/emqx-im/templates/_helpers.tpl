{{- define "emqx-im.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "emqx-im.selector" -}}
app.kubernetes.io/name: emqx-im
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "emqx-im.labels" -}}
{{ include "emqx-im.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "emqx-im.secret" -}}
{{- .Values.secrets.existing | default (include "emqx-im.fullname" .) -}}
{{- end -}}

{{- define "emqx-im.hookUrl" -}}
{{- .Values.broker.hookUrl | default (printf "http://%s.%s.svc:%v" (include "emqx-im.fullname" .) .Release.Namespace .Values.service.port) | trimSuffix "/" -}}
{{- end -}}

{{- define "emqx-im.apiUrl" -}}
{{- if .Values.emqx.enabled -}}
http://{{ .Values.emqx.fullnameOverride }}:18083
{{- else -}}
{{- .Values.broker.apiUrl -}}
{{- end -}}
{{- end -}}

{{- /* Whether a job brings the rules into EMQX: "true" or nothing. */ -}}
{{- define "emqx-im.applyRules" -}}
{{- if kindIs "bool" .Values.broker.applyRules | ternary .Values.broker.applyRules .Values.emqx.enabled -}}
true
{{- end -}}
{{- end -}}

{{- /* The value that was given, else the one in the cluster, else a new one. Takes root, secret, key, given, and new. */ -}}
{{- define "emqx-im.kept" -}}
{{- $there := dig "data" .key "" (lookup "v1" "Secret" .root.Release.Namespace .secret | default dict) -}}
{{- .given | default ($there | b64dec) | default .new | default (randAlphaNum 40) -}}
{{- end -}}

{{- define "emqx-im.environment" -}}
env:
  - {name: IM_HTTP_PORT, value: "8080"}
  {{- if .Values.public.enabled }}
  {{- /* IM_PUBLIC_PORT: on, as an ingress must not lead to /admin. */}}
  - {name: IM_PUBLIC_PORT, value: "8081"}
  {{- end }}
  - {name: IM_HOOK_URL, value: {{ include "emqx-im.hookUrl" . | quote }}}
  {{- with include "emqx-im.apiUrl" . }}
  - {name: IM_EMQX_API_URL, value: {{ . | quote }}}
  {{- end }}
  {{- with .Values.jwt.jwksUrl }}
  - {name: IM_JWT_JWKS_URL, value: {{ . | quote }}}
  {{- end }}
  {{- range $name, $value := .Values.settings }}
  - {name: {{ $name }}, value: {{ $value | toString | quote }}}
  {{- end }}
envFrom:
  - secretRef: {name: {{ include "emqx-im.secret" . }}}
{{- end -}}

{{- /* What every container of the image has. */ -}}
{{- define "emqx-im.container" -}}
image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{ include "emqx-im.environment" . }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- end -}}

{{- /* What every pod has. Service links would be variables that look like settings. */ -}}
{{- define "emqx-im.pod" -}}
serviceAccountName: {{ include "emqx-im.fullname" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
volumes:
  - name: tmp
    emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* A pod that runs one command to its end. Takes root, command, component. */ -}}
{{- define "emqx-im.once" -}}
metadata:
  labels:
    {{- include "emqx-im.selector" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
spec:
  restartPolicy: OnFailure
  {{- include "emqx-im.pod" .root | nindent 2 }}
  containers:
    - name: {{ .component }}
      args: {{ toJson .command }}
      {{- include "emqx-im.container" .root | nindent 6 }}
      resources: {{- toYaml .root.Values.resources | nindent 8 }}
{{- end -}}
