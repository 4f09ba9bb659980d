{{- define "sluicegate.pod" -}}
metadata:
  labels:
    {{- include "sluicegate.labels" . | nindent 4 }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "sluicegate.name" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # Calls in flight get 30 s to end.
  terminationGracePeriodSeconds: 60
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- if gt (int .Values.replicas) 1 }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "sluicegate.selector" . | nindent 10 }}
  {{- end }}
  {{- if .Values.authority.existingSecret }}
  initContainers:
    # Clients of the proxy trust one authority, whichever gateway they reach. What a volume has already stays.
    - name: authority
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      command:
        - python
        - -c
        - |
          import os, pathlib
          os.umask(0o077)
          kept = pathlib.Path("@STATE@/state/ca")
          kept.mkdir(parents=True, exist_ok=True)
          for file in pathlib.Path("/run/authority").iterdir():
              if file.is_file() and not (kept / file.name).exists():
                  (kept / file.name).write_bytes(file.read_bytes())
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - {name: authority, mountPath: /run/authority, readOnly: true}
        - {name: state, mountPath: @STATE@}
  {{- end }}
  containers:
    - name: gateway
      image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: ["serve", "--listen-host", "0.0.0.0", "--listen-port", "{{ .Values.service.port }}"]
      env:
        - name: SLUICEGATE_ADMIN_TOKEN_FILE
          value: @SECRETS@/admin-token
        - name: SLUICEGATE_POLICY
          value: /etc/sluicegate/policy.yaml
        - name: SLUICEGATE_STATE
          # A folder of its own in the volume, for its owner sets its mode.
          value: @STATE@/state
        {{- if .Values.store.secretKey }}
        - name: SLUICEGATE_STORE
          value: file:@SECRETS@/{{ .Values.store.secretKey }}
        - name: SLUICEGATE_NODE
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        {{- end }}
        {{- with .Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: {{ .Values.service.port }}
      startupProbe:
        httpGet: {path: /health, port: http}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /health, port: http}
        periodSeconds: 15
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {path: /ready, port: http}
        periodSeconds: 5
        timeoutSeconds: 5
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - {name: policy, mountPath: /etc/sluicegate, readOnly: true}
        - {name: secrets, mountPath: @SECRETS@, readOnly: true}
        - {name: state, mountPath: @STATE@}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: policy
      configMap:
        name: {{ include "sluicegate.name" . }}
    - name: secrets
      secret:
        secretName: {{ include "sluicegate.secret" . }}
        defaultMode: 0440
    {{- if .Values.authority.existingSecret }}
    - name: authority
      secret:
        secretName: {{ .Values.authority.existingSecret }}
        defaultMode: 0440
    {{- end }}
    {{- if le (int .Values.replicas) 1 }}
    - name: state
      {{- if .Values.persistence.enabled }}
      persistentVolumeClaim:
        claimName: {{ .Values.persistence.existingClaim | default (include "sluicegate.name" .) }}
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- end }}
    - name: tmp
      emptyDir: {}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
