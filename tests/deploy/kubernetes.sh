# The chart and the manifests in deploy/kubernetes; sourced by tests/deploy/run.

chart=deploy/helm/token-broker

update() {
  helm_program || fail "needs helm"
  if [[ -e deploy/prometheus/alerts.yaml ]]; then cp deploy/prometheus/alerts.yaml "$chart/files/alerts.yaml"; fi
  local values
  for values in deploy/kubernetes/values/*.yaml; do
    render "$values" >"deploy/kubernetes/$(basename "$values")"
  done
}

helm_program() {
  go_program helm helm.sh/helm/v3/cmd/helm "$HELM" || return
  helm=$tools/helm-$HELM/helm
}

# What somebody without Helm applies.
render() {
  local values=$1
  shift
  echo "# Made by: helm template token-broker deploy/helm/token-broker --namespace token-broker --values $values"
  "$helm" template token-broker "$chart" --namespace token-broker --values "$values" \
    --kube-version "${KUBERNETES[0]}" "$@"
}

check_kubernetes() {
  helm_program || return 0
  python_packages "kubernetes-validate-$KUBERNETES_VALIDATE" "kubernetes-validate==$KUBERNETES_VALIDATE" || return 0
  broker
  rules_are_the_same
  "$helm" lint --strict --kube-version "${KUBERNETES[1]}" "$chart"
  local values
  for values in deploy/kubernetes/values/*.yaml; do
    variant "$values"
  done
  # Every switch at once, which no committed variant has.
  values=tests/deploy/values.yaml
  "$helm" lint --strict --kube-version "${KUBERNETES[1]}" --values "$values" "$chart" >/dev/null
  render "$values" >"$scratch/everything.yaml"
  manifests_are_valid "$scratch/everything.yaml"
  a_wrong_manifest_is_noticed
  mistakes_are_refused
  the_page_is_right
}

rules_are_the_same() {
  [[ -e deploy/prometheus/alerts.yaml ]] || return 0
  cmp deploy/prometheus/alerts.yaml "$chart/files/alerts.yaml" ||
    fail "the chart has other alert rules than deploy/prometheus: run tests/deploy/run --update"
}

# A committed variant is what the chart renders, is valid, and its broker would start.
variant() {
  local values=$1 name
  name=$(basename "$1" .yaml)
  render "$values" >"$scratch/$name.yaml"
  cmp "$scratch/$name.yaml" "deploy/kubernetes/$name.yaml" ||
    fail "deploy/kubernetes/$name.yaml is not what the chart renders: run tests/deploy/run --update"
  manifests_are_valid "$scratch/$name.yaml"
  configuration_is_right "$scratch/$name.yaml" "$scratch/$name"
}

# The definitions of the custom resources that the chart may make, from the modules of those who wrote them.
definitions() {
  ls "$(go_source github.com/cert-manager/cert-manager "$CERT_MANAGER")"/deploy/crds/*_certificates.yaml \
    "$(go_source github.com/prometheus-operator/prometheus-operator "$PROMETHEUS_OPERATOR")"/example/prometheus-operator-crd/*_{servicemonitors,prometheusrules}.yaml
}

# Kubernetes' own kinds by its schemas, the others by those of their custom resource definitions.
manifests_are_valid() {
  local version packages=$tools/kubernetes-validate-$KUBERNETES_VALIDATE
  # shellcheck disable=SC2046 # the list is one of words
  PYTHONPATH=$packages python3 tests/deploy/custom_resources.py \
    --builtin "$scratch/builtin.yaml" "$1" \
    $(definitions) ||
    fail "$1 has custom resources that are not valid"
  for version in "${KUBERNETES[@]}"; do
    PYTHONPATH=$packages python3 -m kubernetes_validate --strict --quiet --kubernetes-version "$version" "$scratch/builtin.yaml" ||
      fail "$1 is not valid in Kubernetes $version"
  done
  PYTHONPATH=$packages python3 tests/deploy/restricted.py "$1" || fail "$1 has Pods that may too much"
}

# The checks are worth something only if they fail.
a_wrong_manifest_is_noticed() {
  local wrong
  for wrong in s/automountServiceAccountToken:/automountToken:/ s/rotationPolicy:/rotate:/ s/interval:/every:/ \
    s/readOnlyRootFilesystem:\ true/readOnlyRootFilesystem:\ false/; do
    sed "$wrong" "$scratch/complete.yaml" >"$scratch/wrong.yaml"
    if (manifests_are_valid "$scratch/wrong.yaml") >/dev/null 2>&1; then fail "$wrong went unnoticed"; fi
  done
}

# Lays out the files of the Pod as its volumes say, with certificates and secrets to throw away, and has the broker
# check the configuration that is mounted there.
configuration_is_right() {
  local root=$2/root
  throw_away_files "$2/given"
  PYTHONPATH=$tools/kubernetes-validate-$KUBERNETES_VALIDATE \
    python3 tests/deploy/pod.py "$1" "$2/given" "$root"
  "$TOKEN_BROKER" config check "$root/etc/token-broker/config/token-broker.toml"
}

# What Secrets hold, by the names of their keys.
throw_away_files() {
  [[ -d $scratch/trial ]] || trial
  mkdir -p "$1"
  cp "$scratch/trial/server.pem" "$1/tls.crt"
  cp "$scratch/trial/server.key" "$1/tls.key"
  cp "$scratch/trial/ca.pem" "$1/ca.crt"
  cp "$scratch/trial/ca.pem" "$1/bundle.pem"
  cp "$scratch/trial/server.pem" "$1/svid.pem"
  cp "$scratch/trial/server.key" "$1/svid-key.pem"
  head -c 32 /dev/urandom | base64 >"$1/sealing.key"
  echo one-password >"$1/password"
  echo one-id >"$1/client_id"
  echo one-secret >"$1/client_secret"
  cat >"$1/seal.toml" <<-'TOML'
	[credentials]
	sealed = "credentials.age"
	identity = "broker.key"
	TOML
  "$TOKEN_BROKER" credential init --config "$1/seal.toml" >/dev/null
  echo one-secret | "$TOKEN_BROKER" credential set shop --client-id one-id --no-verify --config "$1/seal.toml" >/dev/null
}

# Certificates that `dev` makes.
trial() {
  "$TOKEN_BROKER" dev --dir "$scratch/trial" >"$scratch/trial.log" 2>&1 &
  started+=($!)
  until_it grep -q 'Type next' "$scratch/trial.log"
  kill "${started[-1]}"
}

# What somebody may well get wrong in the values, and the words that tell them.
mistakes_are_refused() {
  mistake "additional properties 'replicas' not allowed" --set replicas=3
  mistake "additional properties 'secret' not allowed" --set tls.secret=mine
  mistake "at '/replicaCount': got string, want integer" --set-string replicaCount=3
  mistake "at '/replicaCount': minimum: got 0, want 1" --set replicaCount=0
  mistake "at '/tls/source': value must be one of 'secret', 'cert-manager', 'spiffe'" --set tls.source=vault
  mistake "at '/tls/certManager/duration': '90d' does not match pattern" --set tls.certManager.duration=90d
  mistake "at '/image/repository'" --set image.repository=registry.example/token-broker@sha256
  mistake "at '/image/digest'" --set image.digest=latest
  mistake "at '/configuration': got object, want string" --set configuration.cache.runway_warning=5m
  mistake "configuration has a section [server], which the chart writes: set server.*" \
    --set-string $'configuration=[server]\nlisten = "0.0.0.0:1"'
  mistake "configuration has a section [shared_cache], which the chart writes: set sharedCache.*" \
    --set-string $'configuration=[cache]\n[shared_cache]'
  mistake "configuration must begin with a section" --set-string 'configuration=runway_warning = "5m"'
  mistake "at '/admin/allow/0'" --set 'admin.allow={spiffe://corp.example/ns/*/sa/x}'
  mistake "at '/server/trustDomains/0'" --set 'server.trustDomains={spiffe://corp.example}'
  mistake "at '/server/settings'" --set-string $'server.settings=[admin]\nallow = []'
  mistake "missing property 'secretName'" --set 'credentials.secrets[0].name=shop'
  mistake "sharedCache must say where Redis is by exactly one of" --set sharedCache.enabled=true
  mistake "sharedCache must say where Redis is by exactly one of" \
    --set sharedCache.enabled=true,sharedCache.server=a:1 --set 'sharedCache.cluster={b:1}'
  mistake "sharedCache.master must say" --set sharedCache.enabled=true --set 'sharedCache.sentinels={a:1}'
  mistake "at '/sharedCache/server'" --set sharedCache.server=redis://redis:6379
  mistake "at '/networkPolicy/callers': minItems: got 0, want 1" --set-json 'networkPolicy.callers=[]'
  mistake "serviceAccount.name must name the account" --set serviceAccount.create=false
  echo "mistakes in values: refused, each with its name"
}

mistake() {
  refuses "$1" "$helm" template token-broker "$chart" --kube-version "${KUBERNETES[0]}" "${@:2}"
}

# The commands of docs/kubernetes.md, with a stand-in for the cluster.
the_page_is_right() {
  local folder=$scratch/page file
  mkdir -p "$folder"
  cp -r deploy "$folder/deploy"
  for file in tls.crt tls.key ca.crt client_id client_secret password; do echo "$file" >"$folder/$file"; done
  python3 tests/deploy/blocks.py yaml docs/kubernetes.md >"$folder/values.yaml"
  {
    echo set -euo pipefail
    cat tests/deploy/stubs.sh
    python3 tests/deploy/blocks.py sh docs/kubernetes.md
  } >"$folder/commands"
  (cd "$folder" && STUBS=$folder HELM_PROGRAM=$helm KUBE_VERSION=${KUBERNETES[0]} bash commands) ||
    fail "the commands of docs/kubernetes.md do not work"
  manifests_are_valid "$folder/manifest.yaml"
  configuration_is_right "$folder/manifest.yaml" "$folder"
}
