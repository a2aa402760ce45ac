{{- define "callbridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "callbridge.fullname" -}}
{{- $name := include "callbridge.name" . -}}
{{- $both := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $both .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "callbridge.selector" -}}
app.kubernetes.io/name: {{ include "callbridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "callbridge.labels" -}}
{{ include "callbridge.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "callbridge.serviceAccount" -}}
{{- ternary (include "callbridge.fullname" .) "default" .Values.serviceAccount.create -}}
{{- end -}}

{{- /* process.shutdown_seconds as the configuration has it; 25 is the daemon's own default. */ -}}
{{- define "callbridge.shutdownSeconds" -}}
{{- $line := regexFind "(?m)^\\s*shutdown_seconds\\s*=\\s*[0-9.]+" .Values.config -}}
{{- regexFind "[0-9]+(\\.[0-9]+)?$" $line | default "25" | float64 | ceil | int -}}
{{- end -}}

{{- /* What no schema can see: the configuration must fit to the values. */ -}}
{{- define "callbridge.check" -}}
{{- if and .Values.staticMembership (not (regexMatch "(?m)^\\s*group_instance_id\\s*=" .Values.config)) -}}
{{- fail "staticMembership: config needs group_instance_id = { env = \"HOSTNAME\" } in [kafka]" -}}
{{- end -}}
{{- if and (not .Values.staticMembership) (regexMatch "(?m)^\\s*group_instance_id\\s*=" .Values.config) -}}
{{- fail "config has a group_instance_id: pods of a Deployment have no lasting names; set staticMembership, or leave it out" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (regexMatch "(?m)^\\s*tls_certificate_file\\s*=" .Values.config) -}}
{{- fail "ingress: the daemon has a certificate of its own (tls_certificate_file), and the Ingress would speak plain HTTP to it" -}}
{{- end -}}
{{- end -}}
