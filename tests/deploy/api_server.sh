# A real Kubernetes API server looks at the manifests; sourced by tests/deploy/run. It is built from Go modules, which
# takes some six minutes of processor time, so this part runs only when it is asked for.

check_api_server() {
  python_packages "kubernetes-validate-$KUBERNETES_VALIDATE" "kubernetes-validate==$KUBERNETES_VALIDATE" || return 0
  have openssl || return 0
  have curl || return 0
  debian etcd etcd-server || return 0
  api_server_program || return 0
  local ports folder=$scratch/api-server
  read -r -a ports < <(free_ports 3)
  mkdir -p "$folder"
  openssl genrsa -out "$folder/key" 2048 2>/dev/null
  local token
  token=$(openssl rand -hex 16)
  echo "$token,admin,admin,system:masters" >"$folder/tokens.csv"
  etcd --data-dir "$folder/etcd" --listen-client-urls "http://127.0.0.1:${ports[0]}" \
    --advertise-client-urls "http://127.0.0.1:${ports[0]}" --listen-peer-urls "http://127.0.0.1:${ports[1]}" \
    >"$folder/etcd.log" 2>&1 &
  started+=($!)
  "$tools/kube-apiserver-$KUBERNETES_SERVER/kube-apiserver" --etcd-servers "http://127.0.0.1:${ports[0]}" \
    --bind-address 127.0.0.1 --secure-port "${ports[2]}" --cert-dir "$folder/certs" \
    --service-account-key-file "$folder/key" --service-account-signing-key-file "$folder/key" \
    --service-account-issuer https://kubernetes.default.svc --service-cluster-ip-range 10.96.0.0/16 \
    --token-auth-file "$folder/tokens.csv" --authorization-mode RBAC --disable-admission-plugins ServiceAccount \
    >"$folder/log" 2>&1 &
  started+=($!)
  until_it curl --silent --fail --insecure --header "Authorization: Bearer $token" "https://127.0.0.1:${ports[2]}/readyz"
  # shellcheck disable=SC2046 # the list is one of words
  PYTHONPATH=$tools/kubernetes-validate-$KUBERNETES_VALIDATE python3 tests/deploy/server_side.py \
    "https://127.0.0.1:${ports[2]}" "$token" --definitions $(definitions) --manifests deploy/kubernetes/*.yaml
}

# Its module replaces others by folders that its archive does not have; they are modules of their own, too.
api_server_program() {
  local folder=$tools/kube-apiserver-$KUBERNETES_SERVER
  [[ ! -d $folder ]] || return 0
  have go || return
  rm -rf "$folder.part"
  mkdir -p "$folder.part"
  (
    cd "$folder.part"
    local source
    source=$(go_source k8s.io/kubernetes "$KUBERNETES_SERVER")
    {
      echo "module apiserver"
      sed -n '/^go /p' "$source/go.mod"
      echo "require k8s.io/kubernetes v$KUBERNETES_SERVER"
      sed -nE "s#^\t(k8s.io/[a-z-]+) => ./staging.*#replace \1 => \1 v0.${KUBERNETES_SERVER#1.}#p" "$source/go.mod"
    } >go.mod
    printf 'package apiserver\n\nimport _ "k8s.io/kubernetes/cmd/kube-apiserver/app"\n' >api_server.go
    go mod tidy 2>/dev/null
    CGO_ENABLED=0 go build -trimpath -o kube-apiserver \
      -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=v$KUBERNETES_SERVER" k8s.io/kubernetes/cmd/kube-apiserver
  )
  mv "$folder.part" "$folder"
}
